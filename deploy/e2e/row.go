package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Row is one request of the conformance table and what must be answered.
type Row struct {
	ID     string            `json:"id"`
	Desc   string            `json:"desc"`
	Ref    string            `json:"ref"`     // where the expectation comes from
	Req    []string          `json:"req"`     // request line and header lines, with variables
	Body   string            `json:"body"`    // with variables
	Src    string            `json:"src"`     // address to send from; empty for the default
	Repeat string            `json:"repeat"`  // how often to send it; the last answer counts
	Status []int             `json:"status"`  // any of these
	Has    map[string]string `json:"has"`     // header fields that are there and match
	Not    []string          `json:"not"`     // "Name": absent; "Name: regexp": no match
	NoBody bool              `json:"no_body"` // no byte follows the header
	BodyRe string            `json:"body_re"`
	BodyNo string            `json:"body_not"`
	SameAs string            `json:"same_as"` // row whose answer is equal in every byte but Date
	Level  string            `json:"level"`   // "should" rows may warn; others must hold
}

// ReadRows decodes the table. It refuses keys that it does not know, rows
// without id or status, and ids that stand twice.
func ReadRows(r io.Reader) ([]Row, error) {
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	var rows []Row
	if err := dec.Decode(&rows); err != nil {
		return nil, fmt.Errorf("conformance table: %w", err)
	}
	seen := map[string]bool{}
	for i, row := range rows {
		switch {
		case row.ID == "" || len(row.Req) == 0 || len(row.Status) == 0:
			return nil, fmt.Errorf("conformance table: row %d (%q) has no id, request or status", i, row.ID)
		case seen[row.ID]:
			return nil, fmt.Errorf("conformance table: id %s stands twice", row.ID)
		case row.SameAs != "" && !seen[row.SameAs]:
			return nil, fmt.Errorf("conformance table: %s is to be as %s, which does not stand before it", row.ID, row.SameAs)
		case row.Level != "" && row.Level != "should":
			return nil, fmt.Errorf("conformance table: %s has the level %q", row.ID, row.Level)
		}
		seen[row.ID] = true
	}
	return rows, nil
}

// Vars are the values of the variables ${NAME}. An empty value takes a header
// line that holds nothing else away.
type Vars map[string]string

var (
	variable = regexp.MustCompile(`\$\{([A-Z_]+)\}`)
	padding  = regexp.MustCompile(`@@PAD:(.):([0-9]+)@@`)
)

// maxPadding bounds what one @@PAD:c:N@@ stands for.
const maxPadding = 16 << 20

// expand replaces variables, once, and paddings. missing are the names of
// variables that have no value.
func (v Vars) expand(s string) (out string, missing []string) {
	s = variable.ReplaceAllStringFunc(s, func(m string) string {
		name := m[2 : len(m)-1]
		value, ok := v[name]
		if !ok {
			missing = append(missing, name)
		}
		return value
	})
	s = padding.ReplaceAllStringFunc(s, func(m string) string {
		parts := padding.FindStringSubmatch(m)
		n, err := strconv.Atoi(parts[2])
		if err != nil || n > maxPadding {
			missing = append(missing, m)
			return ""
		}
		return strings.Repeat(parts[1], n)
	})
	return s, missing
}

// MissingError names the variables of a row that have no value.
type MissingError struct{ Names []string }

// Error implements error.
func (e *MissingError) Error() string { return "no value for " + strings.Join(e.Names, ", ") }

// Message is a row with its variables filled in.
type Message struct {
	Method string
	Src    string // empty for any
	Head   []byte // with the empty line at the end
	Body   []byte
	Repeat int
	Waits  bool // for a 100 before the body is sent
}

// Message fills in the variables of a row. What the row leaves out is added: a
// Host field with the variable HOST, Content-Length beside a body, Connection:
// close, and the row's id as X-Row, by which an upstream tells rows apart. A row
// that has such a field of its own, empty or twice, is sent as it is written.
// The error is a *MissingError.
func (r Row) Message(v Vars) (Message, error) {
	var missing []string
	expand := func(s string) string {
		out, names := v.expand(s)
		missing = append(missing, names...)
		return out
	}
	m := Message{Src: expand(r.Src), Body: []byte(expand(r.Body)), Repeat: 1}
	if r.Repeat != "" {
		n, err := strconv.Atoi(expand(r.Repeat))
		if err != nil || n < 1 {
			missing = append(missing, r.Repeat)
		}
		m.Repeat = n
	}

	var lines []string
	names := map[string]bool{}
	for i, line := range r.Req {
		line = expand(line)
		if line == "" {
			continue
		}
		lines = append(lines, line)
		if i > 0 {
			name, _, _ := strings.Cut(line, ":")
			names[strings.ToLower(name)] = true
		}
	}
	add := func(name, value string) {
		if !names[strings.ToLower(name)] {
			lines = append(lines, name+": "+value)
		}
	}
	if !names["host"] {
		add("Host", expand("${HOST}"))
	}
	if len(m.Body) > 0 && !names["transfer-encoding"] {
		add("Content-Length", strconv.Itoa(len(m.Body)))
	}
	add("Connection", "close")
	add("X-Row", r.ID)
	if len(missing) > 0 {
		slices.Sort(missing)
		return Message{}, &MissingError{Names: slices.Compact(missing)}
	}
	m.Method, _, _ = strings.Cut(lines[0], " ")
	m.Head = []byte(strings.Join(lines, "\r\n") + "\r\n\r\n")
	m.Waits = names["expect"]
	return m, nil
}
