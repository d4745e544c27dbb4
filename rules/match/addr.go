package match

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"

	"github.com/moatwaf/moat/rules"
)

// addrSet is the ip key: prefixes and ranges that were written in place, and
// lists. It contains no invalid address. 0.0.0.0/0 is every IPv4 address and
// ::/0 every IPv6 address.
type addrSet struct {
	inline *bart.Lite
	lists  []AddrSet
}

// Contains reports whether a, unmapped, is in the set.
func (s *addrSet) Contains(a netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	if s.inline != nil && s.inline.Contains(a) {
		return true
	}
	for _, l := range s.lists {
		if l.Contains(a) {
			return true
		}
	}
	return false
}

func (b *builder) ip(list OneOrMore[string]) {
	set := new(addrSet)
	for _, l := range list {
		if name, ok := strings.CutPrefix(l.Value, "$"); ok {
			found, err := findList(b.env, name)
			if err != nil {
				b.fault(l.Errorf(err.hint, "%s", err.msg))
				continue
			}
			set.lists = append(set.lists, found)
			continue
		}
		prefixes, err := parseAddrs(l.Value)
		if err != nil {
			if slices.Contains(b.env.ListNames, l.Value) {
				err.hint = "write $" + l.Value + " for the list"
			}
			b.fault(l.Errorf(err.hint, "%s", err.msg))
			continue
		}
		set.add(prefixes)
	}
	b.m.ip = set
}

func (s *addrSet) add(prefixes []netip.Prefix) {
	if s.inline == nil {
		s.inline = new(bart.Lite)
	}
	for _, p := range prefixes {
		s.inline.Insert(p)
	}
}

// findList returns a list of the policy.
func findList(env *Env, name string) (AddrSet, *textFault) {
	if env.List != nil {
		if l, ok := env.List(name); ok && l != nil {
			return l, nil
		}
	}
	hint := rules.Suggest(name, env.ListNames)
	if hint == "" {
		hint = "add it under lists"
	}
	return nil, &textFault{msg: "unknown list \"" + clip(name) + "\"", hint: hint}
}

// parseAddrs reads an address, a prefix or a range as prefixes. Addresses of v4
// in v6 count as v4.
func parseAddrs(s string) ([]netip.Prefix, *textFault) {
	if first, last, ok := strings.Cut(s, "-"); ok {
		return parseRange(s, strings.TrimSpace(first), strings.TrimSpace(last))
	}
	if !strings.Contains(s, "/") {
		a, err := parseAddr(s)
		if err != nil {
			return nil, err
		}
		return []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}, nil
	}
	p, perr := netip.ParsePrefix(s)
	if perr != nil {
		return nil, badAddr(s)
	}
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if p != p.Masked() {
		return nil, &textFault{msg: "the prefix \"" + s + "\" has bits beyond its length", hint: "write " + p.Masked().String() + ", or " + p.Addr().String() + " for the one address"}
	}
	return []netip.Prefix{p}, nil
}

func parseAddr(s string) (netip.Addr, *textFault) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, badAddr(s)
	}
	if a.Zone() != "" {
		return a, &textFault{msg: "the address \"" + clip(s) + "\" has a zone", hint: "leave out what follows the %"}
	}
	return a.Unmap(), nil
}

func parseRange(s, first, last string) ([]netip.Prefix, *textFault) {
	lo, err := parseAddr(first)
	if err != nil {
		return nil, err
	}
	hi, err := parseAddr(last)
	if err != nil {
		return nil, err
	}
	switch {
	case lo.Is4() != hi.Is4():
		return nil, &textFault{msg: "the range \"" + s + "\" mixes IPv4 and IPv6"}
	case hi.Less(lo):
		return nil, &textFault{msg: "the range \"" + s + "\" ends before it begins", hint: "write " + hi.String() + "-" + lo.String()}
	}
	return rangePrefixes(lo, hi), nil
}

func badAddr(s string) *textFault {
	return &textFault{
		msg:  "\"" + clip(s) + "\" is no address, prefix or range",
		hint: "such as 192.0.2.7, 192.0.2.0/24, 192.0.2.1-192.0.2.9 or $list",
	}
}

// rangePrefixes returns the least number of prefixes that cover lo to hi and
// nothing else: at each step the largest that begins at lo and does not pass hi.
func rangePrefixes(lo, hi netip.Addr) []netip.Prefix {
	var prefixes []netip.Prefix
	for {
		bits := lo.BitLen()
		end := lo
		for bits > 0 {
			wider := netip.PrefixFrom(lo, bits-1)
			if wider.Masked().Addr() != lo {
				break
			}
			last := lastAddr(wider)
			if hi.Less(last) {
				break
			}
			bits, end = bits-1, last
		}
		prefixes = append(prefixes, netip.PrefixFrom(lo, bits))
		if end == hi {
			return prefixes
		}
		lo = end.Next()
	}
}

// lastAddr returns the last address of a masked prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
