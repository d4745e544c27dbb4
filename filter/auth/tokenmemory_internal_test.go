package auth

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
)

// slowMemory is the memory as a map without bounds.
type slowMemory map[string]rememberedToken

func (m slowMemory) get(token string, now time.Time) *filter.Identity {
	e, ok := m[token]
	if !ok || now.UnixNano() < e.from || now.UnixNano() >= e.until {
		return nil
	}
	return e.who
}

// TestTokenMemoryAgainstASlowOne holds random use against a plain map: what the
// memory knows must be what the map knows, and it may only forget.
func TestTokenMemoryAgainstASlowOne(t *testing.T) {
	random := rand.New(rand.NewPCG(6, 9110))
	m, slow := newTokenMemory(), slowMemory{}
	now, hits := testNow, 0
	for range 50_000 {
		token := fmt.Sprintf("token-%d", random.IntN(3000))
		now = now.Add(time.Duration(random.IntN(100)-20) * time.Millisecond)
		if random.IntN(3) == 0 {
			who := &filter.Identity{Subject: token}
			until := now.Add(time.Duration(random.IntN(200)) * time.Second)
			m.put(m.hash(token), token, who, now, until)
			slow[token] = rememberedToken{token, who, now.UnixNano(), until.UnixNano()}
			continue
		}
		got, want := m.get(m.hash(token), token, now), slow.get(token, now)
		if got != want {
			t.Fatalf("%s: got %+v, want %+v", token, got, want)
		}
		if got != nil {
			hits++
		}
	}
	if hits < 1000 {
		t.Errorf("only %d hits", hits)
	}
}

func TestTokenMemoryIsBounded(t *testing.T) {
	for _, tt := range []struct {
		name   string
		length int
		tokens int
	}{{"by number", 20, 4 * maxTokens}, {"by bytes", 14 << 10, 6000}} {
		t.Run(tt.name, func(t *testing.T) {
			m := newTokenMemory()
			who := &filter.Identity{Claims: map[string]any{"plan": "pro", "list": []any{"a", 1.0, true}}}
			padding := strings.Repeat("x", tt.length)
			for i := range tt.tokens {
				token := fmt.Sprint(i) + padding
				m.put(m.hash(token), token, who, testNow, testNow.Add(time.Hour))
				if i%512 != 0 {
					continue
				}
				if n, bytes := m.size(); n > maxTokens || bytes > maxTokenBytes/2 {
					t.Fatalf("%d tokens of %d bytes and more after %d", n, bytes, i)
				}
			}
			last := fmt.Sprint(tt.tokens-1) + padding
			if m.get(m.hash(last), last, testNow) != who {
				t.Error("the last token is forgotten")
			}
		})
	}
}

// TestTokenMemoryComparesTheWholeToken holds that even a token with the same hash
// is another token.
func TestTokenMemoryComparesTheWholeToken(t *testing.T) {
	m := newTokenMemory()
	hash := m.hash("a.b.c")
	m.put(hash, "a.b.c", &filter.Identity{}, testNow, testNow.Add(time.Hour))
	for token, known := range map[string]bool{"a.b.c": true, "a.b.d": false, "a.b.c ": false, "a.b": false, "": false} {
		if got := m.get(hash, token, testNow) != nil; got != known {
			t.Errorf("%q: known %v, want %v", token, got, known)
		}
	}
	if a, b := newTokenMemory().hash("a.b.c"), newTokenMemory().hash("a.b.c"); a == b {
		t.Error("two memories have one key")
	}
}

func TestTokenMemoryInParallel(t *testing.T) {
	m := newTokenMemory()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 2000 {
				token := fmt.Sprint(n % 97)
				hash := m.hash(token)
				if i%2 == 0 {
					m.put(hash, token, &filter.Identity{Subject: token}, testNow, testNow.Add(time.Hour))
					m.fail(m.hash(token + "bad"))
				} else if who := m.get(hash, token, testNow); who != nil && who.Subject != token || m.failed(hash) {
					t.Errorf("%s: got %+v", token, who)
				}
			}
		})
	}
	wg.Wait()
}

// TestSameString holds the comparison against that of the language.
func TestSameString(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		a := make([]byte, random.IntN(40))
		for i := range a {
			a[i] = byte('a' + random.IntN(2))
		}
		b := append([]byte(nil), a...)
		if len(b) > 0 && random.IntN(2) == 0 {
			b[random.IntN(len(b))] ^= byte(1 << random.IntN(8))
		}
		if random.IntN(10) == 0 {
			b = append(b, 'a')
		}
		if got := sameString(string(a), string(b)); got != (string(a) == string(b)) {
			t.Fatalf("%q and %q: %v", a, b, got)
		}
	}
}
