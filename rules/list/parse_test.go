package list

import (
	"encoding/binary"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moatwaf/moat/rules"
)

var update = flag.Bool("update", false, "write the .want files of testdata anew")

func files(t testing.TB, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join("testdata", dir, "*"))
	if err != nil || len(all) == 0 {
		t.Fatalf("no files in testdata/%s: %v", dir, err)
	}
	var lists []string
	for _, f := range all {
		if filepath.Ext(f) != ".want" {
			lists = append(lists, f)
		}
	}
	return lists
}

func parseFile(t testing.TB, path string, format Format) (*Set, rules.Errors) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return Parse(filepath.Base(path), data, format)
}

func TestGoodLists(t *testing.T) {
	for _, c := range []struct {
		file    string
		entries int
		in, out []string
	}{
		{"plain.netset", 12, []string{
			"192.0.2.1", "198.51.100.0", "198.51.100.255", "203.0.113.5", "203.0.113.9", "203.0.113.21", "2001:db8:ffff::1", "2001:db9::1",
			"10.255.255.255", "::ffff:10.0.0.1", "172.16.0.1", "172.16.0.12", "0.0.0.0", "255.255.255.255",
			"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8::1%eth0",
		}, []string{
			"192.0.2.2", "198.51.101.0", "203.0.113.4", "203.0.113.10", "2001:db9::", "2001:db9::2", "11.0.0.0", "172.16.0.2", "::",
			"0.0.0.1", "255.255.255.254", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe",
		}},
		{"bom-crlf.txt", 2, []string{"192.0.2.1", "198.51.100.9"}, []string{"192.0.2.2"}},
		{"drop.txt", 2, []string{"1.10.16.1", "1.19.255.255"}, []string{"1.10.32.0"}},
		{"drop_v4.json", 2, []string{"1.10.16.1", "2a06:e480::1"}, []string{"1.19.0.0"}},
		{"empty.netset", 0, nil, []string{"0.0.0.0", "::"}},
	} {
		s, errs := parseFile(t, "testdata/good/"+c.file, Auto)
		if errs != nil {
			t.Errorf("%s: %v", c.file, errs)
			continue
		}
		if s.Len() != c.entries {
			t.Errorf("%s: %d entries, want %d", c.file, s.Len(), c.entries)
		}
		for _, a := range c.in {
			if !s.Contains(netip.MustParseAddr(a)) {
				t.Errorf("%s: does not hold %s", c.file, a)
			}
		}
		for _, a := range c.out {
			if s.Contains(netip.MustParseAddr(a)) {
				t.Errorf("%s: holds %s", c.file, a)
			}
		}
	}
}

// TestBadLists holds the faults of each list against the .want file beside it.
func TestBadLists(t *testing.T) {
	for _, path := range files(t, "bad") {
		s, errs := parseFile(t, path, Auto)
		if errs == nil || s != nil {
			t.Errorf("%s: not refused", path)
			continue
		}
		got := errs.Error() + "\n"
		if *update {
			if err := os.WriteFile(path+".want", []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path + ".want")
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: got:\n%swant:\n%s", path, got, want)
		}
	}
}

func TestFormat(t *testing.T) {
	for _, c := range []struct {
		file, text string
		format     Format
		good       bool
	}{
		{"a.txt", "192.0.2.1", Auto, true},
		{"a.txt", "192.0.2.0/24 ; SBL1", Spamhaus, true},
		{"a.txt", `{"cidr":"192.0.2.0/24"}`, Spamhaus, true},
		{"a.txt", `{"cidr":"192.0.2.0/24"}`, Auto, true},
		{"a.txt", `{"cidr":"192.0.2.0/24"}`, Plain, false},
		{"a.json", "192.0.2.1", Auto, false},
		{"a.json", "192.0.2.1", Plain, true},
		{"a.json", "", Auto, true},
	} {
		if _, errs := Parse(c.file, []byte(c.text), c.format); (errs == nil) != c.good {
			t.Errorf("Parse(%q, %q, %v): %v", c.file, c.text, c.format, errs)
		}
	}
	for _, name := range append([]string{""}, FormatNames...) {
		if _, err := ParseFormat(name); err != nil {
			t.Error(err)
		}
	}
	if _, err := ParseFormat("csv"); err == nil {
		t.Error("the format csv is not refused")
	}
}

func TestParseEntries(t *testing.T) {
	at := func(value string, column int) rules.Located[string] {
		return rules.Located[string]{Value: value, Pos: rules.Position{File: "p", Line: 3, Column: column}, Path: "lists.a[0]"}
	}
	s, errs := ParseEntries([]rules.Located[string]{at("192.0.2.1", 1), at("2001:db8::/32", 2), at(" 10.0.0.1-10.0.0.3 ", 3)})
	if errs != nil || s.Len() != 3 || !s.Contains(netip.MustParseAddr("10.0.0.3")) {
		t.Errorf("got %v, %v", s, errs)
	}
	_, errs = ParseEntries([]rules.Located[string]{at("192.0.2.1/24", 7), at("", 9), at("10.0.0.1 # no comment", 11)})
	want := `p:3:7: lists.a[0]: the prefix "192.0.2.1/24" has bits set behind its length (write 192.0.2.0/24 for the network, or 192.0.2.1 for the address)
p:3:9: lists.a[0]: "" is not an address (write an address, a prefix or a range a-b)
p:3:11: lists.a[0]: "10.0.0.1 # no comment" is not an address (write one entry a line; a comment begins with # or ;)`
	if errs.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", errs, want)
	}
}

func TestTooManyEntries(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("reads a list of four million entries, with one goroutine")
	}
	_, errs := Parse("p", []byte(strings.Repeat("::\n", MaxEntries+5)), Plain)
	if want := "p:4194305: the list has more than 4194304 entries"; errs.Error() != want {
		t.Errorf("got %v, want %s", errs, want)
	}
}

// reference reads a plain list in the slow and obvious way. It returns the
// prefixes and ranges, and false if a line is faulty.
func reference(text string) (entries [][2]netip.Addr, ok bool) {
	for _, line := range strings.Split(strings.TrimPrefix(text, "\ufeff"), "\n") {
		line, _, _ = strings.Cut(line, "#")
		line, _, _ = strings.Cut(line, ";")
		line = strings.Trim(line, " \t\r")
		if line == "" {
			continue
		}
		if a, b, isRange := strings.Cut(line, "-"); isRange && !strings.Contains(line, "/") {
			first, err1 := netip.ParseAddr(strings.TrimRight(a, " \t"))
			last, err2 := netip.ParseAddr(strings.TrimLeft(b, " \t"))
			first, last = first.Unmap(), last.Unmap()
			if err1 != nil || err2 != nil || first.Zone() != "" || last.Zone() != "" || first.Is4() != last.Is4() || last.Less(first) {
				return nil, false
			}
			entries = append(entries, [2]netip.Addr{first, last})
			continue
		}
		if a, bits, isPrefix := strings.Cut(line, "/"); isPrefix {
			p, err := netip.ParsePrefix(strings.TrimRight(a, " \t") + "/" + bits)
			if err != nil {
				return nil, false
			}
			if p.Addr().Is4In6() {
				if p.Bits() < 96 {
					return nil, false
				}
				p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
			}
			if p.Masked() != p {
				return nil, false
			}
			last := p.Addr()
			for bit := p.Bits(); bit < p.Addr().BitLen(); bit++ {
				b := last.AsSlice()
				b[bit/8] |= 0x80 >> (bit % 8)
				last, _ = netip.AddrFromSlice(b)
			}
			entries = append(entries, [2]netip.Addr{p.Addr(), last})
			continue
		}
		a, err := netip.ParseAddr(line)
		if err != nil || a.Zone() != "" {
			return nil, false
		}
		entries = append(entries, [2]netip.Addr{a.Unmap(), a.Unmap()})
	}
	return entries, true
}

func scan(entries [][2]netip.Addr, a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, e := range entries {
		if a.Is4() == e[0].Is4() && e[0].Compare(a) <= 0 && a.Compare(e[1]) <= 0 {
			return true
		}
	}
	return false
}

func FuzzParse(f *testing.F) {
	for _, dir := range []string{"good", "bad"} {
		for _, path := range files(f, dir) {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data, []byte{192, 0, 2, 1})
		}
	}
	f.Add([]byte("::ffff:1.2.3.0/120\n1.2.3.4 /32\n1.2.3.4/ 32\n::-::1"), []byte{1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, data, probe []byte) {
		for _, format := range []Format{Auto, Spamhaus} {
			if s, errs := Parse("p", data, format); (s == nil) == (errs == nil) {
				t.Fatalf("set %v, faults %v", s, errs)
			}
		}
		s, errs := Parse("p", data, Plain)
		entries, ok := reference(string(data))
		if (errs == nil) != ok {
			t.Fatalf("faults %v, the reference says %v", errs, ok)
		}
		if errs != nil {
			lines := strings.Count(string(data), "\n") + 1
			for _, err := range errs {
				if err.Pos.Line > lines || err.Pos.Line < 0 || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
					t.Errorf("%q at %+v of %d lines", err.Error(), err.Pos, lines)
				}
			}
			return
		}
		if s.Len() != len(entries) {
			t.Errorf("%d entries, the reference has %d", s.Len(), len(entries))
		}
		probes := []netip.Addr{{}}
		if len(probe) >= 4 {
			probes = append(probes, netip.AddrFrom4([4]byte(probe)))
		}
		if len(probe) >= 16 {
			probes = append(probes, netip.AddrFrom16([16]byte(probe)))
		}
		for _, e := range entries {
			probes = append(probes, e[0], e[1], e[0].Prev(), e[1].Next())
		}
		for _, a := range probes {
			if got, want := s.Contains(a), a.IsValid() && scan(entries, a); got != want {
				t.Errorf("Contains(%v) = %v, the reference says %v", a, got, want)
			}
		}
	})
}

// addr4 and addr6 make addresses of numbers.
func addr4(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n)))
}

func addr6(high, low uint64) netip.Addr {
	return netip.AddrFrom16([16]byte(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, high), low)))
}
