package dfa

import (
	"strings"
	"testing"
)

func benchSet(b *testing.B, pats []Pattern) *Set {
	b.Helper()
	var builder Builder
	for i, p := range pats {
		if err := builder.Add(i, p); err != nil {
			b.Fatal(err)
		}
	}
	s, err := builder.Build(Options{MaxBytes: 64 << 20, MaxNewStatesPerScan: 10_000})
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func benchTexts(b *testing.B) map[string][]string {
	list := lines(b, "clean.txt")
	return map[string][]string{
		"values":  list,
		"json4K":  {strings.Repeat(list[23]+",", 60)[:4096]},
		"prose4K": {strings.Repeat(list[20]+" "+list[21]+" "+list[22]+" ", 30)[:4096]},
		"attacks": lines(b, "attacks.txt"),
	}
}

func size(texts []string) (n int64) {
	for _, s := range texts {
		n += int64(len(s))
	}
	return n
}

// benchKinds are the expressions that the Core Rule Set asks of requests.
var benchKinds = map[string]func(rule) bool{"PL1": isRequestRx1, "PL4": isRequestRx}

// BenchmarkScan asks all expressions at once.
func BenchmarkScan(b *testing.B) {
	for level, keep := range benchKinds {
		s := benchSet(b, crs(b, keep))
		for name, texts := range benchTexts(b) {
			b.Run(level+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(size(texts))
				out := s.NewBits()
				for range 2 {
					for _, t := range texts {
						s.Scan(t, out)
					}
				}
				for b.Loop() {
					out.Clear()
					for _, t := range texts {
						s.Scan(t, out)
					}
				}
			})
		}
	}
}

// BenchmarkOneByOne asks them as Coraza does.
func BenchmarkOneByOne(b *testing.B) {
	for level, keep := range benchKinds {
		var asked twin
		for _, p := range crs(b, keep) {
			g, err := golden(p)
			if err != nil {
				b.Fatal(err)
			}
			asked = append(asked, g)
		}
		for name, texts := range benchTexts(b) {
			b.Run(level+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				b.SetBytes(size(texts))
				for b.Loop() {
					for _, t := range texts {
						for _, match := range asked {
							match(t)
						}
					}
				}
			})
		}
	}
}

// BenchmarkCold makes every state anew: what the first requests pay.
func BenchmarkCold(b *testing.B) {
	pats := crs(b, isRequestRx)
	for name, texts := range benchTexts(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(size(texts))
			s := benchSet(b, pats)
			out := s.NewBits()
			for b.Loop() {
				for _, a := range s.autos {
					a.flush()
				}
				for _, t := range texts {
					s.Scan(t, out)
				}
			}
		})
	}
}

// BenchmarkHostile scans texts that ask for new states without end.
func BenchmarkHostile(b *testing.B) {
	pats := crs(b, isRequestRx)
	list := append(corpus(b), lines(b, "attacks.txt")...)
	r := random(1)
	var texts []string
	for range 200 {
		var t strings.Builder
		for t.Len() < 4096 {
			t.WriteString(list[r.IntN(len(list))])
		}
		texts = append(texts, t.String())
	}
	b.SetBytes(size(texts) / int64(len(texts)))
	var builder Builder
	for i, p := range pats {
		if err := builder.Add(i, p); err != nil {
			b.Fatal(err)
		}
	}
	s, err := builder.Build(Options{})
	if err != nil {
		b.Fatal(err)
	}
	out := s.NewBits()
	i, given, reported := 0, 0, 0
	for b.Loop() {
		out.Clear()
		if !s.Scan(texts[i%len(texts)], out) {
			given++
		}
		reported += out.Len()
		i++
	}
	b.ReportMetric(float64(given)/float64(i), "given-up/op")
	b.ReportMetric(float64(reported)/float64(i), "ids/op")
	b.Logf("%+v", s.Stats())
}

func BenchmarkBuild(b *testing.B) {
	pats := crs(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		benchSet(b, pats)
	}
}

func BenchmarkParallel(b *testing.B) {
	s := benchSet(b, crs(b, isRequestRx))
	texts := lines(b, "clean.txt")
	b.SetBytes(size(texts))
	b.RunParallel(func(pb *testing.PB) {
		out := s.NewBits()
		for pb.Next() {
			for _, t := range texts {
				s.Scan(t, out)
			}
		}
	})
}
