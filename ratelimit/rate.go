package ratelimit

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// Rate is a number of requests in a time. The zero Rate is not valid.
type Rate struct {
	Count int           // requests
	Per   time.Duration // in this time
}

const (
	// maxPerSecond is the highest rate. The time for one request is counted in
	// whole nanoseconds, rounded up; up to here that errs by 0.1 % at most.
	maxPerSecond = 1_000_000
	// maxPer is the longest time that a rate may be about.
	maxPer = 366 * 24 * time.Hour
	// maxRefill is the longest time in which a bucket may fill.
	maxRefill = 10 * maxPer
)

// ParseRate reads a rate: a number, a slash, and s, m, h or d, with a number in
// front for a multiple: "20/s", "5/m", "100/30s", "1000/d".
func ParseRate(text string) (Rate, error) {
	count, per, ok := strings.Cut(text, "/")
	if !ok {
		return Rate{}, fmt.Errorf("rate %.40q is not of the form 20/s, 5/m, 100/30s", text)
	}
	n, err := parseNumber(count)
	if err != nil {
		return Rate{}, fmt.Errorf("rate %.40q: the number of requests %w", text, err)
	}
	if per == "" {
		return Rate{}, fmt.Errorf("rate %.40q has no unit s, m, h or d", text)
	}
	var unit time.Duration
	switch per[len(per)-1] {
	case 's':
		unit = time.Second
	case 'm':
		unit = time.Minute
	case 'h':
		unit = time.Hour
	case 'd':
		unit = 24 * time.Hour
	default:
		return Rate{}, fmt.Errorf("rate %.40q has no unit s, m, h or d", text)
	}
	multiple := 1
	if per = per[:len(per)-1]; per != "" {
		if multiple, err = parseNumber(per); err != nil {
			return Rate{}, fmt.Errorf("rate %.40q: the time %w", text, err)
		}
	}
	if time.Duration(multiple) > maxPer/unit {
		return Rate{}, fmt.Errorf("rate %.40q is about more than a year", text)
	}
	r := Rate{Count: n, Per: time.Duration(multiple) * unit}
	if err := r.valid(); err != nil {
		return Rate{}, err
	}
	return r, nil
}

// parseNumber reads a positive number of at most nine digits, without sign.
func parseNumber(text string) (int, error) {
	if text == "" {
		return 0, fmt.Errorf("is missing")
	}
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("is not a whole number")
		}
	}
	if len(text) > 9 {
		return 0, fmt.Errorf("is too large")
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, fmt.Errorf("is 0; to refuse every request, write a rule")
	}
	return n, nil
}

func (r Rate) valid() error {
	switch {
	case r.Count <= 0 || r.Per <= 0:
		return fmt.Errorf("rate of %d in %s is not positive", r.Count, r.Per)
	case r.Per > maxPer:
		return fmt.Errorf("rate %s is about more than a year", r)
	case float64(r.Limit()) > maxPerSecond:
		return fmt.Errorf("rate %s is more than %d a second", r, maxPerSecond)
	}
	return nil
}

// Limit returns the rate in requests a second.
func (r Rate) Limit() rate.Limit {
	if r.Per <= 0 {
		return 0
	}
	return rate.Limit(float64(r.Count) / r.Per.Seconds())
}

// interval returns the time for one request, in whole nanoseconds, rounded up:
// rather a little less than the rate than more.
func (r Rate) interval() time.Duration {
	return (r.Per + time.Duration(r.Count) - 1) / time.Duration(r.Count)
}

// String returns the rate as ParseRate reads it.
func (r Rate) String() string {
	for _, u := range []struct {
		name string
		unit time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}} {
		if r.Per > 0 && r.Per%u.unit == 0 {
			if n := r.Per / u.unit; n > 1 {
				return fmt.Sprintf("%d/%d%s", r.Count, n, u.name)
			}
			return fmt.Sprintf("%d/%s", r.Count, u.name)
		}
	}
	return fmt.Sprintf("%d/%s", r.Count, r.Per)
}
