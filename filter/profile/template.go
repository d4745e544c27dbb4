package profile

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moatwaf/moat/filter"
)

// template is a text with values in it. A nil one is no text.
type template []part

// part is a piece of a template: text, or a value.
type part struct {
	text  string
	value func(b []byte, v *values) []byte
}

// values are what a template can name. None of them is anything that a client sent.
type values struct {
	status    int
	limit     *filter.Limit
	now       func() time.Time
	requestID string // of this answer, the same in header and body
	hostID    string
}

// reset returns the seconds until a request is allowed again, one at least.
func (v *values) reset() int64 {
	if v.limit == nil || v.limit.Reset <= time.Second {
		return 1
	}
	return int64((v.limit.Reset-1)/time.Second) + 1
}

func (v *values) quota() int {
	if v.limit == nil {
		return 0
	}
	return v.limit.Quota
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return b
}

var valueNames = map[string]func(b []byte, v *values) []byte{
	"status": func(b []byte, v *values) []byte { return strconv.AppendInt(b, int64(v.status), 10) },
	"title":  func(b []byte, v *values) []byte { return append(b, http.StatusText(v.status)...) },
	// A random number that is the same wherever the answer names it.
	"request_id": func(b []byte, v *values) []byte {
		if v.requestID == "" {
			v.requestID = hex.EncodeToString(random(8))
		}
		return append(b, v.requestID...)
	},
	"REQUEST_ID": func(b []byte, v *values) []byte {
		if v.requestID == "" {
			v.requestID = strings.ToUpper(hex.EncodeToString(random(8)))
		}
		return append(b, strings.ToUpper(v.requestID)...)
	},
	"host_id": func(b []byte, v *values) []byte {
		if v.hostID == "" {
			v.hostID = base64.StdEncoding.EncodeToString(random(56))
		}
		return append(b, v.hostID...)
	},
	"uuid": func(b []byte, _ *values) []byte {
		u := random(16)
		u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80 // version 4 (RFC 9562 section 5.4)
		return fmt.Appendf(b, "%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
	},
	// Of the exceeded tier.
	"limit":       func(b []byte, v *values) []byte { return strconv.AppendInt(b, int64(v.quota()), 10) },
	"remaining":   func(b []byte, _ *values) []byte { return append(b, '0') },
	"retry_after": func(b []byte, v *values) []byte { return strconv.AppendInt(b, v.reset(), 10) },
	"reset_epoch": func(b []byte, v *values) []byte { return strconv.AppendInt(b, v.now().Unix()+v.reset(), 10) },
	"window": func(b []byte, v *values) []byte {
		if v.limit == nil {
			return append(b, '1')
		}
		return strconv.AppendInt(b, int64(max(v.limit.Window, time.Second)/time.Second), 10)
	},
}

// parseTemplate reads a text in which ${name} stands for a value and $$ for a dollar
// sign.
func parseTemplate(s string) (template, error) {
	t := template{}
	add := func(text string) {
		if text != "" {
			t = append(t, part{text: text})
		}
	}
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 {
			add(s)
			return t, nil
		}
		add(s[:i])
		s = s[i+1:]
		switch {
		case strings.HasPrefix(s, "$"):
			add("$")
			s = s[1:]
		case strings.HasPrefix(s, "{"):
			name, rest, ok := strings.Cut(s[1:], "}")
			value := valueNames[name]
			if !ok || value == nil {
				return nil, fmt.Errorf("${%.40s} is no value; there are: %s", name, strings.Join(slices.Sorted(maps.Keys(valueNames)), ", "))
			}
			t = append(t, part{value: value})
			s = rest
		default:
			return nil, fmt.Errorf("a dollar sign that begins no value: write $$")
		}
	}
}

// append appends the text with its values.
func (t template) append(b []byte, v *values) []byte {
	for i := range t {
		if t[i].value != nil {
			b = t[i].value(b, v)
		} else {
			b = append(b, t[i].text...)
		}
	}
	return b
}
