package rules

import (
	"errors"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// ParseDuration reads a duration: what time.ParseDuration reads, and d for days
// of 24 hours in front of it: 30s, 5m, 1h30m, 1d, 1d12h, 0.5d. It refuses
// negative durations and a number without a unit.
func ParseDuration(s string) (time.Duration, error) {
	const day = 24 * time.Hour
	if s == "" || !durationSyntax.MatchString(s) {
		return 0, errDuration
	}
	var total time.Duration
	rest := s
	if days, after, ok := strings.Cut(s, "d"); ok {
		n, ok := parseDecimal(days)
		if !ok {
			return 0, errDuration
		}
		if n*float64(day) >= math.MaxInt64 {
			return 0, errTooLong
		}
		total, rest = time.Duration(n*float64(day)), after
		if rest == "" {
			return total, nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil || total > math.MaxInt64-d {
		return 0, errTooLong // the syntax is right, so it is the value that is not
	}
	return total + d, nil
}

var (
	errDuration = errors.New("not a duration")
	errTooLong  = errors.New("a duration over 292 years")
	errSize     = errors.New("not a size")
	errTooBig   = errors.New("a size over 8 EiB")
)

// Patterns of the units, for JSON Schema too; what they let through and the
// parsers do not are numbers that overflow and fractions of a byte.
const (
	durationPattern = `^([0-9]+(\.[0-9]+)?d)?([0-9]+(\.[0-9]*)?(ns|us|µs|μs|ms|s|m|h))*$`
	sizePattern     = `^[0-9]+(\.[0-9]+)? ?(B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)$`
)

var durationSyntax = regexp.MustCompile(durationPattern)

// parseDecimal reads digits with an optional fraction, and nothing else that
// strconv.ParseFloat takes (signs, exponents, hexadecimal, inf, underscores).
func parseDecimal(s string) (float64, bool) {
	whole, fraction, dotted := strings.Cut(s, ".")
	if !digits(whole) || dotted && !digits(fraction) {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// Size is a number of bytes, written with a unit: 512B, 64KiB, 1MiB, 10MB, 1.5GiB.
// KiB is 1024 bytes, kB and KB are 1000.
type Size int64

var sizeUnits = []struct {
	name  string
	bytes int64
}{
	// Longer names first: every one ends in B.
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
	{"B", 1},
}

// ParseSize reads a size. It refuses negative sizes, sizes without a unit, and
// fractions of a byte.
func ParseSize(s string) (Size, error) {
	for _, u := range sizeUnits {
		number, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		number = strings.TrimSuffix(number, " ")
		if digits(number) {
			n, err := strconv.ParseInt(number, 10, 64)
			if err != nil || n > math.MaxInt64/u.bytes {
				return 0, errTooBig
			}
			return Size(n * u.bytes), nil
		}
		f, ok := parseDecimal(number)
		if !ok {
			return 0, errSize
		}
		f *= float64(u.bytes)
		switch {
		case f >= math.MaxInt64:
			return 0, errTooBig
		case f != math.Trunc(f):
			return 0, errSize
		}
		return Size(f), nil
	}
	return 0, errSize
}

// String returns the size in the largest binary unit that divides it: 64KiB, 1MiB,
// 1000B.
func (s Size) String() string {
	for _, u := range []struct {
		name  string
		bytes Size
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if s != 0 && s%u.bytes == 0 {
			return strconv.FormatInt(int64(s/u.bytes), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}
