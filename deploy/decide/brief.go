package decide

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
)

// briefBegin is the first line of a brief question, which is the head of a request
// without a body, and nothing else: its empty line ends it. A host that is slow at
// everything but calls of its library, such as an interpreter, writes it at once.
const briefBegin = "MOAT/" + Version + "\n"

// begins reports whether p is the beginning of what begins with prefix.
func begins(p []byte, prefix string) bool {
	if n := len(prefix); len(p) > n {
		p = p[:n]
	}
	return strings.HasPrefix(prefix, string(p))
}

// briefEnds reports whether a brief question ends where p does: with an empty line, behind
// the fields or the last of the lines before them. None of them has a LF or CR in it.
func briefEnds(p []byte) bool { return bytes.HasSuffix(p, []byte("\n\r\n")) }

// brief takes the next bytes of a brief question, and answers it if it is complete. Unlike
// a question in HTTP it is not left to the server, which would not know it.
func (c *plainConn) brief(p []byte) {
	if c.part != nil || !briefEnds(p) {
		c.part = append(c.part, p...)
		p = c.part
		if !briefEnds(p) && begins(p, briefBegin) && len(p) <= len(briefBegin)+maxHead {
			return
		}
		c.part = nil
	}
	text, ok := bytes.CutPrefix(p, []byte(briefBegin))
	q, err := parseHead(string(text))
	var malformed *clientError
	c.reply(func() {
		switch {
		case !ok:
			fault(&c.w, http.StatusBadRequest, "this is no question of version "+Version)
		case len(text) > maxHead:
			fault(&c.w, http.StatusBadRequest, "the head is too long")
		case errors.As(err, &malformed):
			c.handler.refuseMalformed(&c.w, plainPost, q)
		case err != nil:
			fault(&c.w, http.StatusBadRequest, err.Error())
		case q.hasBody:
			fault(&c.w, http.StatusBadRequest, "a brief question is about a request without a body")
		default:
			c.handler.judge(&c.w, plainPost, q, c.session)
		}
	})
}
