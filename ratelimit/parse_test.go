package ratelimit

import (
	"strings"
	"testing"
	"time"
)

func TestParseRate(t *testing.T) {
	for _, c := range []struct {
		text   string
		want   Rate
		normal string
	}{
		{"20/s", Rate{20, time.Second}, "20/s"},
		{"5/m", Rate{5, time.Minute}, "5/m"},
		{"100/h", Rate{100, time.Hour}, "100/h"},
		{"1000/d", Rate{1000, 24 * time.Hour}, "1000/d"},
		{"100/30s", Rate{100, 30 * time.Second}, "100/30s"},
		{"1/90s", Rate{1, 90 * time.Second}, "1/90s"},
		{"7/120s", Rate{7, 2 * time.Minute}, "7/2m"},
		{"1/366d", Rate{1, 366 * 24 * time.Hour}, "1/366d"},
		{"1000000/s", Rate{1_000_000, time.Second}, "1000000/s"},
		{"999999999/d", Rate{999_999_999, 24 * time.Hour}, "999999999/d"},
	} {
		got, err := ParseRate(c.text)
		if err != nil || got != c.want {
			t.Errorf("ParseRate(%q) = %+v, %v, want %+v", c.text, got, err, c.want)
		}
		if got.String() != c.normal {
			t.Errorf("ParseRate(%q).String() = %q, want %q", c.text, got, c.normal)
		}
	}
	for text, want := range map[string]string{
		"":             "is not of the form",
		"5":            "is not of the form",
		"/s":           "the number of requests is missing",
		"5/":           "has no unit",
		"5/30":         "has no unit",
		"5/x":          "has no unit",
		"5/ms":         "the time is not a whole number",
		"5/1.5s":       "the time is not a whole number",
		"5/-1s":        "the time is not a whole number",
		"5/0s":         "the time is 0",
		"0/s":          "the number of requests is 0",
		"-5/s":         "the number of requests is not a whole number",
		"+5/s":         "the number of requests is not a whole number",
		"5.5/s":        "the number of requests is not a whole number",
		" 5/s":         "the number of requests is not a whole number",
		"9999999999/d": "the number of requests is too large",
		"1000001/s":    "is more than 1000000 a second",
		"1/367d":       "is about more than a year",
		"1/999999999d": "is about more than a year",
	} {
		if got, err := ParseRate(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseRate(%q) = %+v, %v, want an error with %q", text, got, err, want)
		}
	}
}

func TestParseKey(t *testing.T) {
	for text, normal := range map[string]string{
		"ip":               "ip/32/64",
		"ip/48":            "ip/32/48",
		"ip/128":           "ip/32/128",
		"ip/24":            "ip/24/64",
		"ip/24/56":         "ip/24/56",
		"ip/32/64":         "ip/32/64",
		"header:x-api-key": "header:X-Api-Key",
		"claim:tenant":     "claim:tenant",
		"claim:https://a/": "claim:https://a/",
		"cookie:sid":       "cookie:sid",
		"host":             "host",
		"path":             "path",
		"country":          "country",
		"asn":              "asn",
		"identity":         "identity",
		"global":           "global",
	} {
		k, err := ParseKey(text)
		if err != nil || k.String() != normal {
			t.Errorf("ParseKey(%q) = %q, %v, want %q", text, k, err, normal)
		}
		if again, err := ParseKey(k.String()); err != nil || again != k {
			t.Errorf("ParseKey(%q) = %+v, %v, want %+v", k, again, err, k)
		}
		if got, want := k.NeedsIdentity(), text == "identity" || strings.HasPrefix(text, "claim:"); got != want {
			t.Errorf("ParseKey(%q).NeedsIdentity() = %t", text, got)
		}
	}
	for _, text := range []string{
		"", "IP", "ip/", "ip/0", "ip/129", "ip/x", "ip/-1", "ip/+48", "ip/048", "ip/48/24", "ip/24/48/1", "ip/33/64",
		"header", "header:", "header:a b", "header:a:b", "header:Host", "header:\x00", "header:é", "claim", "claim:",
		"host:", "global ", "cookie", "cookie:", "cookie:a b", strings.Repeat("x", 1000),
	} {
		if k, err := ParseKey(text); err == nil {
			t.Errorf("ParseKey(%.20q) = %q, want an error", text, k)
		} else if len(err.Error()) > 300 {
			t.Errorf("ParseKey(%.20q): error of %d bytes", text, len(err.Error()))
		}
	}
}

func FuzzParseRate(f *testing.F) {
	for _, s := range []string{"20/s", "5/m", "100/30s", "1/366d", "0/s", "5/", "/", "999999999/999999999d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRate(text)
		if err != nil {
			return
		}
		if r.Limit() <= 0 || r.Limit() > maxPerSecond || r.interval() <= 0 {
			t.Fatalf("ParseRate(%q) = %+v: limit %v, interval %v", text, r, r.Limit(), r.interval())
		}
		if again, err := ParseRate(r.String()); err != nil || again != r {
			t.Fatalf("ParseRate(%q) = %+v, %v, want %+v", r, again, err, r)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	for _, s := range []string{"ip", "ip/48", "ip/24/56", "header:X-Api-Key", "claim:a", "host", "global", "ip/999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParseKey(text)
		if err != nil {
			return
		}
		if again, err := ParseKey(k.String()); err != nil || again != k {
			t.Fatalf("ParseKey(%q) = %q, %v, want %q", k, again, err, k)
		}
		for _, client := range []string{"", "192.0.2.1", "2001:db8::1"} {
			if _, err := k.of(request("/", client, 0)); err != nil {
				t.Error(err)
			}
		}
	})
}
