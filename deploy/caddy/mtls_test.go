package moatcaddy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// certificate makes a certificate in template, signed by the parent, or by itself.
func certificate(t *testing.T, template, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// TestClientCertificates holds that Caddy's client_auth is what moat goes by, in HTTP/1
// and HTTP/2, and that no header field speaks for a certificate.
func TestClientCertificates(t *testing.T) {
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	authority := func() (*x509.Certificate, *ecdsa.PrivateKey) {
		return certificate(t, &x509.Certificate{Subject: pkix.Name{CommonName: "clients"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, nil)
	}
	ca, caKey := authority()
	foreign, foreignKey := authority()
	server, serverKey := certificate(t, &x509.Certificate{Subject: pkix.Name{CommonName: "server"}, DNSNames: []string{"localhost"}}, nil, nil)
	serverDER, err := x509.MarshalECPrivateKey(serverKey)
	if err != nil {
		t.Fatal(err)
	}
	client := func(uri string, by *x509.Certificate, key *ecdsa.PrivateKey) *tls.Certificate {
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		c, k := certificate(t, &x509.Certificate{URIs: []*url.URL{u}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, by, key)
		return &tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: k}
	}
	billing := client("spiffe://example.org/billing", ca, caKey)
	web := client("spiffe://example.org/web", ca, caKey)
	other := client("spiffe://example.com/billing", ca, caKey)
	forged := client("spiffe://example.org/billing", foreign, foreignKey)

	policy := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte(policyHead+noWAF+`
auth:
  methods:
    - mtls: {name: uri, allow: [{name: "spiffe://example.org/*"}, {name: "spiffe://example.org/billing", roles: [billing]}]}
    - basic: {htpasswd: users.htpasswd}
  require:
    - {match: {path: /both}}
    - {match: {path: /public}, auth: none}
    - {match: {path: /billing}, methods: mtls, roles: billing}
    - {methods: mtls}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "users.htpasswd"), []byte("anna:"+annaPass+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	type want struct {
		cert      *tls.Certificate
		path      string
		status    int
		body      string
		challenge bool
	}
	always := []want{
		{nil, "/", 403, "", false},
		{nil, "/both", 401, "", true},
		{nil, "/public", 200, "", false},
	}
	verified := []want{
		{billing, "/", 200, "spiffe://example.org/billing", false},
		{billing, "/billing", 200, "spiffe://example.org/billing", false},
		{web, "/", 200, "spiffe://example.org/web", false},
		{web, "/billing", 403, "", false},
		{other, "/", 403, "", false},
		{other, "/both", 401, "", true},
	}
	for mode, table := range map[string][]want{
		"verify_if_given": append(verified, always...),
		// Caddy asks and does not verify: a certificate says what it likes.
		"request": append([]want{{billing, "/", 403, "", false}, {forged, "/", 403, "", false}, {forged, "/both", 401, "", true}}, always...),
	} {
		t.Run(mode, func(t *testing.T) {
			trust := ""
			if mode == "verify_if_given" {
				trust = "trust_pool file " + write("ca.pem", "CERTIFICATE", ca.Raw)
			}
			s := newServer(t)
			if err := s.load(t, "{\nGLOBAL\n}\nhttps://localhost:PORT {\nbind 127.0.0.1\ntls "+write("server.pem", "CERTIFICATE", server.Raw)+" "+write("server.key", "EC PRIVATE KEY", serverDER)+
				" {\nclient_auth {\nmode "+mode+"\n"+trust+"\n}\n}\nmoat "+policy+"\nrespond {http.moat.identity}\n}\n"); err != nil {
				t.Fatal(err)
			}
			for _, http2 := range []bool{true, false} {
				for _, tt := range table {
					config := &tls.Config{RootCAs: x509.NewCertPool()}
					config.RootCAs.AddCert(server)
					if tt.cert != nil {
						config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return tt.cert, nil }
					}
					transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: http2, DisableKeepAlives: true}
					s.client.Transport = transport
					a := s.get(t, "https://localhost"+s.addr[strings.LastIndexByte(s.addr, ':'):]+tt.path, "X-Client-Cert: "+url.QueryEscape(string(billing.Certificate[0])), "X-Ssl-Client-Verify: SUCCESS", "X-Ssl-Client-S-Dn: CN=billing")
					if a.status != tt.status || tt.status == 200 && a.body != tt.body || (len(a.header["Www-Authenticate"]) > 0) != tt.challenge {
						t.Errorf("%s, HTTP/2 %v: %d %v %q, want %d %q", tt.path, http2, a.status, a.header, a.body, tt.status, tt.body)
					}
				}
			}
		})
	}
}
