package list

import (
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"unicode/utf8"

	"github.com/moatwaf/moat/rules"
)

// Bounds of a list.
const (
	// MaxEntries is how many entries a list may have. In memory they take 40
	// bytes each at most once they are read.
	MaxEntries = 1 << 22
	// MaxFaults is how many faulty lines are reported; further ones are counted.
	MaxFaults = 20
)

// Format is the notation of a list.
type Format uint8

const (
	// Auto tells the notation from the content and the file name.
	Auto Format = iota
	// Plain is one address, prefix or range a line; # and ; begin a comment. The
	// .netset and .ipset files of FireHOL are in this notation.
	Plain
	// Spamhaus is the DROP list of the Spamhaus Project: the text (a prefix, a
	// semicolon and a reference a line) or the JSON (an object a line with the
	// key cidr, and one with metadata at the end).
	Spamhaus
)

// FormatNames are the names that ParseFormat takes.
var FormatNames = []string{"auto", "plain", "netset", "spamhaus"}

// ParseFormat returns the format of a name in a policy. netset is another name
// for plain, and the empty name is auto.
func ParseFormat(name string) (Format, error) {
	switch name {
	case "", "auto":
		return Auto, nil
	case "plain", "netset":
		return Plain, nil
	case "spamhaus":
		return Spamhaus, nil
	}
	return Auto, fmt.Errorf("unknown list format %q", name)
}

// String returns the name of the format.
func (f Format) String() string {
	switch f {
	case Auto:
		return "auto"
	case Plain:
		return "plain"
	case Spamhaus:
		return "spamhaus"
	}
	return "invalid"
}

// isJSON reports whether the content is lines of JSON.
func (f Format) isJSON(file, text string) bool {
	if f == Plain {
		return false
	}
	// A list that has lost its content to an error page must not pass for an
	// empty one in the other notation: what is neither fails in either.
	trimmed := strings.TrimLeft(text, " \t\r\n")
	return strings.HasPrefix(trimmed, "{") || f == Auto && trimmed != "" && path.Ext(file) == ".json"
}

// Parse reads a list. file is the name that the places of faults carry. It
// returns the set, or every faulty line, a bounded number of them: a list with a
// fault is refused as a whole. An empty list is a good one.
func Parse(file string, data []byte, format Format) (*Set, rules.Errors) {
	text := strings.TrimPrefix(string(data), "\ufeff")
	p := parser{file: file}
	if format.isJSON(file, text) {
		p.json(text)
	} else {
		p.plain(text)
	}
	return p.finish()
}

// ParseEntries reads entries that were written into the policy, with the same
// notation as the lines of a plain list, and without comments.
func ParseEntries(entries []rules.Located[string]) (*Set, rules.Errors) {
	var p parser
	for _, e := range entries {
		if first, last, f := parseEntry(strings.TrimSpace(e.Value)); f != nil {
			p.add(e.Errorf(f.hint, "%s", f.msg))
		} else if p.builder.add(first, last); p.tooMany(e.Pos) {
			break
		}
	}
	return p.finish()
}

// parser collects the entries and faults of a list.
type parser struct {
	file    string
	builder builder
	errs    rules.Errors
	dropped int
}

func (p *parser) add(err *rules.Error) {
	if len(p.errs) >= MaxFaults {
		p.dropped++
		return
	}
	p.errs = append(p.errs, err)
}

func (p *parser) finish() (*Set, rules.Errors) {
	if p.dropped > 0 {
		p.errs.Add(rules.Position{File: p.file}, "", "", "%d more faulty entries", p.dropped)
	}
	if p.errs != nil {
		return nil, p.errs
	}
	return p.builder.build(), nil
}

// tooMany reports, and adds as a fault, that the list is over its bound.
func (p *parser) tooMany(pos rules.Position) bool {
	if p.builder.len() <= MaxEntries {
		return false
	}
	p.errs.Add(pos, "", "", "the list has more than %d entries", MaxEntries)
	return true
}

// plain reads one entry a line.
func (p *parser) plain(text string) {
	number := 0
	for line := range strings.Lines(text) {
		number++
		entry := line
		if i := strings.IndexAny(entry, "#;"); i >= 0 {
			entry = entry[:i]
		}
		entry = strings.Trim(entry, " \t\r\n")
		if entry == "" {
			continue
		}
		first, last, f := parseEntry(entry)
		if f == nil {
			if p.builder.add(first, last); p.tooMany(rules.Position{File: p.file, Line: number}) {
				return
			}
			continue
		}
		if len(p.errs) >= MaxFaults {
			p.dropped++
			continue
		}
		before := line[:strings.Index(line, entry)+f.offset]
		p.add(&rules.Error{
			Pos: rules.Position{File: p.file, Line: number, Column: utf8.RuneCountInString(before) + 1},
			Msg: f.msg, Hint: f.hint,
		})
	}
}

// spamhausLine is a line of drop_v4.json or drop_v6.json. Keys that are of no use
// here (sblid, rir, timestamp, copyright) are not read.
type spamhausLine struct {
	Type    string `json:"type"`
	CIDR    string `json:"cidr"`
	ASN     any    `json:"asn"`
	Records *int   `json:"records"`
}

// json reads one object a line. The line of metadata counts the entries, so a
// list with a gap is noticed. An entry that stands twice is one to some counts, so
// more entries than counted are no fault.
func (p *parser) json(text string) {
	number, metadata := 0, 0
	for line := range strings.Lines(text) {
		number++
		pos := rules.Position{File: p.file, Line: number, Column: 1}
		if line = strings.Trim(line, " \t\r\n"); line == "" {
			continue
		}
		if metadata > 0 {
			p.add(&rules.Error{Pos: pos, Msg: fmt.Sprintf("a line behind the metadata of line %d", metadata)})
			return
		}
		var l spamhausLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			p.add(&rules.Error{Pos: pos, Msg: "not a JSON object: " + quote(line), Hint: `one object a line, such as {"cidr":"192.0.2.0/24"}`})
			continue
		}
		if l.Type == "metadata" {
			metadata = number
			if l.Records != nil && *l.Records > p.builder.len() && p.errs == nil {
				p.add(&rules.Error{Pos: pos, Msg: fmt.Sprintf("the metadata counts %d records, the list has %d", *l.Records, p.builder.len()), Hint: "the file is not complete"})
			}
			continue
		}
		entry := strings.TrimSpace(l.CIDR)
		if entry == "" {
			hint := ""
			if l.ASN != nil {
				hint = "a list of networks by number is no list of addresses"
			}
			p.add(&rules.Error{Pos: pos, Msg: `the key "cidr" is missing`, Hint: hint})
			continue
		}
		first, last, f := parseEntry(entry)
		if f != nil {
			p.add(&rules.Error{Pos: pos, Msg: f.msg, Hint: f.hint})
		} else if p.builder.add(first, last); p.tooMany(pos) {
			return
		}
	}
}
