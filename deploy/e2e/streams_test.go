package e2e

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// scenario is what the streaming scenarios work with: a server, and the upstream
// behind it.
type scenario struct {
	target   Target
	addr     string // host:port of the server
	url      string // http://addr
	client   *http.Client
	upstream *upstream
}

// streams are the scenarios in which content flows through the filter. Each has
// a file of its own.
var streams = []struct {
	name string
	run  func(*testing.T, scenario)
}{
	{"websocket", websocketScenario},
	{"server-sent events", eventsScenario},
	{"download", downloadScenario},
	{"upload", uploadScenario},
	{"upload in chunks", chunkedUploadScenario},
	{"bodies byte for byte", bodiesScenario},
	{"head", headScenario},
	{"expect 100-continue", expectScenario},
	{"http2 without tls", cleartextHTTP2Scenario},
}

func TestStreams(t *testing.T) {
	onTargets(t, func(t *testing.T, target Target) {
		policy, err := os.ReadFile(filepath.Join("testdata", "streams.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "policy.yaml")
		writeFile(t, file, policy)
		runStreams(t, target, file)
	})
}

// TestStreamsThroughAPlainProxy holds the scenarios themselves against a reverse
// proxy without a filter: what fails there is a fault of the scenario.
func TestStreamsThroughAPlainProxy(t *testing.T) { runStreams(t, plainProxy{}, "") }

func runStreams(t *testing.T, target Target, policyFile string) {
	u := newUpstream(t)
	s := scenario{target: target, upstream: u, client: newClient(t)}
	s.addr = target.Start(t, policyFile, u.URL)
	s.url = "http://" + s.addr
	for _, stream := range streams {
		t.Run(stream.name, func(t *testing.T) { stream.run(t, s) })
	}
}

func newClient(t *testing.T) *http.Client {
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 16}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// plainProxy is the standard library's reverse proxy as a target.
type plainProxy struct{}

func (plainProxy) Name() string { return "plain" }

func (plainProxy) Start(t *testing.T, _, upstreamURL string) string {
	u, err := url.Parse(upstreamURL)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) },
	})
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}
