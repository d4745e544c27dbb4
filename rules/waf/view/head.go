package view

import (
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/moatwaf/moat/filter"
)

// Head fills v with what the rules of phase 1 see. v is reset before. kind is that
// of the request's media type; None if it has no body.
//
// Unless the answer is Known, v holds nothing that may be used.
func (b *Builder) Head(v *View, r *filter.Request, kind Kind) Reason {
	v.Reset()
	v.clean, v.request = false, r
	v.connection(r)
	if why := b.target(v, r); why != Known {
		return why
	}
	if why := v.header(r.HTTP); why != Known {
		return why
	}
	if int(kind) < len(kindProcessors) && kindProcessors[kind] != "" {
		v.single[processor] = kindProcessors[kind]
	}
	v.phase = 1
	return Known
}

// connection sets the addresses.
func (v *View) connection(r *filter.Request) {
	client := r.Client
	if !client.IsValid() {
		client = r.Peer
	}
	v.single[remotePort] = "0"
	if client.IsValid() {
		mark := v.mark()
		v.buf = client.AppendTo(v.buf)
		v.single[remoteAddr] = v.since(mark)
		if client == r.Peer {
			if port, ok := portOf(r.HTTP.RemoteAddr, v.single[remoteAddr]); ok {
				v.single[remotePort] = port
			} else if ap, err := netip.ParseAddrPort(r.HTTP.RemoteAddr); err == nil {
				v.single[remotePort] = v.number(int(ap.Port()))
			}
		}
	}
	if server := localAddr(r.HTTP); server != v.server || v.serverPort == "" {
		v.server, v.serverAddr = server, ""
		if server.IsValid() {
			v.serverAddr = server.Addr().String()
		}
		v.serverPort = strconv.Itoa(int(server.Port()))
	}
	v.single[serverAddr], v.single[serverPort] = v.serverAddr, v.serverPort
	v.single[serverName] = r.Host
}

// portOf returns the port of "addr:port", or of "[addr]:port", as it stands there.
// ok is false for every other form, also where it could be read.
func portOf(remote, addr string) (port string, ok bool) {
	if strings.IndexByte(addr, ':') < 0 {
		port, ok = strings.CutPrefix(remote, addr)
	} else if remote, ok = strings.CutPrefix(remote, "["); ok {
		if port, ok = strings.CutPrefix(remote, addr); ok {
			port, ok = strings.CutPrefix(port, "]")
		}
	}
	if port, colon := strings.CutPrefix(port, ":"); ok && colon && port != "" && port[0] != '0' && len(port) <= 5 {
		n := 0
		for i := range len(port) {
			if port[i] < '0' || port[i] > '9' {
				return "", false
			}
			n = n*10 + int(port[i]-'0')
		}
		return port, n <= 0xffff
	}
	return "", false
}

// localAddr returns the address at which net/http took the connection; the zero
// AddrPort if that is none of the Internet Protocol.
func localAddr(r *http.Request) netip.AddrPort {
	addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return netip.AddrPort{}
	}
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp != nil && tcp.Zone == "" && 0 <= tcp.Port && tcp.Port <= 0xffff {
		if ip, ok := netip.AddrFromSlice(tcp.IP); ok {
			return netip.AddrPortFrom(ip.Unmap(), uint16(tcp.Port))
		}
	}
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// header sets the header fields and the cookies, and the body parser that the
// engine takes for a media type.
func (v *View) header(h *http.Request) Reason {
	list := v.list[headers]
	if h.Host != "" || h.ProtoMajor == 1 && h.ProtoMinor == 1 {
		list = append(list, Pair{"Host", h.Host})
	}
	typed := false
	for key, values := range h.Header {
		if key == "" {
			continue
		}
		for _, value := range values {
			list = append(list, Pair{key, value})
		}
		if c := key[0]; c|0x20 != 'c' && c < 0x80 {
			continue // neither of the fields below, however it folds
		}
		switch fieldOf(key) {
		case fieldUnsure:
			return Header
		case fieldCookie:
			for _, value := range values {
				v.list[cookies] = appendCookies(v.list[cookies], value)
			}
		case fieldContentType:
			if typed && len(values) > 0 {
				return Header // which of them is the first one changes
			}
			if len(values) > 0 {
				typed = true
				v.media = values[0]
				if name := processorOf(values[0]); name != "" {
					v.single[processor] = name
				}
			}
		}
	}
	switch n := len(h.TransferEncoding); {
	case n == 0 || len(h.Header["Transfer-Encoding"]) > 0:
	case n == 1:
		list = append(list, Pair{"Transfer-Encoding", h.TransferEncoding[0]})
	default:
		list = append(list, Pair{"Transfer-Encoding", strings.Join(h.TransferEncoding, ", ")})
	}
	if h.ContentLength > 0 && len(h.Header["Content-Length"]) == 0 {
		list = append(list, Pair{"Content-Length", v.longNumber(h.ContentLength)})
	}
	v.list[headers] = list
	if len(list) > maxHead || len(v.list[cookies]) > maxHead {
		return Arguments
	}
	return Known
}

// maxHead bounds the header fields and the cookies of a request that is known.
const maxHead = 4096

// Header fields that the engine looks at.
const (
	fieldUsual = iota
	fieldCookie
	fieldContentType
	fieldUnsure
)

// fieldOf tells whether a name folds to one of the fields that the engine looks at.
func fieldOf(key string) int {
	for i := range len(key) {
		if key[i] >= 0x80 {
			return fieldUnsure
		}
	}
	switch {
	case len(key) == len("cookie") && strings.EqualFold(key, "cookie"):
		return fieldCookie
	case len(key) == len("content-type") && strings.EqualFold(key, "content-type"):
		return fieldContentType
	}
	return fieldUsual
}

// processorOf returns the body parser that the engine takes for a media type
// without being told; empty if it takes none.
func processorOf(contentType string) string {
	const form, multipart = "application/x-www-form-urlencoded", "multipart/form-data"
	value := contentType
	for i := range len(value) {
		if value[i] >= 0x80 { // there are other letters and spaces than those of ASCII
			value = strings.ToLower(value)
			break
		}
	}
	value = strings.TrimSpace(value)
	switch {
	case hasPrefixFold(value, form):
		return "URLENCODED"
	case hasPrefixFold(value, multipart):
		return "MULTIPART"
	}
	return ""
}

// hasPrefixFold reports whether s begins with a prefix that is in lower case.
func hasPrefixFold(s, prefix string) bool {
	if len(s) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != prefix[i] {
			return false
		}
	}
	return true
}

// appendCookies appends the pairs of a Cookie field, with what is no character
// around names and values taken off.
func appendCookies(list []Pair, field string) []Pair {
	for rest := field; rest != ""; {
		part := rest
		if i := strings.IndexByte(rest, ';'); i >= 0 {
			part, rest = rest[:i], rest[i+1:]
		} else {
			rest = ""
		}
		name, value, _ := strings.Cut(part, "=")
		name, value = trimControls(name), trimControls(value)
		if name != "" || value != "" {
			list = append(list, Pair{name, value})
		}
	}
	return list
}

// trimControls takes control characters and blanks of ASCII off both ends.
func trimControls(s string) string {
	for s != "" && (s[0] <= ' ' || s[0] == 0x7f) {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] <= ' ' || s[len(s)-1] == 0x7f) {
		s = s[:len(s)-1]
	}
	return s
}
