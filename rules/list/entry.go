package list

import (
	"net/netip"
	"strconv"
	"strings"
)

// fault is what is wrong with an entry. offset is where in the entry, in bytes.
type fault struct {
	offset int
	msg    string
	hint   string
}

// parseEntry reads an address, a prefix in CIDR notation or a range a-b, and
// returns the first and the last address, unmapped. The text has no blanks around
// it and is not empty.
func parseEntry(text string) (first, last netip.Addr, f *fault) {
	if prefix, bits, ok := strings.Cut(text, "/"); ok {
		return parsePrefix(text, prefix, bits)
	}
	if a, b, ok := strings.Cut(text, "-"); ok {
		return parseRange(a, b)
	}
	first, f = parseAddr(text, 0)
	return first, first, f
}

// parseAddr reads an address at an offset of the entry. IPv4 in IPv6 form is IPv4.
func parseAddr(text string, offset int) (netip.Addr, *fault) {
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return a, &fault{offset, quote(text) + " is not an address", addrHint(text)}
	case a.Zone() != "":
		return a, &fault{offset, "the address " + quote(text) + " has a zone", "remove the % and what follows"}
	}
	return a.Unmap(), nil
}

// addrHint guesses why text is no address.
func addrHint(text string) string {
	switch {
	case text == "":
		return "write an address, a prefix or a range a-b"
	case strings.ContainsAny(text, " \t,"):
		return "write one entry a line; a comment begins with # or ;"
	case strings.HasPrefix(text, "[") && strings.Contains(text, "]"):
		return "write it without brackets and port"
	case strings.Contains(text, "*"):
		return "write a prefix, such as 192.0.2.0/24"
	case strings.Count(text, ".") == 3 && strings.Count(text, ":") == 1:
		return "write it without a port"
	case strings.Count(text, ".") == 3 && strings.Trim(text, "0123456789.") == "":
		return "four numbers from 0 to 255, without leading zeros"
	}
	return ""
}

func parsePrefix(text, addr, bits string) (first, last netip.Addr, f *fault) {
	first, f = parseAddr(strings.TrimRight(addr, " \t"), 0)
	if f != nil {
		return first, last, f
	}
	mapped := strings.Contains(addr, ":") && first.Is4()
	limit := first.BitLen()
	if mapped {
		limit = 128
	}
	n, err := strconv.Atoi(bits)
	if err != nil || n < 0 || n > limit || strconv.Itoa(n) != bits {
		return first, last, &fault{len(addr) + 1, quote(bits) + " is not a prefix length", maskHint(first, bits, limit)}
	}
	if mapped {
		if n -= 96; n < 0 {
			return first, last, &fault{0, "the prefix " + quote(text) + " holds more than IPv4 in IPv6 form", "write the IPv4 prefix and the IPv6 prefix, one each"}
		}
	}
	p := netip.PrefixFrom(first, n)
	if masked := p.Masked(); masked != p {
		return first, last, &fault{0, "the prefix " + quote(text) + " has bits set behind its length", "write " + masked.String() + " for the network, or " + first.String() + " for the address"}
	}
	return first, lastAddr(p), nil
}

// maskHint tells the prefix length of a netmask.
func maskHint(a netip.Addr, mask string, limit int) string {
	m, err := netip.ParseAddr(mask)
	if err == nil && m.Is4() && a.Is4() {
		for n := range 33 {
			if lowest, err := m.Prefix(n); err == nil && lowest.Addr() == m && lastAddr(netip.PrefixFrom(m, n)) == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
				return "write " + netip.PrefixFrom(a, n).Masked().String()
			}
		}
	}
	return "a number from 0 to " + strconv.Itoa(limit)
}

// lastAddr returns the highest address of a masked prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().As16()
	for i := p.Bits() + 128 - p.Addr().BitLen(); i < 128; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	if p.Addr().Is4() {
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return netip.AddrFrom16(b)
}

func parseRange(a, b string) (first, last netip.Addr, f *fault) {
	if first, f = parseAddr(strings.TrimRight(a, " \t"), 0); f != nil {
		return first, last, f
	}
	end := strings.TrimLeft(b, " \t")
	offset := len(a) + 1 + len(b) - len(end)
	if last, f = parseAddr(end, offset); f != nil {
		return first, last, f
	}
	switch {
	case first.BitLen() != last.BitLen():
		return first, last, &fault{offset, "a range from IPv4 to IPv6", "write one range for each"}
	case last.Less(first):
		return first, last, &fault{offset, "the range ends before it begins", "write " + last.String() + "-" + first.String()}
	}
	return first, last, nil
}

// quote quotes text for a message, shortened: lines of a file that is no list may
// be long.
func quote(s string) string {
	const most = 60
	n := 0
	for i := range s {
		if n++; n > most {
			return strconv.Quote(s[:i] + "...")
		}
	}
	return strconv.Quote(s)
}
