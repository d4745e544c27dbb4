package differ

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/moatwaf/moat/rules/waf"
)

// Case is one comparison that can be kept in a file: a set-up and a request.
//
// The file is a txtar archive. Its comment tells what it is about; the file "setup"
// has lines of a word and a value, "request" the head and the body of the request as
// quoted Go strings, one a line, and every other file is a rule file.
type Case struct {
	Comment string
	Setup   Setup
	Message Message
}

var oversizes = []waf.Oversize{waf.OversizeBlock, waf.OversizeInspect, waf.OversizePass}

// Format returns the case as a file.
func (c *Case) Format() []byte {
	var setup, request strings.Builder
	line := func(b *strings.Builder, word string, value any) { fmt.Fprintf(b, "%s %v\n", word, value) }
	s, m := &c.Setup, &c.Message
	line(&setup, "crs", s.CRS)
	line(&setup, "paranoia", s.Paranoia)
	line(&setup, "threshold", s.Threshold)
	line(&setup, "body_limit", s.BodyLimit)
	line(&setup, "oversize", s.Oversize)
	line(&setup, "own_methods", s.OwnMethods)
	line(&request, "line", strconv.Quote(m.Method+" "+m.Target+" "+m.Proto))
	for _, f := range m.Header {
		line(&request, "field", strconv.Quote(f.Name+": "+f.Value))
	}
	for rest := m.Body; rest != ""; {
		n := min(len(rest), 160)
		if i := strings.IndexByte(rest[:n], '\n'); i >= 0 {
			n = i + 1
		}
		line(&request, "body", strconv.Quote(rest[:n]))
		rest = rest[n:]
	}
	flags := []struct {
		word string
		on   bool
	}{{"chunked", m.Chunked}, {"as_is", m.AsIs}, {"http2", m.HTTP2}}
	for _, f := range flags {
		if f.on {
			line(&request, f.word, true)
		}
	}
	if m.Remote != "" {
		line(&request, "remote", m.Remote)
	}
	a := &txtar.Archive{Comment: []byte(strings.TrimRight(c.Comment, "\n") + "\n"), Files: []txtar.File{
		{Name: "setup", Data: []byte(setup.String())},
		{Name: "request", Data: []byte(request.String())},
	}}
	for _, f := range s.Files {
		a.Files = append(a.Files, txtar.File{Name: f.Name, Data: []byte(f.Text)})
	}
	return txtar.Format(a)
}

// ParseCase reads a file that Format wrote.
func ParseCase(data []byte) (*Case, error) {
	a := txtar.Parse(data)
	c := &Case{Comment: string(a.Comment)}
	for _, f := range a.Files {
		var read func(word, value string) error
		switch f.Name {
		case "setup":
			read = c.Setup.read
		case "request":
			read = c.Message.read
		default:
			c.Setup.Files = append(c.Setup.Files, File{f.Name, string(f.Data)})
			continue
		}
		n := 0
		for line := range strings.Lines(string(f.Data)) {
			n++
			word, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
			if err := read(word, value); err != nil {
				return nil, fmt.Errorf("%s, line %d: %s: %w", f.Name, n, word, err)
			}
		}
	}
	return c, nil
}

func (s *Setup) read(word, value string) (err error) {
	switch word {
	case "crs":
		s.CRS, err = strconv.ParseBool(value)
	case "paranoia":
		s.Paranoia, err = strconv.Atoi(value)
	case "threshold":
		s.Threshold, err = strconv.Atoi(value)
	case "body_limit":
		s.BodyLimit, err = strconv.ParseInt(value, 10, 64)
	case "own_methods":
		s.OwnMethods, err = strconv.ParseBool(value)
	case "oversize":
		for _, o := range oversizes {
			if o.String() == value {
				s.Oversize = o
				return nil
			}
		}
		err = fmt.Errorf("%q is none of them", value)
	default:
		err = fmt.Errorf("unknown word")
	}
	return err
}

func (m *Message) read(word, value string) (err error) {
	switch word {
	case "chunked":
		m.Chunked = true
	case "as_is":
		m.AsIs = true
	case "http2":
		m.HTTP2 = true
	case "remote":
		m.Remote = value
	case "line", "field", "body":
		if value, err = strconv.Unquote(value); err != nil {
			return err
		}
		switch word {
		case "line":
			first, last := strings.IndexByte(value, ' '), strings.LastIndexByte(value, ' ')
			if first < 0 || first == last {
				return fmt.Errorf("%q is no request line", value)
			}
			m.Method, m.Target, m.Proto = value[:first], value[first+1:last], value[last+1:]
		case "field":
			name, v, _ := strings.Cut(value, ": ")
			m.Header = append(m.Header, Field{name, v})
		case "body":
			m.Body += value
		}
	default:
		err = fmt.Errorf("unknown word")
	}
	return err
}

// difference returns the words that only one of two lists has.
func difference(want, got string) string {
	a, b := strings.Fields(strings.Trim(want, "[]")), strings.Fields(strings.Trim(got, "[]"))
	count := map[string]int{}
	for _, w := range a {
		count[w]++
	}
	var extra []string
	for _, w := range b {
		if count[w]--; count[w] < 0 {
			extra = append(extra, "+"+w)
		}
	}
	for _, w := range a {
		if count[w] > 0 {
			extra = append(extra, "-"+w)
			count[w] = 0
		}
	}
	if extra == nil {
		return "in another order"
	}
	return strings.Join(extra, " ")
}
