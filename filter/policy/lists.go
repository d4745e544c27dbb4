package policy

import (
	"crypto/sha256"
	"maps"
	"slices"
	"time"

	"github.com/moatwaf/moat/rules"
	"github.com/moatwaf/moat/rules/list"
	"github.com/moatwaf/moat/rules/match"
)

// List is a named address list: entries, or where they come from.
type List struct {
	at      rules.Located[string] // the list itself
	Entries []rules.Located[string]
	Source  *ListSource
}

// ListSource is the form of a list that is kept outside of the policy.
type ListSource struct {
	File    rules.Located[string] `yaml:"file" doc:"file with one address, prefix or range a line"`
	URL     rules.Located[string] `yaml:"url" doc:"where the list is published, by https or http"`
	Store   rules.Located[string] `yaml:"store" doc:"name of a list that is kept in the policy's store, edited there by moat lists or POST /moat/lists/NAME, and the same on all nodes"`
	Format  rules.Located[string] `yaml:"format" enum:"auto|plain|netset|spamhaus" doc:"notation; default: told from the content"`
	Every   time.Duration         `yaml:"every" min:"1m" doc:"interval of refreshes; default 1h"`
	MaxSize rules.Size            `yaml:"max_size" min:"1KiB" max:"1GiB" doc:"largest list that is taken from the URL; default 64MiB"`
}

// UnmarshalRules implements rules.Unmarshaler.
func (s *List) UnmarshalRules(n *rules.Node) rules.Errors {
	s.at = rules.Located[string]{Pos: n.Pos(), Path: n.Path()}
	switch n.Kind() {
	case rules.List:
		return n.Decode(&s.Entries)
	case rules.Mapping:
		s.Source = new(ListSource)
		if errs := n.Decode(s.Source); len(errs) > 0 {
			return errs
		}
		return s.Source.check(n)
	}
	return n.Expected("a list of addresses, or a mapping with file, url or store", "")
}

// check reports what a list says too much, or too little.
func (s *ListSource) check(n *rules.Node) rules.Errors {
	var places []rules.Located[string]
	for _, at := range []rules.Located[string]{s.File, s.URL, s.Store} {
		if at.Set() {
			places = append(places, at)
		}
	}
	switch {
	case len(places) == 0:
		return rules.Errors{n.Errorf("write file:, url: or store:", "the list says not where it comes from")}
	case len(places) > 1:
		return rules.Errors{places[1].Errorf("make two lists of it and name both where they are used", "a list has one of file, url and store")}
	case s.Store.Set() && (s.Format.Set() || s.Every != 0 || s.MaxSize != 0):
		return rules.Errors{s.Store.Errorf("remove them", "a list in the store has neither format, every nor max_size")}
	}
	return nil
}

// JSONSchema implements rules.Describer.
func (s *List) JSONSchema() map[string]any {
	return map[string]any{"anyOf": []any{
		map[string]any{"type": "array", "items": map[string]any{"type": "string"}},
		rules.TypeSchema[ListSource](),
	}}
}

// addrSet is a loaded list.
type addrSet interface {
	match.AddrSet
	Len() int
}

// lists loads every list of the policy.
func (l *loader) lists() map[string]addrSet {
	sets := make(map[string]addrSet, len(l.policy.Lists))
	for _, name := range slices.Sorted(maps.Keys(l.policy.Lists)) {
		spec := l.policy.Lists[name]
		set := l.list(name, &spec)
		if set == nil {
			// The name of a faulty list is a name still: what refers to it is
			// in order.
			set = (*list.Set)(nil)
		}
		sets[name] = set
		l.summary.ListEntries += set.Len()
	}
	l.summary.Lists = len(sets)
	return sets
}

// list returns a loaded list; nil after a fault.
func (l *loader) list(name string, spec *List) addrSet {
	if spec.Source == nil {
		set, errs := list.ParseEntries(spec.Entries)
		l.errs = append(l.errs, errs...)
		return set
	}
	format, err := list.ParseFormat(spec.Source.Format.Value)
	if err != nil {
		return nil // the decoder has reported it
	}
	if spec.Source.Store.Set() {
		return l.stored(name, spec.Source)
	}
	if spec.Source.URL.Set() {
		return l.published(name, spec.Source, format)
	}
	file := spec.Source.File
	if !file.Set() {
		return nil
	}
	data, ok := l.file(file)
	if !ok {
		return nil
	}
	key := setKey{sum: sha256.Sum256(data), format: format}
	if set := l.state.set(key); set != nil {
		l.sets[key] = set
		return set
	}
	set, errs := list.Parse(l.path(file.Value), data, format)
	if len(errs) > 0 {
		l.errs = append(l.errs, errs...)
		return nil
	}
	l.sets[key] = set
	return set
}
