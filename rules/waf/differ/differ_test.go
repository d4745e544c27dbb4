package differ

import (
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	long    = flag.Duration("for", 0, "how long TestLong compares; it is skipped without")
	seed    = flag.Uint64("seed", 1, "the seed of TestLong")
	workers = flag.Int("workers", 1, "how many rounds of TestLong run at a time")
)

// TestCases asks both engines about every case that ever differed, or was refused
// for its cost though it is small.
func TestCases(t *testing.T) {
	eachCase(t, "testdata/cases/*.txtar", func(t *testing.T, c Comparison) {
		if c.Outcome == Differs || c.Outcome == Dear {
			t.Errorf("%s\nplain: %v\nfast:  %v", c.Kind(), c.Plain, c.Fast)
		}
	})
}

// TestOpen logs the cases that still differ. One that no longer does belongs to
// testdata/cases.
func TestOpen(t *testing.T) {
	eachCase(t, "testdata/open/*.txtar", func(t *testing.T, c Comparison) {
		if c.Outcome == Differs {
			t.Skipf("known to differ: %s", c.Kind())
		}
		t.Log("no longer differs: move it to testdata/cases")
	})
}

// eachCase asks both engines about the cases of a pattern.
func eachCase(t *testing.T, pattern string, judge func(*testing.T, Comparison)) {
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, err := ParseCase(data)
			if err != nil {
				t.Fatal(err)
			}
			p, err := Open(c.Setup)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			}()
			r, err := Parse(&c.Message)
			if err != nil {
				t.Fatal(err)
			}
			judge(t, p.Compare(r))
		})
	}
}

// TestShort compares a few rounds.
func TestShort(t *testing.T) {
	if raceEnabled {
		t.Skip("one round takes half a minute; FuzzRequest's seeds and TestCases run both engines too")
	}
	o := Options{Seed: 1, Rounds: 4, Log: testLog{t}, Minimise: 5 * time.Second}
	if testing.Short() {
		o.Rounds = 2
	}
	f, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if f.Requests < 20 {
		t.Errorf("only %d requests", f.Requests)
	}
	if f.Differences > 0 {
		t.Errorf("%d differences:\n%s", f.Differences, f.Report())
	}
	t.Log(&f)
}

// TestLong compares for as long as -for says.
func TestLong(t *testing.T) {
	if *long == 0 {
		t.Skip("-for says how long")
	}
	f, err := Run(t.Context(), Options{Seed: *seed, For: *long, Workers: *workers, Log: os.Stdout, Progress: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d, %v: %v\n%s", *seed, *long, &f, f.Report())
	if f.Differences > 0 {
		t.Error("the engines differ")
	}
}

type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Logf("%s", b)
	return len(b), nil
}

// crsPairs are the pairs of the fuzz target, by paranoia level.
var crsPairs [5]struct {
	once sync.Once
	pair *Pair
	err  error
}

// FuzzRequest compares both engines on the bytes of a request.
func FuzzRequest(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for i, m := range Corpus() {
		if i%40 == 0 {
			f.Add(uint8(i), m.Raw())
		}
	}
	for _, s := range Shapes {
		m := s.Make(r)
		f.Add(uint8(0), m.Raw())
	}
	f.Fuzz(func(t *testing.T, level uint8, raw []byte) {
		m, ok := ParseMessage(raw)
		if !ok || len(raw) > 8<<10 {
			return
		}
		req, err := Parse(&m)
		if err != nil {
			return
		}
		slot := &crsPairs[1+level%4]
		slot.once.Do(func() { slot.pair, slot.err = Open(Setup{CRS: true, Paranoia: int(1 + level%4)}) })
		if slot.err != nil {
			t.Fatal(slot.err)
		}
		if c := slot.pair.Compare(req); c.Outcome == Differs {
			t.Errorf("PL%d %s\nplain: %v\nfast:  %v", 1+level%4, c.Kind(), c.Plain, c.Fast)
		}
	})
}

// FuzzRules compares both engines on rules of the fuzzer's making and requests that
// a seed determines.
func FuzzRules(f *testing.F) {
	for i := range 40 {
		f.Add(RandomRules(rand.New(rand.NewPCG(uint64(i), 2))), uint64(i))
	}
	f.Fuzz(func(t *testing.T, text string, seed uint64) {
		if len(text) > 4<<10 {
			return
		}
		p, err := Open(Setup{Files: []File{{OwnFile, text}}})
		if err != nil {
			if _, only := err.(*LoadError); only {
				t.Fatal(err)
			}
			return
		}
		defer func() { _ = p.Close() }()
		g := NewGenerator(rand.New(rand.NewPCG(seed, 3)))
		g.Words, g.Names = ruleWords, ruleNames
		for range 6 {
			m := g.Next()
			req, err := Parse(&m)
			if err != nil {
				continue
			}
			if c := p.Compare(req); c.Outcome == Differs {
				k := Case{Setup: p.Setup, Message: m}
				t.Errorf("%s\nplain: %v\nfast:  %v\n%s", c.Kind(), c.Plain, c.Fast, k.Format())
			}
		}
	})
}

// TestFormat holds that a case survives its file.
func TestFormat(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	g := NewGenerator(r)
	for range 300 {
		c := Case{Comment: "why\n", Setup: Setup{CRS: chance(r, 2), Paranoia: r.IntN(5), Files: RandomExclusions(r)}, Message: g.Next()}
		got, err := ParseCase(c.Format())
		if err != nil {
			t.Fatalf("%v\n%s", err, c.Format())
		}
		if string(got.Format()) != string(c.Format()) || string(got.Message.Raw()) != string(c.Message.Raw()) {
			t.Fatalf("want\n%s\ngot\n%s", c.Format(), got.Format())
		}
	}
}

// TestGeneratorRepeats holds that a seed determines the requests and the rules.
func TestGeneratorRepeats(t *testing.T) {
	generate := func() string {
		r := source(5, 6)
		g := NewGenerator(r)
		var b strings.Builder
		for range 300 {
			m := g.Next()
			b.Write(m.Raw())
			b.WriteString(RandomRules(r))
		}
		return b.String()
	}
	if first, second := generate(), generate(); first != second {
		t.Error("one seed makes two runs")
	}
}
