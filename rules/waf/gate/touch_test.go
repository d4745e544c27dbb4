package gate

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"

	"github.com/moatwaf/moat/rules/waf/seclang"
)

// transformation returns the engine's own.
func transformation(tb testing.TB, name string) plugintypes.Transformation {
	tb.Helper()
	files := []seclang.File{{Name: "f", Text: fmt.Sprintf(`SecRule ARGS "@rx x" "id:1,phase:2,pass,t:%s"`, name)}}
	_, gated, _ := load(tb, files)
	// The gate's rules stand before it.
	slot := NewSlot()
	defer slot.Loaded()
	p, err := seclang.Parse(append([]seclang.File{{Name: "base", Text: base}, {Name: "gate", Text: slot.Directives(gate1, gate2)}}, files...))
	if err != nil {
		tb.Fatal(err)
	}
	c, err := p.Verify(gated)
	if err != nil {
		tb.Fatal(err)
	}
	last := c.Links[len(c.Links)-1]
	return last[0].Transforms[0]
}

// TestTrigger holds every trigger against the engine's transformation: a text
// without the trigger stays as it is.
func TestTrigger(t *testing.T) {
	for name, trig := range triggers {
		t.Run(name, func(t *testing.T) {
			apply := transformation(t, name)
			var free []byte
			for b := range 256 {
				if touches[b]&trig == 0 {
					free = append(free, byte(b))
				}
			}
			if len(free) == 256 {
				t.Fatal("no byte is a trigger")
			}
			r := rand.New(rand.NewPCG(1, uint64(len(name))))
			for n := range 50_000 {
				text := make([]byte, n%24)
				for i := range text {
					text[i] = free[r.IntN(len(free))]
				}
				got, _, err := apply(string(text))
				if err != nil || got != string(text) {
					t.Fatalf("%q becomes %q (%v)", text, got, err)
				}
			}
		})
	}
}

// TestTouchOf holds the kinds of a text to those of its bytes.
func TestTouchOf(t *testing.T) {
	for b := range 256 {
		if got := TouchOf("..x" + string([]byte{byte(b)})); got != touches[b]|touches['.']|touches['x'] {
			t.Errorf("%#x: %b", b, got)
		}
	}
	if TouchOf("") != 0 {
		t.Error("the empty text has kinds")
	}
}
