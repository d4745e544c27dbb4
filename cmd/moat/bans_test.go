package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/moatwaf/moat/filter/policy"
)

// TestBans runs the command against the admin routes of a policy.
func TestBans(t *testing.T) {
	file := t.TempDir() + "/policy.yaml"
	if err := os.WriteFile(file, []byte("version: 1\nwaf: {mode: \"off\"}\naudit: {file: \"off\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rt, err := policy.Start(t.Context(), policy.Options{File: file, CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer rt.Close()
	mux := http.NewServeMux()
	policy.HandleBans(mux, func() []*policy.Runtime { return []*policy.Runtime{rt} })
	admin := httptest.NewServer(mux)
	defer admin.Close()

	for _, c := range []struct {
		args     string
		code     int
		out, err string
	}{
		{"", 0, "no bans", ""},
		{"add 192.0.2.1", 0, "banned 192.0.2.1/32", ""},
		{"add --for 2h 2001:db8::/64", 0, "2001:db8::/64", ""},
		{"add --for 0s 192.0.2.1", 1, "", "moat bans: "},
		{"add everybody", 1, "", "not an address"},
		{"list", 0, "192.0.2.1/32", ""},
		{"lift 192.0.2.1", 0, "lifted 192.0.2.1/32", ""},
		{"lift 192.0.2.1", 1, "", "no ban"},
		{"lift 2001:db8::/64", 0, "lifted 2001:db8::/64", ""},
		{"lift", 2, "", "Usage:"},
		{"add", 2, "", "Usage:"},
		{"forget", 2, "", "Usage:"},
		{"--help", 0, "", "Usage:"},
	} {
		var stdout, stderr bytes.Buffer
		code := bans(append([]string{"--admin", admin.URL}, strings.Fields(c.args)...), &stdout, &stderr)
		if code != c.code || !strings.Contains(stdout.String(), c.out) || !strings.Contains(stderr.String(), c.err) {
			t.Errorf("moat bans %s: exit %d, %q, %q; want %d, %q, %q", c.args, code, stdout.String(), stderr.String(), c.code, c.out, c.err)
		}
	}
	var stdout, stderr bytes.Buffer
	if code := bans([]string{"--admin", "127.0.0.1:1"}, &stdout, &stderr); code != exitUsage || stderr.Len() == 0 {
		t.Errorf("nobody listens: exit %d, %q", code, stderr.String())
	}
}
