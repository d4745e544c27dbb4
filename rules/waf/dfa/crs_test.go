package dfa

import (
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/corazawaf/coraza-coreruleset/v4/tests"
)

// corpus returns the lines of the regression tests of the Core Rule Set that
// carry requests, as they are and decoded.
func corpus(tb testing.TB) []string {
	tb.Helper()
	var list []string
	seen := map[string]bool{}
	add := func(s string) {
		if s != "" && len(s) < 4000 && !seen[s] {
			seen[s] = true
			list = append(list, s)
		}
	}
	err := fs.WalkDir(tests.FS, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".yaml") {
			return err
		}
		data, err := fs.ReadFile(tests.FS, name)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(data)) {
			key, value, ok := strings.Cut(strings.TrimSpace(line), ": ")
			if !ok || key == "desc" || key == "test_id" || key == "id" {
				continue
			}
			value = strings.Trim(value, `"'`)
			add(value)
			if s, err := url.QueryUnescape(value); err == nil {
				add(s)
			}
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return list
}

const noise = "\n\r\t '\"`;%+<>()/*-#\x00\xff\xc2"

// mutate changes a text as attackers do, and as noise does.
func mutate(r *rand.Rand, list []string) string {
	s := []byte(list[r.IntN(len(list))])
	for range r.IntN(4) {
		if len(s) == 0 {
			break
		}
		i := r.IntN(len(s))
		switch r.IntN(8) {
		case 0:
			s[i] = byte(r.IntN(256))
		case 1:
			s = append(s[:i:i], s[i+1:]...)
		case 2:
			s = append(s[:i:i], append([]byte(list[r.IntN(len(list))]), s[i:]...)...)
		case 3:
			s = append(s[:i:i], append([]byte{noise[r.IntN(len(noise))]}, s[i:]...)...)
		case 4:
			s[i] ^= 0x20
		case 5:
			s = append(s[:i:i], append([]byte([]string{"é", "ſ", "\u212a", "中", "😀", "\xe2\x82"}[r.IntN(6)]), s[i:]...)...)
		case 6:
			s = s[:i]
		case 7:
			s = append(s, s[i:]...)
		}
	}
	return string(s[:min(len(s), 600)])
}

func TestCRS(t *testing.T) {
	pats := crs(t, nil)
	if len(pats) < 250 {
		t.Fatalf("only %d operators found in the Core Rule Set", len(pats))
	}
	for _, c := range []struct {
		name string
		o    Options
		n    int
	}{
		{"usual", Options{MaxBytes: 64 << 20, MaxNewStatesPerScan: 10_000}, 1},
		{"little memory and budget", Options{MaxBytes: 8 << 20, MaxNewStatesPerScan: 100}, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t, c.o, pats...)
			for i, pat := range pats {
				if !p.set.Exact(i) {
					t.Errorf("%s is not exact", pat.describe())
				}
			}
			texts := append(append(lines(t, "clean.txt"), lines(t, "attacks.txt")...), corpus(t)...)
			r := random(1)
			every := 8
			if raceEnabled || testing.Short() {
				every = 200
			}
			if os.Getenv("DFA_LONG") != "" {
				every = 1
			}
			asked, extra := 0, 0
			check := func(s string) {
				extra += p.check(t, s)
				asked += len(pats)
			}
			for i := 0; i < len(texts); i += every * c.n {
				check(texts[i])
			}
			for range 4000 / every / c.n {
				check(mutate(r, texts))
			}
			t.Logf("%d operators, %d questions, 0 missed, %d extra, all where a scan was given up; %+v", len(pats), asked, extra, p.set.Stats())
		})
	}
}
