package match

import (
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/idna"

	"github.com/moatwaf/moat/rules"
)

// hostSet is the host key: names, and names with everything below them.
type hostSet struct {
	exact map[string]struct{}
	below map[string]struct{} // example.com for *.example.com
}

// match reports whether the set has host, in the form of filter.CanonicalHost.
func (s *hostSet) match(host string) bool {
	if _, ok := s.exact[host]; ok {
		return true
	}
	if len(s.below) == 0 {
		return false
	}
	for {
		_, parent, ok := strings.Cut(host, ".")
		if !ok {
			return false
		}
		if _, ok := s.below[parent]; ok {
			return true
		}
		host = parent
	}
}

func (b *builder) host(list OneOrMore[string]) {
	set := &hostSet{exact: map[string]struct{}{}, below: map[string]struct{}{}}
	for _, l := range list {
		name, into := l.Value, set.exact
		if rest, ok := strings.CutPrefix(name, "*."); ok {
			name, into = rest, set.below
		}
		canonical, err := parseHost(l, name)
		if err != nil {
			b.fault(err)
			continue
		}
		into[canonical] = struct{}{}
	}
	b.m.host = set
}

// parseHost returns the canonical form of a host name or IP literal.
func parseHost(l rules.Located[string], name string) (string, *rules.Error) {
	if a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")); err == nil {
		return a.String(), nil
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	switch {
	case name == "*":
		return "", l.Errorf("leave host out to match every host", "\"*\" is no host pattern")
	case strings.Contains(name, "*"):
		return "", l.Errorf("*.example.com, or use expr", "a * may stand only for all labels before a name")
	case strings.ContainsAny(name, "/?#@"):
		return "", l.Errorf("the name alone, such as www.example.com", "%q is a URL, not a host", clip(l.Value))
	}
	if host, port, ok := strings.Cut(name, ":"); ok {
		if _, err := strconv.ParseUint(port, 10, 16); err == nil {
			return "", l.Errorf("write "+clip(host), "hosts are matched without port")
		}
	}
	for i := range len(name) {
		if name[i] >= 0x80 {
			hint := "write it in its xn-- form"
			if ascii, err := idna.Lookup.ToASCII(name); err == nil {
				hint = "write " + ascii
			}
			return "", l.Errorf(hint, "clients send the host %q in ASCII", clip(l.Value))
		}
	}
	if !hostname(name) {
		return "", l.Errorf("", "%q is no host name", clip(l.Value))
	}
	return name, nil
}

// hostname reports whether s is a host name as clients send it: labels of
// letters, digits, "-" and "_", at most 253 bytes (RFC 1123 section 2.1; the
// underscore is seen in practice).
func hostname(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}
