package traffic

import (
	"encoding/base64"
	"net/url"
	"strings"
	"unicode/utf8"
)

// word is one word of a command line with its place.
type word struct {
	text string
	line int
}

// splitWords splits a command line as a POSIX shell does, with the $'...' of bash
// that browsers write. It knows no variables and no substitutions: what a shell
// would replace is an error.
func splitWords(text string) ([]word, error) {
	var (
		all    []word
		b      strings.Builder
		in     bool // a word has begun
		line   = 1
		first  int
		finish = func() {
			if in {
				all = append(all, word{b.String(), first})
				b.Reset()
				in = false
			}
		}
	)
	for i := 0; i < len(text); i++ {
		c := text[i]
		if !in {
			first = line
		}
		switch c {
		case ' ', '\t', '\r':
			finish()
		case '\n':
			finish()
			line++
			if len(all) > 0 && strings.TrimSpace(text[i:]) != "" {
				return nil, fault(line, "a second command: end the line before with a backslash")
			}
		case '\\':
			switch {
			case i+1 == len(text):
				return nil, fault(line, "the command ends in a backslash")
			case text[i+1] == '\n':
				line++
				i++
			case strings.HasPrefix(text[i+1:], "\r\n"):
				line++
				i += 2
			default:
				in = true
				b.WriteByte(text[i+1])
				i++
			}
		case '\'':
			in = true
			end := strings.IndexByte(text[i+1:], '\'')
			if end < 0 {
				return nil, fault(line, "the quote is not closed")
			}
			b.WriteString(text[i+1 : i+1+end])
			line += strings.Count(text[i+1:i+1+end], "\n")
			i += 1 + end
		case '"':
			in = true
			n, err := doubleQuoted(&b, text[i+1:], line)
			if err != nil {
				return nil, err
			}
			line += strings.Count(text[i+1:i+1+n], "\n")
			i += n
		case '$':
			if i+1 == len(text) || text[i+1] != '\'' {
				return nil, fault(line, "a variable of the shell is not known here")
			}
			in = true
			n, err := ansiQuoted(&b, text[i+2:], line)
			if err != nil {
				return nil, err
			}
			i += 1 + n
		case '|', ';', '&', '<', '>', '`', '(', ')':
			return nil, fault(line, "%q is the shell's: write one curl command, and quote its arguments", c)
		default:
			in = true
			b.WriteByte(c)
		}
	}
	finish()
	return all, nil
}

// doubleQuoted reads up to the closing quote and returns how many bytes it took.
func doubleQuoted(b *strings.Builder, text string, line int) (int, error) {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '"':
			return i + 1, nil
		case '\\':
			if i+1 < len(text) && strings.IndexByte("\\\"$`\n", text[i+1]) >= 0 {
				i++
				if text[i] != '\n' {
					b.WriteByte(text[i])
				}
				continue
			}
			b.WriteByte(c)
		case '$', '`':
			if c == '`' || i+1 < len(text) && (text[i+1] == '(' || text[i+1] == '{' || text[i+1] == '_' || text[i+1]|0x20 >= 'a' && text[i+1]|0x20 <= 'z') {
				return 0, fault(line, "a variable of the shell is not known here: use single quotes")
			}
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	return 0, fault(line, "the quote is not closed")
}

// ansiQuoted reads the inside of $'...' up to the closing quote and returns how many
// bytes it took.
func ansiQuoted(b *strings.Builder, text string, line int) (int, error) {
	simple := map[byte]byte{'n': '\n', 't': '\t', 'r': '\r', 'a': 7, 'b': 8, 'f': 12, 'v': 11, 'e': 27, '\\': '\\', '\'': '\'', '"': '"', '?': '?'}
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '\'' {
			return i + 1, nil
		}
		if c != '\\' || i+1 == len(text) {
			b.WriteByte(c)
			continue
		}
		i++
		if s, ok := simple[text[i]]; ok {
			b.WriteByte(s)
			continue
		}
		base, most := 16, 0
		switch c := text[i]; {
		case c == 'x':
			most = 2
		case c == 'u':
			most = 4
		case c == 'U':
			most = 8
		case c >= '0' && c <= '7':
			base, most = 8, 3
			i--
		default:
			b.WriteByte('\\')
			b.WriteByte(c)
			continue
		}
		n, value := 0, rune(0)
		for n < most && i+1+n < len(text) {
			d := strings.IndexByte("0123456789abcdef", text[i+1+n]|0x20)
			if c := text[i+1+n]; c >= '0' && c <= '9' {
				d = int(c - '0')
			}
			if d < 0 || d >= base {
				break
			}
			value = value*rune(base) + rune(d)
			n++
		}
		if n == 0 {
			return 0, fault(line, "an escape without digits")
		}
		if most == 2 || base == 8 {
			b.WriteByte(byte(value))
		} else {
			if !utf8.ValidRune(value) {
				value = utf8.RuneError
			}
			b.WriteRune(value)
		}
		i += n
	}
	return 0, fault(line, "the quote is not closed")
}

// curlFlags says of curl's options whether they take an argument, and which do what
// is of interest here. Short and long names of one mean the same word.
var curlFlags = map[string]struct {
	means    string
	argument bool
}{
	"-X": {"method", true}, "--request": {"method", true},
	"-H": {"header", true}, "--header": {"header", true},
	"-d": {"data", true}, "--data": {"data", true}, "--data-ascii": {"data", true}, "--data-raw": {"raw", true},
	"--data-binary": {"data", true}, "--data-urlencode": {"urlencode", true}, "--json": {"json", true},
	"-F": {"form", true}, "--form": {"form", true}, "--form-string": {"formstring", true},
	"-b": {"cookie", true}, "--cookie": {"cookie", true},
	"-A": {"agent", true}, "--user-agent": {"agent", true},
	"-e": {"referer", true}, "--referer": {"referer", true},
	"-u": {"user", true}, "--user": {"user", true},
	"--url": {"url", true}, "--url-query": {"urlquery", true},
	"-I": {"head", false}, "--head": {"head", false},
	"-G": {"get", false}, "--get": {"get", false},
	"--compressed": {"compressed", false},
	"-0":           {"http10", false}, "--http1.0": {"http10", false}, "--http2": {"http2", false}, "--http2-prior-knowledge": {"http2", false},

	"--http1.1": {}, "-k": {}, "--insecure": {}, "-s": {}, "--silent": {}, "-S": {}, "--show-error": {}, "-v": {}, "--verbose": {},
	"-L": {}, "--location": {}, "-i": {}, "--include": {}, "-f": {}, "--fail": {}, "-g": {}, "--globoff": {}, "-N": {}, "--no-buffer": {},
	"-4": {}, "-6": {}, "--path-as-is": {"asis", false}, "-O": {}, "--remote-name": {},
	"-o": {"", true}, "--output": {"", true}, "-m": {"", true}, "--max-time": {"", true}, "--connect-timeout": {"", true},
	"-x": {"", true}, "--proxy": {"", true}, "--resolve": {"", true}, "-w": {"", true}, "--write-out": {"", true}, "--retry": {"", true},
	"--cacert": {"", true}, "-E": {"", true}, "--cert": {"", true}, "--key": {"", true}, "-c": {"", true}, "--cookie-jar": {"", true},
	"-D": {"", true}, "--dump-header": {"", true}, "--interface": {"", true}, "--ciphers": {"", true}, "--tlsv1.2": {}, "--tlsv1.3": {},
}

// command is a curl command that is being read.
type command struct {
	url, method, kind string
	asis, get, head   bool
	data              []string
	form              strings.Builder
	message           Message
}

// formBoundary parts the fields of a form that curl would send.
const formBoundary = "------------------------moat0123456789ab"

// parseCurl reads a curl command.
func parseCurl(text string) (Message, error) {
	words, err := splitWords(text)
	if err != nil {
		return Message{}, err
	}
	c := command{message: Message{Form: FormCurl, Proto: "HTTP/1.1"}}
	for i := 1; i < len(words); i++ {
		w := words[i]
		name, value, joined := w.text, "", false
		switch {
		case !strings.HasPrefix(name, "-") || name == "-":
			name, value, joined = "--url", w.text, true
		case strings.HasPrefix(name, "--"):
		case len(name) > 2:
			// -XPOST, or several letters without arguments.
			if f, ok := curlFlags[name[:2]]; ok && f.argument {
				name, value, joined = name[:2], name[2:], true
			} else if ok {
				words[i].text = "-" + name[2:]
				i--
				name = name[:2]
			}
		}
		f, ok := curlFlags[name]
		if !ok {
			return Message{}, fault(w.line, "the option %s of curl is not known here", name)
		}
		if f.argument && !joined {
			if i++; i == len(words) {
				return Message{}, fault(w.line, "the option %s has no argument", name)
			}
			value = words[i].text
		}
		if err := c.option(f.means, value, w.line); err != nil {
			return Message{}, err
		}
	}
	return c.finish()
}

// option takes one option.
func (c *command) option(means, value string, line int) error {
	header := func(name, value string) { c.message.Header = append(c.message.Header, Field{name, value}) }
	switch means {
	case "url":
		if c.url != "" {
			return fault(line, "a second URL")
		}
		c.url = value
	case "method":
		c.method = value
	case "header":
		name, text, ok := strings.Cut(value, ":")
		if !ok {
			if name, ok = strings.CutSuffix(value, ";"); !ok { // an empty value
				return fault(line, "a header has a name, a colon and a value")
			}
		}
		if strings.EqualFold(name, "Host") {
			c.message.Host = strings.TrimSpace(text)
			return nil
		}
		header(name, strings.TrimSpace(text))
	case "data", "json", "urlencode", "form":
		if strings.HasPrefix(value, "@") || means == "form" && (strings.Contains(value, "=@") || strings.Contains(value, "=<")) {
			return fault(line, "the data is in a file, which is not read: write it in its place")
		}
		switch means {
		case "urlencode":
			name, text, ok := strings.Cut(value, "=")
			if !ok {
				name, text = "", value
			}
			if value = strings.ReplaceAll(url.QueryEscape(text), "+", "%20"); name != "" {
				value = name + "=" + value
			}
		case "json":
			c.kind = "application/json"
		case "form":
			return c.field(value, line)
		}
		c.data = append(c.data, value)
	case "raw":
		c.data = append(c.data, value)
	case "formstring":
		return c.field(value, line)
	case "cookie":
		if !strings.Contains(value, "=") {
			return fault(line, "the cookies are in a file, which is not read: write them in its place")
		}
		header("Cookie", value)
	case "agent":
		header("User-Agent", value)
	case "referer":
		header("Referer", value)
	case "user":
		header("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(value)))
	case "urlquery":
		c.url += map[bool]string{false: "?", true: "&"}[strings.Contains(c.url, "?")] + value
	case "compressed":
		header("Accept-Encoding", "deflate, gzip, br, zstd")
	case "head":
		c.head = true
	case "get":
		c.get = true
	case "asis":
		c.asis = true
	case "http10":
		c.message.Proto = "HTTP/1.0"
	case "http2":
		c.message.Proto = "HTTP/2.0"
	}
	return nil
}

// field adds a field of a multipart form.
func (c *command) field(value string, line int) error {
	name, text, ok := strings.Cut(value, "=")
	if !ok {
		return fault(line, "a field of a form has a name, an equals sign and a value")
	}
	c.form.WriteString("--" + formBoundary + "\r\nContent-Disposition: form-data; name=\"" + strings.ReplaceAll(name, `"`, `\"`) + "\"\r\n\r\n" + text + "\r\n")
	return nil
}

// finish puts the request together.
func (c *command) finish() (Message, error) {
	m := c.message
	if c.url == "" {
		return Message{}, fault(0, "the command has no URL")
	}
	if !strings.Contains(c.url, "://") {
		c.url = "http://" + c.url
	}
	u, err := url.Parse(c.url)
	if err != nil || u.Host == "" {
		return Message{}, fault(0, "the URL cannot be read")
	}
	if m.Host == "" {
		m.Host = u.Host
	}
	// What curl sends is what was written, without the fragment and, unless it is
	// told otherwise, without dot segments.
	_, target, _ := strings.Cut(c.url, "://")
	target, _, _ = strings.Cut(target, "#")
	if i := strings.IndexAny(target, "/?"); i >= 0 {
		target = target[i:]
	} else {
		target = ""
	}
	if !strings.HasPrefix(target, "/") {
		target = "/" + target
	}
	if !c.asis {
		path, query, asked := strings.Cut(target, "?")
		if path = withoutDots(path); asked {
			path += "?" + query
		}
		target = path
	}
	data, kind := strings.Join(c.data, "&"), c.kind
	switch {
	case c.form.Len() > 0:
		data = c.form.String() + "--" + formBoundary + "--\r\n"
		kind = "multipart/form-data; boundary=" + formBoundary
	case kind == "application/json":
		data = strings.Join(c.data, "")
	case len(c.data) > 0:
		kind = "application/x-www-form-urlencoded"
	}
	sends := len(c.data) > 0 || c.form.Len() > 0
	m.Method = "GET"
	switch {
	case c.head:
		m.Method = "HEAD"
	case sends && !c.get:
		m.Method = "POST"
	}
	if c.method != "" {
		m.Method = c.method
	}
	has := func(name string) bool {
		for _, f := range m.Header {
			if strings.EqualFold(f.Name, name) {
				return true
			}
		}
		return false
	}
	switch {
	case sends && c.get:
		target += map[bool]string{false: "?", true: "&"}[strings.Contains(target, "?")] + data
	case sends:
		m.Body = []byte(data)
		if !has("Content-Type") {
			m.Header = append(m.Header, Field{"Content-Type", kind})
		}
	}
	if !has("User-Agent") {
		m.Header = append(m.Header, Field{"User-Agent", "curl/8.5.0"})
	}
	if !has("Accept") {
		m.Header = append(m.Header, Field{"Accept", "*/*"})
	}
	m.Target = target
	return m, nil
}

// withoutDots removes dot segments as RFC 3986 section 5.2.4 says.
func withoutDots(path string) string {
	var out []string
	segments := strings.Split(path, "/")
	for i, s := range segments {
		last := i == len(segments)-1
		switch s {
		case ".":
			if last {
				out = append(out, "")
			}
		case "..":
			if len(out) > 1 {
				out = out[:len(out)-1]
			}
			if last {
				out = append(out, "")
			}
		default:
			out = append(out, s)
		}
	}
	return strings.Join(out, "/")
}
