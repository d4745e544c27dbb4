package clientip

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// reference is the slow twin of ClientAddr: it splits the whole header from the
// left, as the grammars describe it, and only then walks over the elements from
// the right. It knows no bounds, and it cannot read a header of which any part
// breaks the grammar of quoted strings.
type reference struct {
	trusted []netip.Prefix
}

// refElement is an element of a header: an address, hidden, or neither.
type refElement struct {
	addr   netip.Addr
	hidden bool
}

func (r reference) trusts(a netip.Addr) bool {
	return slices.ContainsFunc(r.trusted, func(p netip.Prefix) bool { return p.Contains(a) })
}

// walk returns the client, ok false where an element to be read is no address.
func (r reference) walk(peer netip.Addr, elements []refElement) (client netip.Addr, ok bool) {
	if !r.trusts(peer) {
		return peer, true
	}
	client = peer
	for _, e := range slices.Backward(elements) {
		switch {
		case e.hidden:
			return client, true
		case !e.addr.IsValid():
			return netip.Addr{}, false
		case !r.trusts(e.addr):
			return e.addr, true
		}
		client = e.addr
	}
	return client, true
}

var (
	refPort = regexp.MustCompile(`^[0-9]{1,5}$`)
	refObf  = regexp.MustCompile(`^_[0-9A-Za-z._-]+$`)
	refNode = regexp.MustCompile(`^(?:\[([^\]]*:[^\]]*)\]|([^:\[\]]*)|([^:\[\]]*:[^\[\]]*:[^\[\]]*))$`)
	refZone = regexp.MustCompile(`^([^%]*:[^%]*)%[0-9A-Za-z._~-]{1,32}$`)
)

// refAddr parses an address with an optional port.
func refAddr(s string, obfuscatedPort bool) netip.Addr {
	try := []string{s}
	if i := strings.LastIndex(s, ":"); i >= 0 {
		port := s[i+1:]
		n := 0
		for _, c := range port {
			n = n*10 + int(c) - '0'
		}
		ok := refPort.MatchString(port) && n <= 65535 || obfuscatedPort && refObf.MatchString(port)
		if ok && (strings.HasSuffix(s[:i], "]") || !strings.Contains(s[:i], ":")) {
			try = append(try, s[:i])
		}
	}
	for _, s := range try {
		m := refNode.FindStringSubmatch(s)
		if m == nil {
			continue
		}
		s = m[1] + m[2] + m[3]
		if z := refZone.FindStringSubmatch(s); z != nil {
			s = z[1]
		} else if strings.Contains(s, "%") {
			continue
		}
		if a, err := netip.ParseAddr(s); err == nil {
			return a.Unmap()
		}
	}
	return netip.Addr{}
}

// refList splits X-Forwarded-For.
func refList(lines []string) []refElement {
	var all []refElement
	for s := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		if s = strings.Trim(s, " \t"); s != "" {
			all = append(all, refElement{addr: refAddr(s, false)})
		}
	}
	return all
}

var (
	refToken  = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
	refQuoted = `"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[^\x00-\x08\x0a-\x1f\x7f])*"`
	refValue  = "(?:[:\\[\\]!#$%&'*+.^_`|~0-9A-Za-z-]+|" + refQuoted + ")"
	refPair   = "(" + refToken + ")=(" + refValue + ")"
	refElem   = "[ \t]*(?:" + refPair + "[ \t]*)?(?:;[ \t]*(?:" + refPair + "[ \t]*)?)*"
	// (?s) and bytes: a header is bytes, and regexp reads broken UTF-8 as U+FFFD, one a byte.
	refLine  = regexp.MustCompile("(?s)^" + refElem + "(?:," + refElem + ")*$")
	refFirst = regexp.MustCompile("(?s)^" + refElem + "(,|$)")
	refPairs = regexp.MustCompile("(?s)" + refPair + "[ \t]*(?:;|$)")
)

// refForwarded splits Forwarded. It is not ok where a line breaks the grammar.
func refForwarded(lines []string) (all []refElement, ok bool) {
	for _, line := range lines {
		if !refLine.MatchString(line) {
			return nil, false
		}
		for {
			m := refFirst.FindString(line)
			if element := strings.Trim(strings.TrimSuffix(m, ","), " \t"); element != "" {
				all = append(all, refForwardedElement(element))
			}
			if line = line[len(m):]; line == "" {
				break
			}
		}
	}
	return all, true
}

func refForwardedElement(element string) refElement {
	var nodes []string
	for _, m := range refPairs.FindAllStringSubmatch(element, -1) {
		if strings.EqualFold(m[1], "for") {
			nodes = append(nodes, m[2])
		}
	}
	switch len(nodes) {
	case 0:
		return refElement{hidden: true}
	case 1:
	default:
		return refElement{}
	}
	node := nodes[0]
	if strings.HasPrefix(node, `"`) {
		node = regexp.MustCompile(`(?s)\\(.)`).ReplaceAllString(node[1:len(node)-1], "$1")
	}
	name, port, hasPort := strings.Cut(node, ":")
	if strings.EqualFold(name, "unknown") || refObf.MatchString(name) {
		n := 0
		for _, c := range port {
			n = n*10 + int(c) - '0'
		}
		return refElement{hidden: !hasPort || refObf.MatchString(port) || refPort.MatchString(port) && n <= 65535}
	}
	return refElement{addr: refAddr(node, true)}
}
