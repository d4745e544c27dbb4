package auth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moatwaf/moat/deploy/nethttp"
	"github.com/moatwaf/moat/filter"
	"github.com/moatwaf/moat/filter/auth"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

var serials = big.NewInt(1000)

// newAuthority returns a root, or, below parent, an intermediate.
func newAuthority(t testing.TB, name string, parent *authority) *authority {
	t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: now.Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
	}
	cert, key := issue(t, template, parent)
	return &authority{cert, key}
}

func issue(t testing.TB, template *x509.Certificate, by *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = new(big.Int).Set(serials.Add(serials, big.NewInt(1)))
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func (a *authority) file() auth.File {
	return auth.File{Name: "ca.pem", Data: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// client returns a client's certificate with further intermediates.
func client(t testing.TB, by *authority, change func(*x509.Certificate), chain ...*authority) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "printer-7"}, NotBefore: now.Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	cert, key := issue(t, template, by)
	c := tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
	for _, a := range chain {
		c.Certificate = append(c.Certificate, a.cert.Raw)
	}
	return c
}

func uris(t testing.TB, all ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		for _, s := range all {
			u, err := url.Parse(s)
			if err != nil {
				t.Fatal(err)
			}
			c.URIs = append(c.URIs, u)
		}
	}
}

func pinOf(c tls.Certificate) string {
	sum := sha256.Sum256(c.Leaf.RawSubjectPublicKeyInfo)
	return "sha256/" + base64.StdEncoding.EncodeToString(sum[:])
}

func fingerprintOf(raw []byte) string { return fmt.Sprintf("%x", sha256.Sum256(raw)) }

func newMTLS(t testing.TB, c auth.MTLSConfig) *auth.MTLS {
	t.Helper()
	m, err := auth.NewMTLS(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// tlsSite is a real server that asks for certificates as mode says, with the method,
// and Bearer below /both. It answers with the caller.
func tlsSite(t testing.TB, m *auth.MTLS, mode tls.ClientAuthType, trusted *x509.CertPool) *httptest.Server {
	t.Helper()
	a, err := auth.New(auth.Config{Realm: "api", Methods: []auth.Method{newBearer(t, nil), m}, Requirements: []auth.Requirement{
		{Match: under("/public"), Auth: auth.None},
		{Match: under("/both")},
		{Match: under("/staff"), Methods: []string{"mtls"}, Roles: []string{"staff"}},
		{Match: under("/fresh"), Methods: []string{"mtls"}, MaxAge: time.Minute},
		{Match: under("/hidden"), Methods: []string{"mtls"}, Conceal: true},
		{Match: under("/hid"), Auth: auth.None},
		{Methods: []string{"mtls"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var e filter.Engine
	e.Swap(filter.NewPipeline(filter.Config{Name: "test", Conceals: true, Steps: []filter.Step{
		{Stage: a.Authenticate(), Always: true}, {Stage: a.Authorize(), Always: true},
	}}))
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = nethttp.Serve(&e, w, r, func(w http.ResponseWriter, _ *http.Request, r *filter.Request) error {
			if r.Identity != nil {
				_, _ = io.WriteString(w, r.Identity.Method+" "+r.Identity.Subject+" "+strings.Join(r.Identity.Roles, ","))
			}
			return nil
		})
	}))
	s.TLS = &tls.Config{ClientAuth: mode, ClientCAs: trusted}
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// over asks the site with a certificate; the zero one sends none.
func over(t testing.TB, s *httptest.Server, cert tls.Certificate, path string, fields ...string) (*http.Response, string) {
	t.Helper()
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AddCert(s.Certificate())
	if cert.PrivateKey != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Add(fields[i], fields[i+1])
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

// TestMTLS holds who comes in by a certificate, over real connections.
func TestMTLS(t *testing.T) {
	root, foreign := newAuthority(t, "root", nil), newAuthority(t, "root", nil)
	middle := newAuthority(t, "middle", root)
	printer := client(t, root, nil)
	self := client(t, nil, nil)
	all := auth.MTLSConfig{Name: auth.CertificateCN}
	twoCNs := client(t, root, func(c *x509.Certificate) {
		c.Subject = pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
			{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "admin"}, {Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "printer-7"},
		}}
	})
	billing := client(t, root, uris(t, "spiffe://example.org/billing"))
	belowMiddle := client(t, middle, nil, middle)
	services := []auth.AllowedCertificate{{Name: "spiffe://example.org/*", Roles: []string{"service"}}, {Name: "spiffe://example.org/billing", Roles: []string{"staff"}}}
	uri := auth.MTLSConfig{Name: auth.CertificateURI, Allow: services}
	verify, given, requested := tls.RequireAndVerifyClientCert, tls.VerifyClientCertIfGiven, tls.RequestClientCert
	for _, tt := range []struct {
		name   string
		config auth.MTLSConfig
		mode   tls.ClientAuthType
		cert   tls.Certificate
		path   string
		status int
		body   string
	}{
		{"verified by the server", all, verify, printer, "/", 200, "mtls printer-7 "},
		{"verified by the server if given", all, given, printer, "/", 200, "mtls printer-7 "},
		{"by an intermediate", all, verify, belowMiddle, "/", 200, "mtls printer-7 "},
		{"none, and nobody can be asked", all, given, tls.Certificate{}, "/", 403, ""},
		{"none, and Bearer is taken", all, given, tls.Certificate{}, "/both", 401, ""},
		{"none, on a path that asks nobody", all, given, tls.Certificate{}, "/public", 200, ""},
		{"none, concealed", all, given, tls.Certificate{}, "/hidden", 404, ""},
		{"none was asked for", all, tls.NoClientCert, printer, "/", 403, ""},
		{"sent and not verified", all, requested, printer, "/", 403, ""},
		{"self-signed in the same name", all, requested, self, "/", 403, ""},
		{"self-signed, and Bearer is taken", all, requested, self, "/both", 401, ""},

		{"verified here", auth.MTLSConfig{Name: auth.CertificateCN, CA: root.file()}, requested, printer, "/", 200, "mtls printer-7 "},
		{"verified here, by an intermediate", auth.MTLSConfig{Name: auth.CertificateCN, CA: root.file()}, requested, belowMiddle, "/", 200, "mtls printer-7 "},
		{"verified here, the intermediate is missing", auth.MTLSConfig{Name: auth.CertificateCN, CA: root.file()}, requested, client(t, middle, nil), "/", 403, ""},
		{"another authority of the same name", auth.MTLSConfig{Name: auth.CertificateCN, CA: root.file()}, requested, client(t, foreign, nil), "/", 403, ""},
		{"the server's authority is not this one's", auth.MTLSConfig{Name: auth.CertificateCN, CA: foreign.file()}, verify, printer, "/", 403, ""},
		{"a server's certificate", auth.MTLSConfig{Name: auth.CertificateCN, CA: root.file()}, requested, client(t, root, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), "/", 403, ""},
		{"expired, verified here", auth.MTLSConfig{Name: auth.CertificateCN, CA: root.file()}, requested, client(t, root, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), "/", 403, ""},

		{"URI", uri, verify, billing, "/", 200, "mtls spiffe://example.org/billing service,staff"},
		{"URI with a role", uri, verify, billing, "/staff", 200, "mtls spiffe://example.org/billing service,staff"},
		{"URI without the role", uri, verify, client(t, root, uris(t, "spiffe://example.org/web")), "/staff", 403, ""},
		{"URI not on the list", uri, verify, client(t, root, uris(t, "spiffe://example.com/billing")), "/", 403, ""},
		{"URI not on the list, and Bearer is taken", uri, verify, client(t, root, uris(t, "spiffe://example.com/billing")), "/both", 401, ""},
		{"URI, of which one is on the list", uri, verify, client(t, root, uris(t, "https://other.example/", "spiffe://example.org/web")), "/", 200, "mtls spiffe://example.org/web service"},
		{"two URIs that are on the list", uri, verify, client(t, root, uris(t, "spiffe://example.org/a", "spiffe://example.org/b")), "/", 403, ""},
		{"the URI as a common name", uri, verify, client(t, root, func(c *x509.Certificate) { c.Subject.CommonName = "spiffe://example.org/billing" }), "/", 403, ""},
		{"no URI", auth.MTLSConfig{Name: auth.CertificateURI}, verify, printer, "/", 403, ""},
		{"host name in capitals", auth.MTLSConfig{Name: auth.CertificateDNS, Allow: []auth.AllowedCertificate{{Name: "printer.example.com"}}}, verify, client(t, root, func(c *x509.Certificate) { c.DNSNames = []string{"Printer.example.com"} }), "/", 200, "mtls printer.example.com "},
		{"host name below", auth.MTLSConfig{Name: auth.CertificateDNS, Allow: []auth.AllowedCertificate{{Name: "*.example.com"}}}, verify, client(t, root, func(c *x509.Certificate) { c.DNSNames = []string{"a.b.example.com"} }), "/", 200, "mtls a.b.example.com "},
		{"host name that only ends alike", auth.MTLSConfig{Name: auth.CertificateDNS, Allow: []auth.AllowedCertificate{{Name: "*.example.com"}}}, verify, client(t, root, func(c *x509.Certificate) { c.DNSNames = []string{"evilexample.com"} }), "/", 403, ""},
		{"mail address of a domain", auth.MTLSConfig{Name: auth.CertificateEmail, Allow: []auth.AllowedCertificate{{Name: "*@example.com"}}}, verify, client(t, root, func(c *x509.Certificate) { c.EmailAddresses = []string{"a@example.com"} }), "/", 200, "mtls a@example.com "},
		{"mail address of another domain", auth.MTLSConfig{Name: auth.CertificateEmail, Allow: []auth.AllowedCertificate{{Name: "*@example.com"}}}, verify, client(t, root, func(c *x509.Certificate) { c.EmailAddresses = []string{"a@evil.example.com"} }), "/", 403, ""},
		{"common name that begins so", auth.MTLSConfig{Name: auth.CertificateCN, Allow: []auth.AllowedCertificate{{Name: "printer-*"}}}, verify, printer, "/", 200, "mtls printer-7 "},
		{"mail address", auth.MTLSConfig{Name: auth.CertificateEmail}, verify, client(t, root, func(c *x509.Certificate) { c.EmailAddresses = []string{"a@example.com"} }), "/", 200, "mtls a@example.com "},
		{"two common names", all, verify, twoCNs, "/", 403, ""},
		{"no common name", all, verify, client(t, root, func(c *x509.Certificate) { c.Subject = pkix.Name{Organization: []string{"x"}} }), "/", 403, ""},
		{"common name with a line end", all, verify, client(t, root, func(c *x509.Certificate) { c.Subject.CommonName = "a\r\nX-Admin: 1" }), "/", 403, ""},

		{"pin", auth.MTLSConfig{Name: auth.CertificateSPKI, Allow: []auth.AllowedCertificate{{Name: pinOf(self)}}}, requested, self, "/", 200, "mtls " + pinOf(self) + " "},
		{"another pin", auth.MTLSConfig{Name: auth.CertificateSPKI, Allow: []auth.AllowedCertificate{{Name: pinOf(printer)}}}, requested, self, "/", 403, ""},
		{"any pin must be verified", auth.MTLSConfig{Name: auth.CertificateSPKI}, requested, self, "/", 403, ""},
		{"pin and authority", auth.MTLSConfig{Name: auth.CertificateSPKI, CA: root.file(), Allow: []auth.AllowedCertificate{{Name: pinOf(self)}}}, requested, self, "/", 403, ""},

		{"revoked", auth.MTLSConfig{Name: auth.CertificateCN, Revoked: auth.File{Name: "r", Data: []byte("# gone\n" + strings.ToUpper(fingerprintOf(printer.Leaf.Raw)) + "\n")}}, verify, printer, "/", 403, ""},
		{"the intermediate revoked", auth.MTLSConfig{Name: auth.CertificateCN, Revoked: auth.File{Name: "r", Data: []byte(fingerprintOf(middle.cert.Raw))}}, verify, belowMiddle, "/", 403, ""},
		{"a fresher proof wanted", all, verify, printer, "/fresh", 403, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := tlsSite(t, newMTLS(t, tt.config), tt.mode, root.pool())
			for range 2 {
				res, body := over(t, s, tt.cert, tt.path)
				challenged := strings.Join(res.Header["Www-Authenticate"], ", ")
				if res.StatusCode != tt.status || tt.status == 200 && body != tt.body {
					t.Errorf("%d %q, want %d %q", res.StatusCode, body, tt.status, tt.body)
				}
				if want := tt.status == 401; strings.HasPrefix(challenged, "Bearer ") != want || !want && challenged != "" {
					t.Errorf("challenges %q", challenged)
				}
			}
		})
	}
}

// TestMTLSIsNoHeader holds that no header field speaks for a certificate.
func TestMTLSIsNoHeader(t *testing.T) {
	root := newAuthority(t, "root", nil)
	printer := client(t, root, nil)
	s := tlsSite(t, newMTLS(t, auth.MTLSConfig{Name: auth.CertificateCN}), tls.VerifyClientCertIfGiven, root.pool())
	raw := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: printer.Leaf.Raw}))
	var fields []string
	for _, name := range []string{"X-SSL-Client-Cert", "X-Client-Cert", "Ssl-Client-Cert", "X-Forwarded-Tls-Client-Cert", "X-Forwarded-Client-Cert", "Client-Cert", "X-SSL-Client-Verify", "X-SSL-Client-S-DN", "X-Remote-User"} {
		fields = append(fields, name, url.QueryEscape(raw), name, ":"+base64.StdEncoding.EncodeToString(printer.Leaf.Raw)+":", name, "CN=printer-7", name, "SUCCESS")
	}
	if res, body := over(t, s, tls.Certificate{}, "/", fields...); res.StatusCode != 403 || strings.Contains(body, "printer") {
		t.Errorf("%d %q", res.StatusCode, body)
	}
}

// TestMTLSOfAProxy holds that the certificate of a proxy is not that of the clients for
// which it speaks.
func TestMTLSOfAProxy(t *testing.T) {
	root := newAuthority(t, "root", nil)
	c := client(t, root, nil)
	m := newMTLS(t, auth.MTLSConfig{Name: auth.CertificateCN})
	hr := httptest.NewRequest("GET", "/", nil)
	hr.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c.Leaf}, VerifiedChains: [][]*x509.Certificate{{c.Leaf, root.cert}}}
	r := filter.NewRequest(hr, now)
	defer r.Release()
	for client, want := range map[netip.Addr]auth.Found{{}: auth.Present, r.Peer: auth.Present, netip.MustParseAddr("198.51.100.7"): auth.Absent} {
		r.Client = client
		if _, found := m.Find(r); found != want {
			t.Errorf("for %v: found %d, want %d", client, found, want)
		}
	}
}

// TestMTLSOverTime holds that a remembered certificate is held against the clock: the
// handshake may be long ago.
func TestMTLSOverTime(t *testing.T) {
	root := newAuthority(t, "root", nil)
	middle := newAuthority(t, "middle", root)
	middle.cert.NotAfter = now.Add(time.Minute) // as if it had been signed so
	c := client(t, middle, func(c *x509.Certificate) { c.NotAfter = now.Add(time.Hour) })
	m := newMTLS(t, auth.MTLSConfig{Name: auth.CertificateCN})
	check := func(at time.Time, chains [][]*x509.Certificate, want string) {
		t.Helper()
		hr := httptest.NewRequest("GET", "/", nil)
		hr.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c.Leaf}, VerifiedChains: chains}
		r := filter.NewRequest(hr, at)
		defer r.Release()
		for range 2 {
			if who, err := m.Verify(r, ""); errorText(err) != want || (who == nil) != (want != "") {
				t.Errorf("%v: %+v, %v; want %q", at, who, err, want)
			}
		}
	}
	through := [][]*x509.Certificate{{c.Leaf, middle.cert, root.cert}}
	direct := [][]*x509.Certificate{{c.Leaf, root.cert}}
	const expired = "certificate expired, or not valid yet"
	check(now, through, "")
	check(now.Add(time.Minute), through, "")
	check(now.Add(2*time.Minute), through, expired)
	check(now.Add(2*time.Minute), slices.Concat(through, direct), "")
	check(now.Add(2*time.Hour), slices.Concat(through, direct), expired)
	check(now.Add(-2*time.Hour), through, expired)
	check(now, [][]*x509.Certificate{{root.cert}}, "") // remembered by what it is
	m = newMTLS(t, auth.MTLSConfig{Name: auth.CertificateCN})
	check(now, [][]*x509.Certificate{{root.cert}}, expired) // a chain of another one
	check(now, [][]*x509.Certificate{{}}, expired)
}

// TestMTLSRemembers holds that a certificate that was taken costs little, and that the
// room for them is bounded.
func TestMTLSRemembers(t *testing.T) {
	root := newAuthority(t, "root", nil)
	c := client(t, root, nil)
	m := newMTLS(t, auth.MTLSConfig{Name: auth.CertificateCN, CA: root.file(), Revoked: auth.File{Name: "r", Data: []byte(strings.Repeat("0", 64))}})
	hr := httptest.NewRequest("GET", "/", nil)
	hr.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c.Leaf}}
	r := filter.NewRequest(hr, now)
	defer r.Release()
	if who, err := m.Verify(r, ""); err != nil || who.Claims["fingerprint"] != fingerprintOf(c.Leaf.Raw) {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = m.Verify(r, "") }); n != 0 && !testing.Short() {
		t.Errorf("%v allocations", n)
	}
	// Another certificate is another caller, whatever was remembered.
	hr.TLS.PeerCertificates[0] = client(t, newAuthority(t, "root", nil), nil).Leaf
	if who, err := m.Verify(r, ""); err == nil {
		t.Errorf("got %+v", who)
	}
}

func TestNewMTLSRefuses(t *testing.T) {
	allow := func(names ...string) []auth.AllowedCertificate {
		all := []auth.AllowedCertificate{}
		for _, name := range names {
			all = append(all, auth.AllowedCertificate{Name: name})
		}
		return all
	}
	for want, c := range map[string]auth.MTLSConfig{
		`mtls: a certificate has no "" that could name its owner`:                                        {},
		"mtls: the list of allowed names is empty: nobody could come in":                                 {Name: auth.CertificateCN, Allow: allow()},
		`mtls: "*" is no name to allow: leave the list out to take everybody`:                            {Name: auth.CertificateCN, Allow: allow("*")},
		`mtls: "*-7": an asterisk stands at the end only`:                                                {Name: auth.CertificateCN, Allow: allow("*-7")},
		`mtls: "spiffe://example.org*": an asterisk stands at the end only, behind the host and a slash`: {Name: auth.CertificateURI, Allow: allow("spiffe://example.org*")},
		`mtls: "spiffe://*": an asterisk stands at the end only, behind the host and a slash`:            {Name: auth.CertificateURI, Allow: allow("spiffe://*")},
		`mtls: "printer*": an asterisk stands in front only, with a dot behind it`:                       {Name: auth.CertificateDNS, Allow: allow("printer*")},
		`mtls: "admin@*": an asterisk stands in the place of everything before the @`:                    {Name: auth.CertificateEmail, Allow: allow("admin@*")},
		`mtls: "sha256/*": an asterisk stands for nothing here`:                                          {Name: auth.CertificateSPKI, Allow: allow("sha256/*")},
		`mtls: "*example.com": an asterisk stands in front only, with a dot behind it`:                   {Name: auth.CertificateDNS, Allow: allow("*example.com")},
		`mtls: "a\nb": control characters or broken UTF-8`:                                               {Name: auth.CertificateCN, Allow: allow("a\nb")},
		`mtls: "sha256/abc" is no pin: write sha256/ and the base64 of the key's SHA-256`:                {Name: auth.CertificateSPKI, Allow: allow("sha256/abc")},
		`mtls: "a b" is no scope: printable ASCII without space, quotation mark and backslash`:           {Name: auth.CertificateCN, Allow: []auth.AllowedCertificate{{Name: "a", Scopes: []string{"a b"}}}},
		"ca.pem: no certificate in PEM":                                                                  {Name: auth.CertificateCN, CA: auth.File{Name: "ca.pem", Data: []byte("x")}},
		"r:2: not the SHA-256 of a certificate (openssl x509 -noout -fingerprint -sha256 writes it)":     {Name: auth.CertificateCN, Revoked: auth.File{Name: "r", Data: []byte("#\n12:34")}},
	} {
		if m, err := auth.NewMTLS(c); m != nil || err == nil || !strings.HasPrefix(strings.Replace(err.Error(), "r:2:1:", "r:2:", 1), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// FuzzCertificate reads any certificate that a server has taken.
func FuzzCertificate(f *testing.F) {
	root := newAuthority(f, "root", nil)
	f.Add(client(f, root, nil).Leaf.Raw)
	f.Add(client(f, root, uris(f, "spiffe://a/b", "x:%00")).Leaf.Raw)
	f.Add(client(f, root, func(c *x509.Certificate) {
		c.Subject = pkix.Name{}
		c.EmailAddresses = []string{"a@b"}
		c.DNSNames = []string{"a", "b"}
	}).Leaf.Raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		leaf, err := x509.ParseCertificate(raw)
		if err != nil {
			return
		}
		hr := httptest.NewRequest("GET", "/", nil)
		hr.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, VerifiedChains: [][]*x509.Certificate{{leaf}}}
		r := filter.NewRequest(hr, now)
		defer r.Release()
		for _, name := range auth.CertificateNames() {
			m := newMTLS(t, auth.MTLSConfig{Name: name})
			who, err := m.Verify(r, "")
			if (who == nil) == (err == nil) || who != nil && (who.Subject == "" || strings.ContainsAny(who.Subject, "\r\n\x00")) {
				t.Fatalf("%s: %+v, %v", name, who, err)
			}
		}
	})
}

func BenchmarkMTLS(b *testing.B) {
	root := newAuthority(b, "root", nil)
	m := newMTLS(b, auth.MTLSConfig{Name: auth.CertificateCN, CA: root.file()})
	hr := httptest.NewRequest("GET", "/", nil)
	hr.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{client(b, root, nil).Leaf}}
	r := filter.NewRequest(hr, now)
	defer r.Release()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Verify(r, ""); err != nil {
			b.Fatal(err)
		}
	}
}
