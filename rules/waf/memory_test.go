package waf

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moatwaf/moat/filter"
)

// fragments are what texts are made of that lead the automata to ever new states: the
// beginnings of many expressions, and what keeps them alive.
var fragments = strings.Fields(`select union sleep( or and <a <script src= on' "> ${ %{ /* */ -- # ../ ..\ /etc/ cmd powershell
	java. runtime process. exec( system( eval( base64_ php:// data: file: http:// jndi: ldap { } [ ] ( ) ' " ; | & $IFS ` + "` \\x41 \\u0041" + `
	alert( document. window. .constructor __proto__ {{ }} <% %> waitfor benchmark( having group by like 0x41 1=1 a'b é ſ K`)

// stirring returns a text of about n bytes that no automaton has read.
func stirring(r *rand.Rand, n int) string {
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(fragments[r.IntN(len(fragments))])
		for range r.IntN(4) {
			b.WriteByte(" abcxyz0129_-.,:=/"[r.IntN(18)])
		}
	}
	return b.String()
}

// hostileRequest returns one that asks the automata for as many states as it may.
func hostileRequest(r *rand.Rand) *http.Request {
	switch r.IntN(4) {
	case 0:
		return newHTTP("GET", "/?"+url.Values{"a": {stirring(r, 1500)}, "b" + stirring(r, 20): {"1"}}.Encode(), "")
	case 1:
		return newHTTP("GET", "/"+url.PathEscape(stirring(r, 300)), "", "Referer: https://x/"+url.PathEscape(stirring(r, 600)), "User-Agent: "+stirring(r, 500), "Cookie: a="+stirring(r, 400))
	case 2:
		return newHTTP("POST", "/", url.Values{"text": {stirring(r, 3000)}}.Encode(), "Content-Type: "+formType)
	}
	return newHTTP("POST", "/", fmt.Sprintf(`{"text":%q}`, stirring(r, 3000)), "Content-Type: application/json")
}

// known are requests whose answers must not depend on what others send.
func known() []func() *http.Request {
	var all []func() *http.Request
	for _, target := range []string{"/", "/search?q=tea+pots&page=2", "/?q=1%27+UNION+SELECT+password+FROM+users--+-", "/?file=../../../../etc/passwd", "/?q=%3Cscript%3Ealert(1)%3C/script%3E"} {
		all = append(all, func() *http.Request { return newHTTP("GET", target, "", "Cookie: session=8f14e45f; theme=dark") })
	}
	for contentType, body := range map[string]string{
		formType:           "name=Ada+Lovelace&text=Ring+twice%2C+please&q=;cat+/etc/passwd",
		"application/json": `{"name":"Ada","items":[{"sku":"T-1","n":2}],"note":"leave it at the door"}`,
		"text/plain":       "The garden was quiet that morning.",
	} {
		all = append(all, func() *http.Request { return newHTTP("POST", "/orders", body, "Content-Type: "+contentType) })
	}
	return all
}

// TestMemoryUnderHostileTexts floods a policy with texts that are made to fill its
// automata: they keep to the bytes that they have, other requests go on, and nothing is
// judged otherwise than before.
func TestMemoryUnderHostileTexts(t *testing.T) {
	floods, each := 2, 60
	switch {
	case raceSlows > 1:
		each = 3
	case testing.Short():
		each = 20
	}
	runtime.GC()
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c := Config{Paranoia: 2, Memory: MinMemory}
	plain, fast := mustNew(t, c), mustNew(t, fast(c))

	var want []string
	requests := known()
	for _, request := range requests {
		line, _ := answerOf(t, plain, request())
		want = append(want, line)
	}
	judge := func(when string) {
		for i, request := range requests {
			if got, j := answerOf(t, fast, request()); got != want[i] && !(got == "clean" && strings.Contains(want[i], "score 0 ")) {
				hr := request()
				t.Errorf("%s: %s %s is %s by %v, plain Coraza: %s", when, hr.Method, hr.RequestURI, got, j, want[i])
			}
		}
	}
	judge("before")

	var floodsDone atomic.Int32
	var group sync.WaitGroup
	most := atomic.Int64{}
	for seed := range uint64(floods) {
		group.Go(func() {
			defer floodsDone.Add(1)
			r := rand.New(rand.NewPCG(seed, 26))
			for range each {
				hr := filter.NewRequest(hostileRequest(r), testTime)
				if _, err := fast.Check(hr); err != nil {
					t.Error(err)
				}
				hr.Release()
				taken, size := fast.Memory()
				if taken > size {
					t.Errorf("%d bytes are taken of %d", taken, size)
				}
				if old := most.Load(); int64(taken) > old {
					most.CompareAndSwap(old, int64(taken))
				}
			}
		})
	}
	var waits []time.Duration
	for int(floodsDone.Load()) < floods {
		begin := time.Now()
		if d := check(t, fast, requests[1]()); d.Verdict != filter.Continue {
			t.Fatalf("a clean request is refused: %+v", d)
		}
		waits = append(waits, time.Since(begin))
		time.Sleep(time.Millisecond)
	}
	group.Wait()
	judge("behind")

	slices.Sort(waits)
	taken, size := fast.Memory()
	t.Logf("%d clean requests: median %v, 99 %% %v, most %v; %d of %d bytes at most, %d now", len(waits),
		waits[len(waits)/2], waits[len(waits)*99/100], waits[len(waits)-1], most.Load(), size, taken)
	if raceSlows == 1 {
		if most.Load() < int64(size)*8/10 {
			t.Errorf("%d of %d bytes: the texts do not fill the automata", most.Load(), size)
		}
		// Far more than one waits for: that of a request that must fill an automaton anew.
		if median := waits[len(waits)/2]; median > 100*time.Millisecond {
			t.Errorf("half of the clean requests take more than %v", median)
		}
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&after)
		// Beside the automata there are the caches, the engines, and what pools keep.
		if grown := int(after.HeapAlloc) - int(before.HeapAlloc); grown > size*3/2+64<<20 {
			t.Errorf("%d bytes on the heap, of which %d are the automata's", grown, size)
		}
	}
}

// TestMemoryOverReloads holds that automata that stay over a reload count in the memory
// of the policy that uses them, and in no other.
func TestMemoryOverReloads(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	load := func(n int) *Stage {
		c := fast(inline(fmt.Sprintf("SecRule ARGS:r%d \"@streq %d\" \"id:%d,phase:2,deny\"\n", n, n, 1+n)))
		c.Include = append([]Include{{Name: CRS}}, c.Include...)
		c.Memory = MinMemory
		s, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	policies, fills := 4, 8
	switch {
	case raceSlows > 1:
		policies, fills = 1, 2
	case testing.Short():
		policies = 2
	}
	s := load(0)
	fill := func() {
		for range fills {
			hr := filter.NewRequest(hostileRequest(r), testTime)
			if _, err := s.Check(hr); err != nil {
				t.Fatal(err)
			}
			hr.Release()
		}
	}
	for n := 1; n <= policies; n++ {
		fill()
		old := s
		taken, size := old.Memory()
		s = load(n)
		now, _ := s.Memory()
		t.Logf("policy %d: %d bytes, %d in the one that replaces it", n-1, taken, now)
		if taken > size || now > size {
			t.Fatalf("%d and %d bytes of %d", taken, now, size)
		}
		if err := old.Close(); err != nil {
			t.Fatal(err)
		}
		if left, _ := old.Memory(); left != 0 {
			t.Errorf("%d bytes count in a policy that has ended", left)
		}
		if again, _ := s.Memory(); again != now {
			t.Errorf("%d bytes, %d before the old policy ended", again, now)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
