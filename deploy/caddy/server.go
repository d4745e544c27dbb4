package moatcaddy

import (
	"net/http"
	"net/netip"
	"reflect"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/moatwaf/moat/filter"
)

// facts are what a handler needs to know of the server that it runs in.
type facts struct {
	server *caddyhttp.Server

	// trustsProxies says that Caddy was told which proxies to trust, so that the
	// client's address is Caddy's finding.
	trustsProxies bool

	// errorRoute is the server's error routes; nil if there are none. extended
	// says that an ErrorHandler stands in front of them.
	errorRoute caddyhttp.Handler
	extended   bool
}

// serverFacts remembers the facts of the server that asked last. A handler runs in
// one server, but for named routes.
type serverFacts struct{ last atomic.Pointer[facts] }

func (s *serverFacts) of(r *http.Request) *facts {
	server, _ := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if f := s.last.Load(); f != nil && f.server == server {
		return f
	}
	f := &facts{server: server}
	if server != nil {
		f.trustsProxies = trustsProxies(server)
		if server.Errors != nil && len(server.Errors.Routes) > 0 {
			f.extended = isExtended(server.Errors.Routes)
			f.errorRoute = server.Errors.Routes.Compile(caddyhttp.HandlerFunc(unanswered))
		}
	}
	s.last.Store(f)
	return f
}

// unanswered is the end of error routes: nothing is written.
func unanswered(http.ResponseWriter, *http.Request) error { return nil }

// trustedProxiesField is where a server keeps the proxies that it trusts. Caddy
// does not export it, and drops the configuration that it was made of; a test
// holds that it is there.
const trustedProxiesField = "trustedProxies"

// trustsProxies reports whether the server was told which proxies to trust. That a
// peer is no trusted proxy does not tell: it may be that there are none.
func trustsProxies(s *caddyhttp.Server) bool {
	if s.TrustedProxiesUnix {
		return true
	}
	field := reflect.ValueOf(s).Elem().FieldByName(trustedProxiesField)
	return field.IsValid() && !field.IsNil()
}

// clientOf returns Caddy's finding of the client's address. It is the zero Addr
// where Caddy found none, as on a Unix socket; the peer then is no address either,
// and no policy trusts it.
func clientOf(r *http.Request) netip.Addr {
	text, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

const forwardedFor = "X-Forwarded-For"

// shareClient tells the handlers behind moat, reverse_proxy above all, whose
// request this is, so that they do not derive it a second time by other rules. Proxies
// that name the client in another field than X-Forwarded-For may pass on what the
// client has written there: header is the field that the policy reads.
func shareClient(hr *http.Request, r *filter.Request, header string) {
	if r.Client != r.Peer && r.Client.IsValid() {
		if header != forwardedFor {
			hr.Header[forwardedFor] = []string{r.Client.String()}
		}
		caddyhttp.SetVar(hr.Context(), caddyhttp.TrustedProxyVarKey, true)
		caddyhttp.SetVar(hr.Context(), caddyhttp.ClientIPVarKey, r.Client.String())
	}
}
