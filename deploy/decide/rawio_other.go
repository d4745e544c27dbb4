//go:build !linux

package decide

import (
	"io"
	"net"
)

// quiet returns c: the short cut is Linux's.
func quiet(c net.Conn) io.ReadWriter { return c }
