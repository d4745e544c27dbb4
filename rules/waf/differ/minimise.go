package differ

import (
	"slices"
	"strings"
	"time"
)

// smallTries is how often the plain engine is asked about each smaller request.
const smallTries = 60

// minimiser makes a case small that differs.
type minimiser struct {
	best Case
	pair *Pair
	own  bool // pair is the minimiser's own
	stop time.Time
}

// Minimise returns the smallest case that it finds within d which still differs,
// and what the engines say of it. The pair stays the caller's.
func Minimise(p *Pair, m Message, d time.Duration) (Case, Comparison) {
	z := &minimiser{best: Case{Setup: p.Setup, Message: m.clone()}, pair: p, stop: time.Now().Add(d)}
	defer func() {
		if z.own {
			_ = z.pair.Close()
		}
	}()
	for changed := true; changed && z.time(); {
		changed = z.message()
		changed = z.setup() || changed
	}
	c := Comparison{Outcome: Differs}
	if r, err := Parse(&z.best.Message); err == nil {
		c = z.pair.Compare(r)
	}
	return z.best, c
}

func (z *minimiser) time() bool { return time.Now().Before(z.stop) }

// try keeps a message that still differs.
func (z *minimiser) try(m Message) bool {
	if !z.time() {
		return false
	}
	r, err := Parse(&m)
	if err != nil || z.pair.compare(r, smallTries).Outcome != Differs {
		return false
	}
	z.best.Message = m
	return true
}

// message makes the request smaller: fewer fields, shorter texts.
func (z *minimiser) message() (changed bool) {
	for i := len(z.best.Message.Header) - 1; i >= 0; i-- {
		m := z.best.Message.clone()
		m.Header = slices.Delete(m.Header, i, i+1)
		changed = z.try(m) || changed
	}
	for _, flag := range []func(*Message){
		func(m *Message) { m.Chunked = false }, func(m *Message) { m.HTTP2 = false },
		func(m *Message) { m.AsIs = false }, func(m *Message) { m.Remote = "" },
		func(m *Message) { m.Method = "GET" }, func(m *Message) { m.Proto = "HTTP/1.1" },
	} {
		m := z.best.Message.clone()
		before := string(m.Raw()) + m.Remote
		if flag(&m); string(m.Raw())+m.Remote != before {
			changed = z.try(m) || changed
		}
	}
	changed = z.shorten(func(m *Message) *string { return &m.Body }) || changed
	changed = z.shorten(func(m *Message) *string { return &m.Target }) || changed
	for i := range z.best.Message.Header {
		changed = z.shorten(func(m *Message) *string { return &m.Header[i].Value }) || changed
	}
	return changed
}

// shorten cuts pieces out of one text, large ones first.
func (z *minimiser) shorten(of func(*Message) *string) (changed bool) {
	for n := len(*of(&z.best.Message)); n > 0; n /= 2 {
		for at := 0; at < len(*of(&z.best.Message)) && z.time(); {
			m := z.best.Message.clone()
			text := of(&m)
			*text = (*text)[:at] + (*text)[min(len(*text), at+n):]
			if z.try(m) {
				changed = true
			} else {
				at += n
			}
		}
	}
	return changed
}

// setup takes rule files, then directives, away.
func (z *minimiser) setup() (changed bool) {
	for i := len(z.best.Setup.Files) - 1; i >= 0; i-- {
		s := z.best.Setup
		s.Files = slices.Delete(slices.Clone(s.Files), i, i+1)
		if z.trySetup(s) {
			changed = true
			continue
		}
		lines := directives(z.best.Setup.Files[i].Text)
		for n := len(lines) / 2; n > 0; n /= 2 {
			for at := 0; at < len(lines) && z.time(); {
				left := slices.Delete(slices.Clone(lines), at, min(len(lines), at+n))
				s := z.best.Setup
				s.Files = slices.Clone(s.Files)
				s.Files[i].Text = strings.Join(left, "")
				if z.trySetup(s) {
					lines, changed = left, true
				} else {
					at += n
				}
			}
		}
	}
	return changed
}

// trySetup keeps a set-up with which the request still differs.
func (z *minimiser) trySetup(s Setup) bool {
	if !z.time() {
		return false
	}
	p, err := Open(s)
	if err != nil {
		return false
	}
	r, err := Parse(&z.best.Message)
	if err != nil || p.compare(r, smallTries).Outcome != Differs {
		_ = p.Close()
		return false
	}
	if z.own {
		_ = z.pair.Close()
	}
	z.pair, z.own, z.best.Setup = p, true, s
	return true
}

// directives splits a rule file: a directive with its continued lines and the links
// of its chain is one piece.
func directives(text string) []string {
	var out []string
	continued := false
	for line := range strings.Lines(text) {
		if continued && len(out) > 0 {
			out[len(out)-1] += line
		} else {
			out = append(out, line)
		}
		l := strings.TrimRight(line, "\r\n")
		continued = strings.HasSuffix(l, "\\") || strings.Contains(l, ",chain\"") || strings.Contains(l, ",chain,") || strings.Contains(l, "\"chain")
	}
	return out
}
