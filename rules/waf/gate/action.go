package gate

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/corazawaf/coraza/v3/experimental/plugins"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
)

// ActionName is the SecLang action that applies a gate. It belongs to rules of
// moat only.
const ActionName = "moatgate"

func init() {
	plugins.RegisterAction(ActionName, func() plugintypes.Action { return &action{} })
}

// Slot is the place of a Gate in an engine. The engine is loaded first, with the
// directives of the slot; then the gate is made from it and set. Until then, and
// without one, nothing is taken away.
type Slot struct {
	name string
	gate atomic.Pointer[Gate]
}

// slots are those whose engine is being loaded, by name.
var (
	slots      sync.Map
	slotNumber atomic.Uint64
)

// NewSlot returns an empty slot. The caller calls Loaded when the engine is loaded,
// or has failed.
func NewSlot() *Slot {
	s := &Slot{name: strconv.FormatUint(slotNumber.Add(1), 10)}
	slots.Store(s.name, s)
	return s
}

// Directives returns the rules that apply the gate, one for phase 1 and one for
// phase 2, with the given numbers. They must stand before all rules that are to be
// gated, and behind those that change the collections of a request.
func (s *Slot) Directives(phase1, phase2 int) string {
	return fmt.Sprintf(`SecAction "id:%d,phase:1,pass,t:none,nolog,noauditlog,%s:%s"
SecAction "id:%d,phase:2,pass,t:none,nolog,noauditlog,%s:%s"
`, phase1, ActionName, s.name, phase2, ActionName, s.name)
}

// Loaded ends the time in which an engine can take the slot by its name.
func (s *Slot) Loaded() { slots.Delete(s.name) }

// Set puts a gate into the slot; nil takes it out. It is safe for concurrent use.
func (s *Slot) Set(g *Gate) { s.gate.Store(g) }

// action applies the gate of its slot.
type action struct{ slot *Slot }

// Init implements plugintypes.Action.
func (a *action) Init(_ plugintypes.RuleMetadata, name string) error {
	s, ok := slots.Load(name)
	if !ok {
		return fmt.Errorf("%s is moat's own", ActionName)
	}
	a.slot = s.(*Slot)
	return nil
}

// Type implements plugintypes.Action.
func (a *action) Type() plugintypes.ActionType { return plugintypes.ActionTypeNondisruptive }

// Evaluate implements plugintypes.Action.
func (a *action) Evaluate(_ plugintypes.RuleMetadata, tx plugintypes.TransactionState) {
	if g := a.slot.gate.Load(); g != nil {
		g.Apply(tx)
	}
}
