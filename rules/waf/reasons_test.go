package waf

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// The rules that ship cost the fast path nothing; those of an operator are told apart
// by whether they cost it for every request or for those that they match.
func TestReasonsOfRules(t *testing.T) {
	ready := mustNew(t, fast(Config{}))
	if n := len(ready.Unproved()) + len(ready.Unfollowed()) + ready.Unfit(); n != 0 {
		t.Errorf("the Core Rule Set: %v, %v, %d automata", ready.Unproved(), ready.Unfollowed(), ready.Unfit())
	}
	s := mustNew(t, fast(inline(`SecRule TIME_HOUR "@lt 6" "id:1,phase:1,deny"
SecRule REQUEST_FILENAME "@streq /a" "id:2,phase:1,pass,nolog,ctl:requestBodyLimit=100"
SecRule REQUEST_FILENAME "@streq /b" "id:3,phase:1,pass,log,msg:'%{tx.nothing}'"
SecRule REQUEST_FILENAME "@streq /c" "id:4,phase:1,deny,chain"
SecRule ENV:HOME "@rx ."
SecRule REQUEST_FILENAME "@streq /d" "id:5,phase:1,deny,msg:'m'"
SecRule ARGS:a "@rx ^\d+$" "id:6,phase:2,pass,nolog,setvar:tx.a=1"
`)))
	if off := s.ProofOff(); off != "" {
		t.Fatal(off)
	}
	if got := slices.Sorted(maps.Keys(s.Unproved())); !slices.Equal(got, []int{1}) {
		t.Errorf("unproved: %v", s.Unproved())
	}
	if got := slices.Sorted(maps.Keys(s.Unfollowed())); !slices.Equal(got, []int{2, 3, 4}) {
		t.Errorf("unfollowed: %v", s.Unfollowed())
	}
	if mustNew(t, inline(`SecAction "id:1,phase:1,pass"`)).Unfollowed() != nil {
		t.Error("the plain engine follows nothing")
	}
}

// TestUnfit holds that rules for which there is no memory are told of, and judged as
// plain Coraza judges them.
func TestUnfit(t *testing.T) {
	if raceSlows > 1 {
		t.Skip("one goroutine, and many rules")
	}
	var rules strings.Builder
	for i := range 400 {
		fmt.Fprintf(&rules, "SecRule ARGS:n%d|REQUEST_HEADERS:X-%d \"@rx ^(?:[a-z%c\\x{3b1}-\\x{3c9}]{3,60}x|\\pL{2,40}\\d%d)+$\" \"id:%d,phase:2,deny,msg:'m'\"\n", i, i, 'A'+i%26, i, 1000+i)
	}
	c := inline(rules.String())
	c.Memory = MinMemory
	plain, judged := mustNew(t, c), mustNew(t, fast(c))
	taken, size := judged.Memory()
	t.Logf("%d automata do not fit; %d of %d bytes", judged.Unfit(), taken, size)
	if judged.Unfit() == 0 || taken > size {
		t.Errorf("%d automata do not fit; %d of %d bytes", judged.Unfit(), taken, size)
	}
	for _, target := range []string{"/?n1=abcx", "/?n300=abc", "/?n399=ab399ab399", "/"} {
		equally(t, plain, judged, func() *http.Request { return newHTTP("GET", target, "", "X-7: abcdx") })
	}
	c.Memory = 512 << 20
	if s := mustNew(t, fast(c)); s.Unfit() != 0 {
		taken, size := s.Memory()
		t.Errorf("%d automata do not fit, with %d of %d bytes taken", s.Unfit(), taken, size)
	}
}
