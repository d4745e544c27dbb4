package rules

import (
	"math"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		text string
		want time.Duration // -1 is a fault
	}{
		{"30s", 30 * time.Second}, {"5m", 5 * time.Minute}, {"12h", 12 * time.Hour}, {"1d", day},
		{"1d12h", 36 * time.Hour}, {"0.5d", 12 * time.Hour}, {"1.5h", 90 * time.Minute}, {"0s", 0}, {"250ms", 250 * time.Millisecond},
		{"106751d", 106751 * day},
		{"", -1}, {"0", -1}, {"30", -1}, {"d", -1}, {"1d0", -1}, {"1d1", -1}, {"-5m", -1}, {"1d-5m", -1}, {"+5m", -1}, {"-1d", -1},
		{"1e3d", -1}, {"infd", -1}, {"0x1d", -1}, {"1_0d", -1}, {"1dd", -1}, {"1h1d", -1}, {"5 m", -1}, {"1w", -1}, {".5h", -1},
		{"106752d", -1}, {"106751d24h", -1}, {"99999999999999999999h", -1}, {"1e400d", -1},
	} {
		got, err := ParseDuration(c.text)
		if c.want < 0 && err == nil || c.want >= 0 && (err != nil || got != c.want) {
			t.Errorf("ParseDuration(%q) = %v, %v, want %v", c.text, got, err, c.want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for _, c := range []struct {
		text string
		want Size // -1 is a fault
	}{
		{"512B", 512}, {"64KiB", 64 << 10}, {"1MiB", 1 << 20}, {"10MB", 10e6}, {"1kB", 1000}, {"1KB", 1000}, {"2GiB", 2 << 30},
		{"1 TiB", 1 << 40}, {"1.5GiB", 3 << 29}, {"0B", 0}, {"9223372036854775807B", math.MaxInt64},
		{"", -1}, {"B", -1}, {"12", -1}, {"-1B", -1}, {"+1B", -1}, {"1.5B", -1}, {"0.0001KiB", -1}, {"1MIB", -1}, {"1mb", -1},
		{"1  MiB", -1}, {"1K", -1}, {"0x10B", -1}, {"1_000B", -1}, {"1e3B", -1}, {"infB", -1}, {".5KiB", -1}, {"1.KiB", -1},
		{"9223372036854775808B", -1}, {"9007199254740992KiB", -1}, {"8388608.5TiB", -1},
	} {
		got, err := ParseSize(c.text)
		if c.want < 0 && err == nil || c.want >= 0 && (err != nil || got != c.want) {
			t.Errorf("ParseSize(%q) = %v, %v, want %v", c.text, int64(got), err, int64(c.want))
		}
	}
	for size, want := range map[Size]string{0: "0B", 512: "512B", 1000: "1000B", 64 << 10: "64KiB", 3 << 29: "1536MiB", 1 << 40: "1TiB"} {
		if got := size.String(); got != want {
			t.Errorf("String of %d = %q, want %q", int64(size), got, want)
		}
		if back, err := ParseSize(size.String()); err != nil || back != size {
			t.Errorf("%v does not read back: %v, %v", size, back, err)
		}
	}
}
