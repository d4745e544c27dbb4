package waf

import (
	"strconv"
	"strings"

	"github.com/corazawaf/coraza/v3/collection"
	"github.com/corazawaf/coraza/v3/experimental/plugins"
	"github.com/corazawaf/coraza/v3/experimental/plugins/plugintypes"
	"github.com/corazawaf/coraza/v3/types"
)

// The engine remembers transformed values by the address of their key and by
// their index in the collection, whose order changes from one rule to the next.
// Two values under one key address can therefore receive each other's transformed
// text, and a rule then judges the wrong one. Every value gets a key of its own
// here, before the first rule of a phase reads it.

// prepareAction is the name of the action that prepares phase 2. It belongs to
// the first rule of that phase, behind the body parsers.
const prepareAction = "moatprepare"

func init() {
	plugins.RegisterAction(prepareAction, func() plugintypes.Action { return &prepare{} })
}

// prepare gives every value of the request's collections a key of its own, and
// holds those collections to the argument limit that the engine does not count.
type prepare struct{ limit int }

// Init takes the limit.
func (p *prepare) Init(_ plugintypes.RuleMetadata, limit string) (err error) {
	p.limit, err = strconv.Atoi(limit)
	return err
}

// Type implements plugintypes.Action.
func (p *prepare) Type() plugintypes.ActionType { return plugintypes.ActionTypeNondisruptive }

// Evaluate implements plugintypes.Action.
func (p *prepare) Evaluate(_ plugintypes.RuleMetadata, tx plugintypes.TransactionState) {
	v := tx.Variables()
	if strings.EqualFold(v.RequestBodyProcessor().Get(), processors[kindForm]) {
		restoreForm(v.ArgsPost(), v.RequestBody().Get(), p.limit)
	}
	for _, m := range []collection.Map{
		v.ArgsPost(), v.ArgsPath(),
		v.MultipartPartHeaders(), v.MultipartName(), v.MultipartFilename(),
		v.MultipartFilenameCharset(), v.MultipartFilenameLanguage(),
		v.Files(), v.FilesNames(), v.FilesSizes(), v.FilesTmpContent(),
	} {
		n := distinctKeys(m)
		if n > p.limit {
			set(v.ArgumentsLimitReached(), "1")
		}
	}
	for _, m := range []collection.Map{v.RequestXML(), v.XML()} {
		distinctKeys(m)
		if len(m.Get("/*")) > p.limit {
			set(v.ArgumentsLimitReached(), "1")
		}
	}
}

// restoreForm puts back the values of a form that the engine's parser has lost:
// it stores the values of a name as a whole, in a collection that folds case, and
// so keeps one of two names that differ in case only. Values that were not lost
// stay as they are.
func restoreForm(m collection.Map, body string, limit int) {
	pairs := splitForm(body, limit)
	if len(m.FindAll()) >= len(pairs) {
		return
	}
	for _, d := range m.FindAll() {
		m.Remove(d.Key())
	}
	for _, pair := range pairs {
		m.Add(ownKey(unescapeForm(pair[0])), unescapeForm(pair[1]))
	}
}

// splitForm returns the pairs of a form, not unescaped, as the engine's parser
// tells them apart: limit at most, without empty ones.
func splitForm(body string, limit int) [][2]string {
	var pairs [][2]string
	for pair := range strings.SplitSeq(body, "&") {
		if pair == "" {
			continue
		}
		if len(pairs) == limit {
			break
		}
		name, value, _ := strings.Cut(pair, "=")
		pairs = append(pairs, [2]string{name, value})
	}
	return pairs
}

// distinctKeys gives every value of a collection a key of its own, and returns
// how many values there are. A collection without repeated or empty names stays
// as it is.
func distinctKeys(m collection.Map) int {
	all := m.FindAll()
	if len(all) == 0 || !sharesKeys(all) {
		return len(all)
	}
	// Values of one name come together and in order, and so does what is put back.
	for _, d := range all {
		m.Remove(d.Key())
	}
	for _, d := range all {
		m.Add(ownKey(d.Key()), d.Value())
	}
	return len(all)
}

// sharesKeys reports whether two values could have the same key address: values
// of one name, or of the empty name, which has no address at all.
func sharesKeys(all []types.MatchData) bool {
	previous := ""
	for i, d := range all {
		key := strings.ToLower(d.Key()) // the collections fold the case so
		if key == "" || i > 0 && key == previous {
			return true
		}
		previous = key
	}
	return false
}

// ownKey returns a copy of a key at an address of its own. The empty key too has
// one: the address of the byte that it was cut from.
func ownKey(key string) string {
	if key == "" {
		return strings.Clone("\x00")[:0]
	}
	return strings.Clone(key)
}

// set sets a variable of the transaction. The engine's interface has only the
// getter, its type the setter.
func set(v collection.Single, value string) {
	v.(interface{ Set(string) }).Set(value)
}
