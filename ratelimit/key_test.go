package ratelimit

import (
	"encoding/json"
	"testing"

	"github.com/moatwaf/moat/filter"
)

// TestKeys says which requests count together.
func TestKeys(t *testing.T) {
	get := func(client string) *filter.Request { return request("/a", client, 0) }
	with := func(name string, values ...string) *filter.Request {
		r := get("192.0.2.1")
		r.HTTP.Header[name] = values
		return r
	}
	host := func(h string) *filter.Request {
		r := get("192.0.2.1")
		r.Host = h
		return r
	}
	as := func(client string, id *filter.Identity) *filter.Request {
		r := get(client)
		r.Identity = id
		return r
	}
	alice := &filter.Identity{Subject: "alice", Method: "bearer"}
	alsoAlice := &filter.Identity{Subject: "alice", Method: "basic"}
	bob := &filter.Identity{Subject: "bob", Method: "bearer"}
	claims := func(subject string, v any) *filter.Identity {
		return &filter.Identity{Subject: subject, Method: "bearer", Claims: map[string]any{"plan": v}}
	}
	for _, c := range []struct {
		name, key string
		a, b      *filter.Request
		same      bool
	}{
		{"one address", "ip", get("192.0.2.1"), get("192.0.2.1"), true},
		{"two IPv4 addresses", "ip", get("192.0.2.1"), get("192.0.2.2"), false},
		{"v4-in-v6", "ip", get("::ffff:192.0.2.1"), get("192.0.2.1"), true},
		{"IPv6 addresses of one /64", "ip", get("2001:db8::1"), get("2001:db8::ffff:1"), true},
		{"IPv6 addresses of two /64", "ip", get("2001:db8::1"), get("2001:db8:0:1::1"), false},
		{"two /64 of one /48", "ip/48", get("2001:db8::1"), get("2001:db8:0:ffff::1"), true},
		{"two /48", "ip/48", get("2001:db8::1"), get("2001:db8:1::1"), false},
		{"IPv4 with ip/48", "ip/48", get("192.0.2.1"), get("192.0.2.2"), false},
		{"one /24", "ip/24", get("192.0.2.1"), get("192.0.2.255"), true},
		{"two /24", "ip/24", get("192.0.2.1"), get("192.0.3.1"), false},
		{"IPv4 /1", "ip/1", get("1.2.3.4"), get("127.2.3.4"), true},
		{"IPv6 /128", "ip/128", get("2001:db8::1"), get("2001:db8::2"), false},
		{"IPv6 /65 apart", "ip/65", get("2001:db8::1"), get("2001:db8::8000:0:0:1"), false},
		{"IPv6 /65 together", "ip/65", get("2001:db8::1"), get("2001:db8::7000:0:0:1"), true},
		{"no address", "ip", get(""), get(""), true},
		{"no address and one", "ip", get(""), get("::"), false},

		{"one host", "host", host("a.example"), host("a.example"), true},
		{"two hosts", "host", host("a.example"), host("b.example"), false},
		{"two paths", "path", request("/a", "192.0.2.1", 0), request("/b", "192.0.2.1", 0), false},
		{"one path of two clients", "path", request("/a", "192.0.2.1", 0), request("/a", "192.0.2.2", 0), true},
		{"one country", "country", place(get("192.0.2.1"), "DE", 1), place(get("192.0.2.2"), "DE", 2), true},
		{"two countries", "country", place(get("192.0.2.1"), "DE", 1), place(get("192.0.2.1"), "FR", 1), false},
		{"unknown country", "country", get("192.0.2.1"), get("192.0.2.2"), true},
		{"one system", "asn", place(get("192.0.2.1"), "DE", 1), place(get("192.0.2.2"), "FR", 1), true},
		{"two systems", "asn", place(get("192.0.2.1"), "DE", 1), place(get("192.0.2.2"), "DE", 2), false},
		{"global", "global", get("192.0.2.1"), get("2001:db8::1"), true},

		{"one field value", "header:x-key", with("X-Key", "a"), with("X-Key", "a"), true},
		{"two field values", "header:x-key", with("X-Key", "a"), with("X-Key", "b"), false},
		{"field lines in other order", "header:x-key", with("X-Key", "a", "b"), with("X-Key", "b", "a"), false},
		{"field line more", "header:x-key", with("X-Key", "a"), with("X-Key", "a", "b"), false},
		{"empty field and none", "header:x-key", with("X-Key", ""), get("192.0.2.1"), false},
		{"no field, one address", "header:x-key", get("192.0.2.1"), get("192.0.2.1"), true},
		{"no field, two addresses", "header:x-key", get("192.0.2.1"), get("192.0.2.2"), false},

		{"one cookie", "cookie:sid", with("Cookie", "a=1; sid=x"), with("Cookie", "sid=x; a=2"), true},
		{"one cookie on two lines", "cookie:sid", with("Cookie", "a=1", " sid = x"), with("Cookie", "sid=x"), true},
		{"two cookies", "cookie:sid", with("Cookie", "sid=x"), with("Cookie", "sid=y"), false},
		{"a cookie twice", "cookie:sid", with("Cookie", "sid=x; sid=y"), with("Cookie", "sid=x"), false},
		{"names of cookies have case", "cookie:sid", with("Cookie", "SID=x"), get("192.0.2.1"), true},
		{"no cookie, two addresses", "cookie:sid", get("192.0.2.1"), get("192.0.2.2"), false},

		{"callers without a name, two addresses", "identity", as("192.0.2.1", &filter.Identity{Method: "forward"}), as("192.0.2.2", &filter.Identity{Method: "forward"}), false},
		{"callers without a name and a claim, two addresses", "claim:plan", as("192.0.2.1", &filter.Identity{Method: "forward"}), as("192.0.2.2", &filter.Identity{Method: "forward"}), false},
		{"one caller, two addresses", "identity", as("192.0.2.1", alice), as("192.0.2.2", alice), true},
		{"two callers", "identity", as("192.0.2.1", alice), as("192.0.2.1", bob), false},
		{"one name, two methods", "identity", as("192.0.2.1", alice), as("192.0.2.1", alsoAlice), false},
		{"no caller, two addresses", "identity", get("192.0.2.1"), get("192.0.2.2"), false},
		{"no caller, one /64", "identity", get("2001:db8::1"), get("2001:db8::2"), true},
		{"one claim, two callers", "claim:plan", as("192.0.2.1", claims("a", "pro")), as("192.0.2.2", claims("b", "pro")), true},
		{"two claims", "claim:plan", as("192.0.2.1", claims("a", "pro")), as("192.0.2.1", claims("a", "free")), false},
		{"claim as number", "claim:plan", as("192.0.2.1", claims("a", 7.0)), as("192.0.2.1", claims("b", int64(7))), true},
		{"claim as JSON number", "claim:plan", as("192.0.2.1", claims("a", json.Number("7"))), as("192.0.2.1", claims("b", json.Number("8"))), false},
		{"claim as truth value", "claim:plan", as("192.0.2.1", claims("a", true)), as("192.0.2.1", claims("a", false)), false},
		{"claim as list counts by caller", "claim:plan", as("192.0.2.1", claims("a", []any{"x"})), as("192.0.2.1", claims("b", []any{"x"})), false},
		{"no claim counts by caller", "claim:plan", as("192.0.2.1", alice), as("192.0.2.2", alice), true},
	} {
		k := mustKey(t, c.key)
		for _, k.shared = range []bool{false, true} {
			if got := slotOf(t, k, c.a) == slotOf(t, k, c.b); got != c.same {
				t.Errorf("%s: same = %t, want %t", c.name, got, c.same)
			}
			if first, again := slotOf(t, k, c.a), slotOf(t, k, c.a); first != again {
				t.Errorf("%s: key is not the same twice", c.name)
			}
		}
	}
}

func slotOf(t *testing.T, k Key, r *filter.Request) slot {
	t.Helper()
	s, err := k.of(r)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
