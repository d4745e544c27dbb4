package clientip

import (
	"net/netip"
	"strings"
)

// listElement takes the last element off a line of X-Forwarded-For.
func listElement(line string) (rest string, more bool, a netip.Addr, st state) {
	element := line
	if i := strings.LastIndexByte(line, ','); i >= 0 {
		rest, element, more = line[:i], line[i+1:], true
	}
	if element = trim(element); element == "" {
		return rest, more, netip.Addr{}, isEmpty
	}
	a, ok := parseAddr(element)
	if !ok {
		return rest, more, netip.Addr{}, isInvalid
	}
	return rest, more, a, isAddress
}

// parseAddr reads an address in every form in which proxies write one: 192.0.2.1,
// 192.0.2.1:80, 2001:db8::1, [2001:db8::1], [2001:db8::1]:80. The result is
// unmapped and has no zone.
func parseAddr(s string) (netip.Addr, bool) {
	return parseNode(s, false)
}

// parseNode is parseAddr, and takes the obfuscated ports of RFC 7239 section 6.3
// if it is told to.
func parseNode(s string, obfuscatedPort bool) (netip.Addr, bool) {
	if s == "" {
		return netip.Addr{}, false
	}
	if s[0] == '[' {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return netip.Addr{}, false
		}
		if port := s[end+1:]; port != "" && (port[0] != ':' || !isPort(port[1:], obfuscatedPort)) {
			return netip.Addr{}, false
		}
		return parseBare(s[1:end], true)
	}
	// One colon is a port after IPv4: IPv6 has two at least.
	if i := strings.IndexByte(s, ':'); i >= 0 && strings.LastIndexByte(s, ':') == i {
		if !isPort(s[i+1:], obfuscatedPort) {
			return netip.Addr{}, false
		}
		s = s[:i]
	}
	return parseBare(s, false)
}

// parseBare reads an address without port and brackets.
func parseBare(s string, onlyIPv6 bool) (netip.Addr, bool) {
	zoned := false
	if i := strings.IndexByte(s, '%'); i >= 0 {
		// The zone is dropped before netip sees it: netip would keep
		// every one that a client makes up in a table of its own.
		if !isZone(s[i+1:]) {
			return netip.Addr{}, false
		}
		s, zoned = s[:i], true
	}
	// The longest address is 45 bytes. netip copies what it refuses.
	if len(s) > len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255") {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(s)
	if err != nil || (zoned || onlyIPv6) && a.Is4() {
		return netip.Addr{}, false
	}
	return a.Unmap(), true
}

func isPort(s string, obfuscated bool) bool {
	if obfuscated && isObfuscated(s) {
		return true
	}
	if s == "" || len(s) > 5 {
		return false
	}
	n := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n <= 0xffff
}

func isZone(s string) bool {
	for i := range len(s) {
		if !isAlphanumeric(s[i]) && !strings.ContainsRune("-._~", rune(s[i])) {
			return false
		}
	}
	return s != "" && len(s) <= 32
}

// isObfuscated reports whether s is an obfuscated identifier (RFC 7239 section 6.3).
func isObfuscated(s string) bool {
	for i := range len(s) {
		if !isAlphanumeric(s[i]) && !strings.ContainsRune("._-", rune(s[i])) {
			return false
		}
	}
	return len(s) > 1 && s[0] == '_'
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// isToken reports whether c is a tchar (RFC 9110 section 5.6.2).
func isToken(c byte) bool {
	return isAlphanumeric(c) || c < 0x80 && strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// trim removes optional whitespace (RFC 9110 section 5.6.3) from both ends.
func trim(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}
