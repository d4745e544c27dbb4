package profile

import (
	"embed"
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"path"
	"slices"
	"strings"

	"github.com/moatwaf/moat/rules"
)

//go:embed profiles/*.yaml
var files embed.FS

// Names returns the names of the embedded profiles, in order.
func Names() []string {
	entries, err := files.ReadDir("profiles")
	if err != nil {
		return nil
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = strings.TrimSuffix(e.Name(), path.Ext(e.Name()))
	}
	slices.Sort(names) // the names of files are in another order
	return names
}

// ByName returns an embedded profile; false if there is none of the name.
func ByName(name string) (*Profile, bool) {
	if !slices.Contains(Names(), name) {
		return nil, false
	}
	data, err := files.ReadFile("profiles/" + name + ".yaml")
	if err != nil {
		return nil, false
	}
	p, err := Read(name+".yaml", data)
	return p, err == nil
}

// Bounds of a profile.
const (
	maxBody  = 64 << 10
	maxField = 4 << 10
)

// file is a profile as it is written.
type file struct {
	Description string                           `yaml:"description" doc:"which system answers like this, and where that is known from"`
	Header      rules.Located[map[string]string] `yaml:"header" doc:"header fields of every answer"`
	ContentType rules.Located[string]            `yaml:"content_type" doc:"media type of the bodies; default application/json"`
	Default     rules.Located[fileAnswer]        `yaml:"default,required" doc:"the answer to causes that have none of their own"`

	NoCredentials        *rules.Located[fileAnswer] `yaml:"no_credentials"`
	BadCredentials       *rules.Located[fileAnswer] `yaml:"bad_credentials"`
	MalformedCredentials *rules.Located[fileAnswer] `yaml:"malformed_credentials"`
	Forbidden            *rules.Located[fileAnswer] `yaml:"forbidden"`
	InsufficientScope    *rules.Located[fileAnswer] `yaml:"insufficient_scope"`
	Concealed            *rules.Located[fileAnswer] `yaml:"concealed"`
	Rule                 *rules.Located[fileAnswer] `yaml:"rule"`
	Payload              *rules.Located[fileAnswer] `yaml:"payload"`
	RateLimit            *rules.Located[fileAnswer] `yaml:"rate_limit"`
	Oversize             *rules.Located[fileAnswer] `yaml:"oversize"`
	Malformed            *rules.Located[fileAnswer] `yaml:"malformed"`
	Unavailable          *rules.Located[fileAnswer] `yaml:"unavailable"`
}

type fileAnswer struct {
	Status      rules.Located[int]               `yaml:"status" doc:"default: that of the decision"`
	Header      rules.Located[map[string]string] `yaml:"header" doc:"header fields beside those of every answer"`
	ContentType rules.Located[string]            `yaml:"content_type"`
	Body        rules.Located[string]            `yaml:"body"`
	HTML        rules.Located[string]            `yaml:"html" doc:"the body for clients that prefer HTML"`
	Challenges  *[]string                        `yaml:"challenges" doc:"WWW-Authenticate in place of the policy's; [] sends none"`
}

// answers returns what is written for the causes, in their order.
func (f *file) answers() [causeCount]*rules.Located[fileAnswer] {
	return [causeCount]*rules.Located[fileAnswer]{
		f.NoCredentials, f.BadCredentials, f.MalformedCredentials, f.Forbidden, f.InsufficientScope, f.Concealed,
		f.Rule, f.Payload, f.RateLimit, f.Oversize, f.Malformed, f.Unavailable,
	}
}

// mayAnswer reports whether a cause may have the status: 401 asks for credentials, and is
// for whoever has none that are good. 405, 407, 426 and their like promise fields
// that a refusal does not have.
func mayAnswer(c Cause, status int) bool {
	switch status {
	case http.StatusUnauthorized:
		return c == NoCredentials || c == BadCredentials || c == MalformedCredentials
	case http.StatusMethodNotAllowed, http.StatusProxyAuthRequired, http.StatusUpgradeRequired, http.StatusRequestTimeout:
		return false
	}
	return status >= 400 && status <= 599
}

// Read reads a profile. The error is rules.Errors.
func Read(name string, data []byte) (*Profile, error) {
	var f file
	errs := rules.Decode(name, data, &f)
	p := new(Profile)
	for c, written := range f.answers() {
		at := f.Default
		if written != nil {
			at = *written
		}
		a, faults := f.compile(Cause(c), at, written == nil)
		errs = append(errs, faults...)
		p.answers[c] = a
	}
	if len(errs) > 0 {
		// What is wrong for every answer is told once.
		type fault struct {
			pos rules.Position
			msg string
		}
		seen := make(map[fault]bool)
		errs = slices.DeleteFunc(errs, func(e *rules.Error) bool {
			f := fault{e.Pos, e.Msg}
			twice := seen[f]
			seen[f] = true
			return twice
		})
		errs.Sort()
		return nil, errs.Err()
	}
	return p, nil
}

func (f *file) compile(c Cause, at rules.Located[fileAnswer], isDefault bool) (a answer, errs rules.Errors) {
	w := at.Value
	fault := func(l rules.Located[string], err error) {
		if err != nil {
			errs = append(errs, l.Errorf("", "%s", err))
		}
	}
	if w.Status.Set() {
		a.status = w.Status.Value
		if !mayAnswer(c, a.status) {
			if isDefault {
				errs = append(errs, w.Status.Errorf("400 to 599; write 401 for no_credentials and bad_credentials", "%d is no answer to everything", a.status))
			} else {
				errs = append(errs, w.Status.Errorf("400 to 599; 401 for missing, bad and malformed credentials only", "%s cannot be answered with %d", causeNames[c], a.status))
			}
		}
	}
	a.contentType = "application/json"
	for _, t := range []rules.Located[string]{f.ContentType, w.ContentType} {
		if t.Set() {
			a.contentType = t.Value
			if !isFieldValue(t.Value) || !strings.Contains(t.Value, "/") {
				errs = append(errs, t.Errorf("such as application/json", "not a media type"))
			}
		}
	}
	compileText := func(l rules.Located[string]) template {
		if !l.Set() {
			return nil
		}
		if len(l.Value) > maxBody {
			errs = append(errs, l.Errorf("", "a body of %d bytes, %d are allowed", len(l.Value), maxBody))
			return nil
		}
		t, err := parseTemplate(l.Value)
		fault(l, err)
		return t
	}
	a.body, a.html = compileText(w.Body), compileText(w.HTML)
	merged := make(map[string]template)
	for _, header := range []rules.Located[map[string]string]{f.Header, w.Header} {
		for _, name := range slices.Sorted(maps.Keys(header.Value)) {
			value := header.Value[name]
			t, err := parseTemplate(value)
			canonical := textproto.CanonicalMIMEHeaderKey(name)
			switch {
			case !isToken(name):
				err = fmt.Errorf("%q is no name of a header field", name)
			case slices.Contains(reserved, canonical):
				err = fmt.Errorf("the header field %s is not the profile's to set", canonical)
			case err == nil && (!isFieldValue(value) || len(value) > maxField):
				err = fmt.Errorf("the header field %s has a value that no field can have", canonical)
			}
			if err != nil {
				errs = append(errs, header.Errorf("", "%s", err))
			}
			merged[canonical] = t
		}
	}
	for name, t := range merged {
		a.header = append(a.header, field{name, t})
	}
	slices.SortFunc(a.header, func(a, b field) int { return strings.Compare(a.name, b.name) })
	if w.Challenges != nil {
		a.own, a.challenges = true, *w.Challenges
		for _, challenge := range a.challenges {
			if !isFieldValue(challenge) || challenge == "" {
				errs = append(errs, at.Errorf(`such as Basic realm="api"`, "a challenge that no field can hold"))
			}
		}
	}
	return a, errs
}

// reserved are header fields that the server, or this package, sets.
var reserved = []string{
	"Cache-Control", "Connection", "Content-Encoding", "Content-Length", "Content-Type", "Date", "Keep-Alive", "Trailer", "Transfer-Encoding",
	"Upgrade", "Vary", "Www-Authenticate",
}

func isFieldValue(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c > '~' })
}

func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return c <= ' ' || c > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c)
	})
}
