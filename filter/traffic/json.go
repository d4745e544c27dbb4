package traffic

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
)

// archive is an HTTP archive, format 1.2, as far as it tells of requests.
type archive struct {
	Log *struct {
		Entries []archiveEntry `json:"entries"`
	} `json:"log"`
	archiveEntry
	archiveRequest
}

type archiveEntry struct {
	Request *archiveRequest `json:"request"`
}

type archiveRequest struct {
	Method      string         `json:"method"`
	URL         string         `json:"url"`
	HTTPVersion string         `json:"httpVersion"`
	Headers     []archiveField `json:"headers"`
	PostData    *struct {
		MimeType string         `json:"mimeType"`
		Text     string         `json:"text"`
		Encoding string         `json:"encoding"`
		Params   []archiveField `json:"params"`
	} `json:"postData"`
}

type archiveField struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// auditLine is a line of moat's audit log, as far as it tells of the request.
type auditLine struct {
	Verdict   *string `json:"verdict"`
	Method    string  `json:"method"`
	Host      string  `json:"host"`
	Path      string  `json:"path"`
	Query     string  `json:"query"`
	Client    string  `json:"client"`
	UserAgent string  `json:"user_agent"`
}

// parseJSON reads an HTTP archive, an entry or a request of one, or lines of an
// audit log.
func parseJSON(text []byte) ([]Message, error) {
	var (
		all  []Message
		line = 1
	)
	for len(bytes.TrimSpace(text)) > 0 {
		dec := json.NewDecoder(bytes.NewReader(text))
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, fault(line+lineOf(text, err), "the JSON does not parse: %v", err)
		}
		some, err := parseObject(raw)
		if err != nil {
			return nil, fault(line, "%v", err)
		}
		all = append(all, some...)
		n := int(dec.InputOffset())
		line += bytes.Count(text[:n], []byte("\n"))
		text = text[n:]
	}
	if len(all) == 0 {
		return nil, fault(0, "there is no request")
	}
	return all, nil
}

// lineOf returns how many lines come before the place of an error.
func lineOf(text []byte, err error) int {
	at := int64(len(text))
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		at = syntax.Offset
	case errors.As(err, &kind):
		at = kind.Offset
	}
	return bytes.Count(text[:min(at, int64(len(text)))], []byte("\n"))
}

func parseObject(raw []byte) ([]Message, error) {
	var line auditLine
	if err := json.Unmarshal(raw, &line); err == nil && line.Verdict != nil {
		m, err := line.message()
		return []Message{m}, err
	}
	var a archive
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, errors.New("this is neither an HTTP archive nor an audit line: " + err.Error())
	}
	var all []Message
	add := func(r *archiveRequest) error {
		m, err := r.message()
		if err == nil {
			all = append(all, m)
		}
		return err
	}
	switch {
	case a.Log != nil:
		for _, e := range a.Log.Entries {
			if e.Request == nil {
				return nil, errors.New("an entry has no request")
			}
			if err := add(e.Request); err != nil {
				return nil, err
			}
		}
	case a.Request != nil:
		if err := add(a.Request); err != nil {
			return nil, err
		}
	case a.URL != "":
		if err := add(&a.archiveRequest); err != nil {
			return nil, err
		}
	default:
		return nil, errors.New("this is neither an HTTP archive nor an audit line")
	}
	return all, nil
}

// message returns the request of an archive.
func (r *archiveRequest) message() (Message, error) {
	u, err := url.Parse(r.URL)
	if err != nil || u.Host == "" {
		return Message{}, errors.New("the url of the request cannot be read")
	}
	m := Message{Form: FormHAR, Method: strings.ToUpper(r.Method), Target: u.RequestURI(), Host: u.Host, Proto: "HTTP/1.1"}
	if strings.HasPrefix(r.HTTPVersion, "HTTP/1.0") {
		m.Proto = "HTTP/1.0"
	} else if v := strings.ToLower(r.HTTPVersion); v == "h2" || strings.HasPrefix(v, "http/2") {
		m.Proto = "HTTP/2.0"
	}
	typed := false
	for _, f := range r.Headers {
		switch name := strings.ToLower(f.Name); {
		case name == "host", name == ":authority":
			m.Host = f.Value
		case strings.HasPrefix(name, ":"), name == "content-length", name == "transfer-encoding":
		default:
			typed = typed || name == "content-type"
			m.Header = append(m.Header, Field(f))
		}
	}
	if p := r.PostData; p != nil {
		if !typed && p.MimeType != "" {
			m.Header = append(m.Header, Field{"Content-Type", p.MimeType})
		}
		switch {
		case p.Encoding == "base64":
			if m.Body, err = base64.StdEncoding.DecodeString(p.Text); err != nil {
				return Message{}, errors.New("the text of the body is no base64")
			}
		case p.Text != "":
			m.Body = []byte(p.Text)
		case len(p.Params) > 0:
			if !strings.HasPrefix(p.MimeType, "application/x-www-form-urlencoded") {
				return Message{}, errors.New("the archive has the fields of the body, but not the body")
			}
			var pairs []string
			for _, f := range p.Params {
				pairs = append(pairs, url.QueryEscape(f.Name)+"="+url.QueryEscape(f.Value))
			}
			m.Body = []byte(strings.Join(pairs, "&"))
		}
	}
	return m, nil
}

// message returns the request of an audit line, which holds less than the request
// had: no header but the User-Agent, and no body.
func (l *auditLine) message() (Message, error) {
	if l.Method == "" || l.Path == "" {
		return Message{}, errors.New("the audit line tells of no request")
	}
	m := Message{Form: FormAudit, Method: l.Method, Target: (&url.URL{Path: l.Path, RawQuery: l.Query}).RequestURI(), Proto: "HTTP/1.1", Host: l.Host, Client: l.Client}
	if l.UserAgent != "" {
		m.Header = append(m.Header, Field{"User-Agent", l.UserAgent})
	}
	return m, nil
}
