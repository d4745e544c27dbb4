package auth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/moatwaf/moat/filter"
)

var testNow = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// users returns a method with users: name, password, name, password ...
func users(t testing.TB, pairs ...string) *Basic {
	t.Helper()
	var b strings.Builder
	for i := 0; i < len(pairs); i += 2 {
		hash, err := bcrypt.GenerateFromPassword([]byte(pairs[i+1]), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s:%s\n", pairs[i], hash)
	}
	m, err := NewBasic(BasicConfig{Htpasswd: File{"users", []byte(b.String())}})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func encode(pair string) string { return base64.StdEncoding.EncodeToString([]byte(pair)) }

// verifyAt runs a credential through a method at a time.
func verifyAt(m Method, credential string, now time.Time) (*filter.Identity, error) {
	r := filter.NewRequest(httptest.NewRequest("GET", "/", nil), now)
	defer r.Release()
	return m.Verify(r, credential)
}

func TestBasicPasswords(t *testing.T) {
	long := strings.Repeat("p", 72)
	m := users(t, "anna", "right", "otto", "a:b:", "ute", "пароль☂", "ida", "", "long", long)
	for _, tt := range []struct {
		name       string
		credential string
		want       *Rejection // nil: the pair is right
	}{
		{"right", encode("anna:right"), nil},
		{"wrong password", encode("anna:wrong"), errBasicWrong},
		{"password of another user", encode("anna:a:b:"), errBasicWrong},
		{"unknown user", encode("nobody:right"), errBasicWrong},
		{"no user", encode(":right"), errBasicWrong},
		{"no password", encode("anna:"), errBasicWrong},
		{"user in other case", encode("Anna:right"), errBasicWrong},
		{"space behind the password", encode("anna:right "), errBasicWrong},
		{"colons in the password", encode("otto:a:b:"), nil},
		{"password cut at its colon", encode("otto:a"), errBasicWrong},
		{"UTF-8", encode("ute:пароль☂"), nil},
		{"an empty password that is right", encode("ida:"), nil},
		{"72 bytes", encode("long:" + long), nil},
		{"73 bytes, of which 72 are right", encode("long:" + long + "x"), errBasicPassword},
		{"no colon", encode("anna"), errBasicSyntax},
		{"empty", "", errBasicSyntax},
		{"not base64", "!!!!", errBasicSyntax},
		{"no padding", strings.TrimRight(encode("anna:right"), "="), errBasicSyntax},
		{"other alphabet", base64.URLEncoding.EncodeToString([]byte("anna:\xc3\xbf\xc3\xbf?>")), errBasicSyntax},
		{"bits behind the end", "YTp=", errBasicSyntax},
		{"Latin-1", encode("ute:\xfc"), errBasicSyntax},
		{"NUL", encode("anna:right\x00"), errBasicSyntax},
		{"line feed", encode("anna:right\n"), errBasicSyntax},
		{"DEL", encode("an\x7fna:right"), errBasicSyntax},
		{"C1 control", encode("anna:\u0085right"), errBasicSyntax},
		{"1 KiB and more", strings.Repeat("YTph", 257), errBasicTooLong},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for range 2 { // the second time from memory, if it was right
				who, err := verifyAt(m, tt.credential, testNow)
				if tt.want == nil {
					if err != nil || who == nil || who.Method != "basic" || who.Subject == "" {
						t.Fatalf("got %+v, %v; want an identity", who, err)
					}
				} else if who != nil || !errors.Is(err, tt.want) {
					t.Fatalf("got %+v, %v; want %v", who, err, tt.want)
				}
			}
		})
	}
}

// TestUnknownUserCostsAsMuch holds that there is a hash to compare with for
// everybody, of the highest cost in the file, and that no password fits it.
func TestUnknownUserCostsAsMuch(t *testing.T) {
	cheap, _ := bcrypt.GenerateFromPassword([]byte("a"), 4)
	dear, _ := bcrypt.GenerateFromPassword([]byte("b"), 6)
	m, err := NewBasic(BasicConfig{Htpasswd: File{"users", fmt.Appendf(nil, "a:%s\nb:%s\n", cheap, dear)}})
	if err != nil {
		t.Fatal(err)
	}
	dummy := m.dummy.(bcryptHash)
	if cost, err := bcrypt.Cost(dummy); err != nil || cost != 6 {
		t.Errorf("cost of the dummy is %d, %v; want 6", cost, err)
	}
	if _, fault := parseHash(string(dummy)); fault != nil {
		t.Errorf("the dummy is no hash: %v", fault)
	}
	if err := bcrypt.CompareHashAndPassword(dummy, []byte("a")); !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
		t.Errorf("comparing with the dummy: %v", err)
	}
	other := users(t, "a", "a")
	if string(other.dummy.(bcryptHash)[7:]) == string(dummy[7:]) {
		t.Error("two methods have one dummy")
	}

	// Even the password of the dummy would let nobody in.
	guessed, err := bcrypt.GenerateFromPassword([]byte("guessed"), 4)
	if err != nil {
		t.Fatal(err)
	}
	m.dummy = bcryptHash(guessed)
	if who, err := verifyAt(m, encode("nobody:guessed"), testNow); who != nil || !errors.Is(err, errBasicWrong) {
		t.Errorf("got %+v, %v", who, err)
	}
}

func TestRememberedForAWhile(t *testing.T) {
	m := users(t, "anna", "right")
	first, err := verifyAt(m, encode("anna:right"), testNow)
	if err != nil {
		t.Fatal(err)
	}
	// From here on only the memory can tell that the pair is right.
	m.users = nil
	for _, tt := range []struct {
		after time.Duration
		known bool
	}{{0, true}, {rememberFor - 1, true}, {rememberFor, false}, {-time.Second, false}, {24 * time.Hour, false}} {
		who, err := verifyAt(m, encode("anna:right"), testNow.Add(tt.after))
		if known := err == nil && who == first; known != tt.known {
			t.Errorf("after %v: got %+v, %v; want known %v", tt.after, who, err, tt.known)
		}
	}
	if who, err := verifyAt(m, encode("anna:wrong"), testNow); who != nil || err == nil {
		t.Errorf("another password: %+v, %v", who, err)
	}
	if n := m.right.size(); n != 1 {
		t.Errorf("%d pairs are remembered, want only the right one", n)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	m := newMemory()
	who := &filter.Identity{}
	var last pairKey
	for i := range 5 * maxRemembered {
		last = m.key(fmt.Appendf(nil, "user%d:x", i))
		m.put(last, who, testNow)
		if n := m.size(); n > maxRemembered {
			t.Fatalf("%d entries after %d, %d are allowed", n, i+1, maxRemembered)
		}
	}
	if m.get(last, testNow) != who {
		t.Error("the last pair is forgotten")
	}
	if n := m.size(); n < maxRemembered/2 {
		t.Errorf("%d entries are left, want half of %d at least", n, maxRemembered)
	}
	if a, b := newMemory().key([]byte("a:b")), newMemory().key([]byte("a:b")); a == b {
		t.Error("two memories have one key")
	}
}

// TestGate fills the slots and the queue, and holds who gets in.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slots = 2
		g := newGate(slots)
		for range slots {
			if err := g.enter(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		var (
			wg      sync.WaitGroup
			mu      sync.Mutex
			results = make(map[string]int)
		)
		for range slots * waitersPerSlot {
			wg.Go(func() {
				err := g.enter(ctx)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					results["in"]++
				case errors.Is(err, context.Canceled):
					results["canceled"]++
				default:
					results[err.Error()]++
				}
			})
		}
		synctest.Wait()
		if err := g.enter(t.Context()); !errors.Is(err, ErrBusy) {
			t.Errorf("one over the queue: got %v, want ErrBusy", err)
		}
		g.leave()
		synctest.Wait()
		cancel()
		wg.Wait()
		if results["in"] != 1 || results["canceled"] != slots*waitersPerSlot-1 {
			t.Errorf("got %v, want one in and the others canceled", results)
		}
		if n := g.waiting.Load(); n != 0 {
			t.Errorf("%d wait still", n)
		}
		g.leave()
		g.leave()
		canceled, cancel := context.WithCancel(t.Context())
		cancel()
		if err := g.enter(canceled); !errors.Is(err, context.Canceled) || len(g.slots) != 0 {
			t.Errorf("a client that is gone: %v with %d slots taken", err, len(g.slots))
		}
	})
}

// TestGoneClientIsAnErrorOfTheStage holds that a password that was not compared
// is neither right nor wrong.
func TestGoneClientIsAnErrorOfTheStage(t *testing.T) {
	m := users(t, "anna", "right")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := filter.NewRequest(httptest.NewRequestWithContext(ctx, "GET", "/", nil), testNow)
	defer r.Release()
	who, err := m.Verify(r, encode("anna:right"))
	var rejected *Rejection
	if who != nil || !errors.Is(err, context.Canceled) || errors.As(err, &rejected) {
		t.Errorf("got %+v, %v; want the error of the context", who, err)
	}
}

func TestBasicUnderLoad(t *testing.T) {
	m := users(t, "anna", "right", "otto", "other")
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			pair, want := "anna:right", "anna"
			switch i % 3 {
			case 1:
				pair, want = "otto:other", "otto"
			case 2:
				pair, want = "anna:other", ""
			}
			who, err := verifyAt(m, encode(pair), testNow)
			if want == "" && !errors.Is(err, errBasicWrong) || want != "" && (err != nil || who.Subject != want) {
				t.Errorf("%s: got %+v, %v", pair, who, err)
			}
		})
	}
	wg.Wait()
}

func TestRememberedPairDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector empties pools at random")
	}
	m := users(t, "anna", "right")
	r := filter.NewRequest(httptest.NewRequest("GET", "/", nil), testNow)
	defer r.Release()
	credential := encode("anna:right")
	if _, err := m.Verify(r, credential); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = m.Verify(r, credential) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkBasic(b *testing.B) {
	m := users(b, "anna", "right")
	for _, bb := range []struct{ name, credential string }{
		{"remembered", encode("anna:right")},
		{"wrong-cost-4", encode("anna:wrong")},
		{"hostile-long", encode("anna:" + strings.Repeat("x", 700))},
	} {
		b.Run(bb.name, func(b *testing.B) {
			r := filter.NewRequest(httptest.NewRequest("GET", "/", nil), testNow)
			_, _ = m.Verify(r, bb.credential)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = m.Verify(r, bb.credential)
			}
		})
	}
}
