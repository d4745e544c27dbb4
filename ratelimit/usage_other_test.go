//go:build !unix

package ratelimit

import (
	"testing"
	"time"
)

func processorTime(testing.TB) time.Duration { return 0 }
