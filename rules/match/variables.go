package match

import (
	"net/http"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/moatwaf/moat/filter"
)

// variable is a name that expressions know.
type variable struct {
	name string
	typ  *cel.Type
	// most bounds the size of the value: bytes of a string, entries of a map.
	// A value over it is an error of the evaluation. 0 is for numbers.
	most uint64
	uses Uses
	get  func(*filter.Request) ref.Val
}

// Bounds of the values. The first is above what net/http takes as a header
// block by default (1 MiB with the request line), so that no usual server meets it.
const (
	mostHeader = 1<<20 + 4096
	mostFields = 1 << 14
	mostPath   = 8 << 10
	mostShort  = 1 << 10
)

// variables are the names, as Cloudflare's rules language spells them.
var variables = []variable{
	{"ip.src", cel.StringType, mostShort, Uses{}, func(r *filter.Request) ref.Val {
		if !r.Client.IsValid() {
			return types.String("")
		}
		return types.String(r.Client.String())
	}},
	{"ip.src.country", cel.StringType, mostShort, Uses{Country: true}, func(r *filter.Request) ref.Val {
		return types.String(r.Location().Country)
	}},
	{"ip.src.asnum", cel.IntType, 0, Uses{ASN: true}, func(r *filter.Request) ref.Val {
		return types.Int(r.Location().ASN)
	}},
	{"http.host", cel.StringType, mostHeader, Uses{}, func(r *filter.Request) ref.Val {
		return types.String(r.Host)
	}},
	{"http.user_agent", cel.StringType, mostHeader, Uses{}, headerVariable("User-Agent")},
	{"http.referer", cel.StringType, mostHeader, Uses{}, headerVariable("Referer")},
	{"http.cookie", cel.StringType, mostHeader, Uses{}, headerVariable("Cookie")},
	{"http.request.method", cel.StringType, mostHeader, Uses{}, func(r *filter.Request) ref.Val {
		if r.HTTP.Method == "" {
			return types.String(http.MethodGet)
		}
		return types.String(r.HTTP.Method)
	}},
	{"http.request.version", cel.StringType, mostShort, Uses{}, func(r *filter.Request) ref.Val {
		return types.String(version(r.HTTP))
	}},
	{"http.request.uri.path", cel.StringType, mostPath, Uses{Path: true}, func(r *filter.Request) ref.Val {
		return types.String(r.Path)
	}},
	{"http.request.uri.query", cel.StringType, mostHeader, Uses{}, func(r *filter.Request) ref.Val {
		if r.HTTP.URL == nil {
			return types.String("")
		}
		return types.String(r.HTTP.URL.RawQuery)
	}},
	{"http.request.headers", cel.MapType(cel.StringType, cel.StringType), mostFields, Uses{}, func(r *filter.Request) ref.Val {
		return headers{r}
	}},
}

func headerVariable(name string) func(*filter.Request) ref.Val {
	return func(r *filter.Request) ref.Val { return types.String(headerValue(r.HTTP, name)) }
}

// headerValue returns the value of a header field of canonical name, its lines
// joined as RFC 9110 section 5.2 and, of Cookie, RFC 9113 section 8.2.3 say. It
// is empty if there is none.
func headerValue(hr *http.Request, name string) string {
	lines := hr.Header[name]
	switch {
	case name == "Host":
		return hr.Host
	case len(lines) == 0:
		return ""
	case len(lines) == 1:
		return lines[0]
	case name == "Cookie":
		return strings.Join(lines, "; ")
	}
	return strings.Join(lines, ", ")
}

// version names the protocol as the rules language does: the minor number only
// where there is one.
func version(hr *http.Request) string {
	switch hr.ProtoMajor {
	case 2:
		return "HTTP/2"
	case 3:
		return "HTTP/3"
	}
	return hr.Proto
}

// variableIndex finds a variable by name.
var variableIndex = func() map[string]*variable {
	index := make(map[string]*variable, len(variables))
	for i := range variables {
		index[variables[i].name] = &variables[i]
	}
	return index
}()

// activation gives an expression the variables of a request. Each is made when
// the expression asks for it.
type activation struct{ r *filter.Request }

// ResolveName implements cel.Activation.
func (a *activation) ResolveName(name string) (any, bool) {
	v, ok := variableIndex[name]
	if !ok {
		return nil, false
	}
	value := v.get(a.r)
	var size uint64
	switch value := value.(type) {
	case types.String:
		size = uint64(len(value))
	case headers:
		size = uint64(len(a.r.HTTP.Header))
	}
	if size > v.most {
		return types.NewErr("%s is too large", name), true
	}
	return value, true
}

// Parent implements cel.Activation.
func (a *activation) Parent() cel.Activation { return nil }
