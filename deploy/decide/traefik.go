package decide

import (
	"net"
	"net/netip"
	"strings"
)

// withoutTraefik takes out of a head what Traefik has put there: a third of what
// the rules would look at, and nothing that the client has said. What differs from
// Traefik's own values was sent by a proxy that Traefik trusts, and stays.
//
// Traefik leaves X-Forwarded-For only if its entry point trusts the peer. Its last
// element is that peer's word for who asked it, so it becomes the peer; the
// policy's client_ip says whether to go on from there.
func (q *head) withoutTraefik() {
	peer := q.peer
	if host, _, err := net.SplitHostPort(q.peer); err == nil {
		peer = host
	}
	peer, _, _ = strings.Cut(peer, "%")
	q.drop("X-Real-Ip", peer)
	q.drop("X-Forwarded-Host", q.host)
	if q.tls {
		q.drop("X-Forwarded-Proto", "https", "wss")
	} else {
		q.drop("X-Forwarded-Proto", "http", "ws")
	}
	delete(q.header, "X-Forwarded-Server") // always Traefik's own name
	delete(q.header, "X-Forwarded-Port")   // the policy has no use for it

	lines := q.header["X-Forwarded-For"]
	if len(lines) == 0 {
		return
	}
	rest, last, more := cutLast(lines[len(lines)-1])
	addr, err := netip.ParseAddr(strings.Trim(last, " \t"))
	if err != nil {
		return // the policy says what becomes of it, if it trusts the peer
	}
	q.peer = addr.Unmap().WithZone("").String()
	lines = lines[: len(lines)-1 : len(lines)-1]
	if more {
		lines = append(lines, rest)
	}
	if len(lines) == 0 {
		delete(q.header, "X-Forwarded-For")
		return
	}
	q.header["X-Forwarded-For"] = lines
}

// cutLast cuts the last element off a list.
func cutLast(line string) (rest, last string, more bool) {
	i := strings.LastIndexByte(line, ',')
	if i < 0 {
		return "", line, false
	}
	return line[:i], line[i+1:], true
}

// drop removes a field if it holds one of the values and nothing else.
func (q *head) drop(name string, values ...string) {
	lines := q.header[name]
	if len(lines) != 1 {
		return
	}
	for _, v := range values {
		if lines[0] == v {
			delete(q.header, name)
			return
		}
	}
}
