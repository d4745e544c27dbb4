package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	bigendian "encoding/binary"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
	"github.com/quic-go/quic-go/http3"
)

// siteTarget is a Caddy as xcaddy builds it, with words in front of reverse_proxy
// and an option of the directive.
type siteTarget struct {
	name, before, option string
}

func (s siteTarget) Name() string { return s.name }

func (s siteTarget) Start(t *testing.T, policyFile, upstreamURL string) string {
	return runCaddy(t, fmt.Sprintf("http://:PORT {\n\tbind 127.0.0.1\n%s\n\tmoat %s {\n\t\t%s\n\t}\n\treverse_proxy %s {\n\t\tflush_interval -1\n\t}\n}\n", s.before, policyFile, s.option, upstreamURL)).addr
}

// TestCaddyStreams runs every scenario of streaming with Caddy's access log on and
// off, in block and in detect mode: the log wraps reader and writer.
func TestCaddyStreams(t *testing.T) {
	skipShort(t)
	policy, err := os.ReadFile(filepath.Join("testdata", "streams.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "policy.yaml")
	writeFile(t, file, append(policy, "audit: {file: \"off\"}\n"...))
	for _, target := range []siteTarget{
		{"block, with access log", "\tlog", "mode block"},
		{"block, without", "", "mode block"},
		{"detect, with access log", "\tlog", "mode detect"},
		{"detect, without", "", "mode detect"},
		{"block, with error routes and identity headers", "\thandle_errors {\n\t\trespond styled\n\t}", "identity_header X-Auth-User"},
	} {
		t.Run(target.name, func(t *testing.T) { runStreams(t, target, file) })
	}
}

// openPolicy lets everything through that no payload rule refuses.
func openPolicy(t *testing.T) string {
	t.Helper()
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	writeFile(t, policy, []byte("version: 1\naudit: {file: \"off\"}\n"))
	return policy
}

// grpcUpstream answers each message of a gRPC stream with the same message, and
// ends with the trailers of gRPC.
func grpcUpstream(t *testing.T) string {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		rc := http.NewResponseController(w)
		_ = rc.Flush()
		for {
			message, err := readMessage(r.Body)
			if err != nil {
				break
			}
			if _, err := w.Write(message); err != nil || rc.Flush() != nil {
				return
			}
		}
		w.Header().Set("Grpc-Status", "0")
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// readMessage reads one length-prefixed message of gRPC.
func readMessage(r io.Reader) ([]byte, error) {
	head := make([]byte, 5)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	message := make([]byte, 5+bigendian.BigEndian.Uint32(head[1:]))
	copy(message, head)
	_, err := io.ReadFull(r, message[5:])
	return message, err
}

// TestCaddyGRPC speaks gRPC through Caddy, in cleartext and with TLS, with its access
// log on and off, in block and in detect mode.
func TestCaddyGRPC(t *testing.T) {
	skipShort(t)
	up := grpcUpstream(t)
	certificate, key := selfSigned(t)
	policy := openPolicy(t)
	for _, mode := range []string{"block", "detect"} {
		for name, log := range map[string]string{"with access log": "log", "without": ""} {
			t.Run(mode+", "+name, func(t *testing.T) {
				site := fmt.Sprintf("\t%s\n\tmoat %s {\n\t\tmode %s\n\t}\n\treverse_proxy h2c://%s\n}\n", log, policy, mode, up)
				secured := lowAddr(t)
				p := runCaddy(t, fmt.Sprintf("ADDR {\n%shttps://%s {\n\ttls %s %s\n%s", site, secured, certificate, key, site))
				speakGRPC(t, "http://"+p.addr)
				speakGRPC(t, "https://"+secured)
			})
		}
	}
}

// TestCaddyFullDuplex speaks both ways at once over HTTP/1.1, which Caddy allows by an
// option: each piece of the body is sent only when the answer to the one before has come.
func TestCaddyFullDuplex(t *testing.T) {
	skipShort(t)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if err := rc.EnableFullDuplex(); err != nil {
			t.Error(err)
		}
		_ = rc.Flush()
		for {
			message, err := readMessage(r.Body)
			if err != nil {
				return
			}
			if _, err := w.Write(message); err != nil || rc.Flush() != nil {
				return
			}
		}
	}))
	t.Cleanup(upstream.Close)
	policy := openPolicy(t)
	for name, words := range map[string]string{
		"Caddy alone":             "",
		"block, with access log":  "log\n\tmoat " + policy,
		"block, without":          "moat " + policy,
		"detect, with access log": "log\n\tmoat " + policy + " {\n\t\tmode detect\n\t}",
	} {
		t.Run(name, func(t *testing.T) {
			p := runCaddy(t, fullDuplex+fmt.Sprintf("ADDR {\n\t%s\n\treverse_proxy %s {\n\t\tflush_interval -1\n\t}\n}\n", words, strings.TrimPrefix(upstream.URL, "http://")))
			conn, err := net.Dial("tcp", p.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			if err := conn.SetDeadline(time.Now().Add(exchangeTime)); err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprintf(conn, "POST /both HTTP/1.1\r\nHost: %s\r\nUser-Agent: e2e\r\nAccept: */*\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n", p.addr); err != nil {
				t.Fatal(err)
			}
			var resp *http.Response
			r := bufio.NewReader(conn)
			for i := range 30 {
				message := append([]byte{0, 0, 0, 0, 0}, bytes.Repeat([]byte{byte(i)}, 1<<(i%17))...)
				bigendian.BigEndian.PutUint32(message[1:], uint32(len(message)-5))
				if _, err := fmt.Fprintf(conn, "%x\r\n%s\r\n", len(message), message); err != nil {
					t.Fatal(err)
				}
				if resp == nil {
					if resp, err = http.ReadResponse(r, nil); err != nil || resp.StatusCode != http.StatusOK {
						t.Fatalf("%v, %v", resp, err)
					}
				}
				if got, err := readMessage(resp.Body); err != nil || !bytes.Equal(got, message) {
					t.Fatalf("message %d: %d bytes of %d, %v", i, len(got), len(message), err)
				}
			}
			if _, err := io.WriteString(conn, "0\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
				t.Errorf("the end: %d bytes, %v", len(rest), err)
			}
		})
	}
}

// speakGRPC speaks gRPC both ways on one stream: each message is sent only when the
// answer to the one before has come.
func speakGRPC(t *testing.T, site string) {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	transport.Protocols.SetUnencryptedHTTP2(true)
	transport.Protocols.SetHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	ctx, cancel := context.WithTimeout(t.Context(), exchangeTime)
	defer cancel()
	body, send := io.Pipe()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, site+"/echo.Echo/Both", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	for i := range 50 {
		message := append([]byte{0, 0, 0, 0, 0}, bytes.Repeat([]byte{byte(i)}, 1<<(i%17))...)
		bigendian.BigEndian.PutUint32(message[1:], uint32(len(message)-5))
		if _, err := send.Write(message); err != nil {
			t.Fatal(err)
		}
		if got, err := readMessage(resp.Body); err != nil || !bytes.Equal(got, message) {
			t.Fatalf("message %d: %d bytes of %d, %v", i, len(got), len(message), err)
		}
	}
	_ = send.Close()
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 || resp.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("the end: %d bytes, %v, trailer %v", len(rest), err, resp.Trailer)
	}
}

// digestUpstream answers with length and hash of what it got, and the encoding.
func digestUpstream(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(digest))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// TestCaddyHTTP3 sends bodies over HTTP/3: such as the rules read, and such as
// stream past them.
func TestCaddyHTTP3(t *testing.T) {
	skipShort(t)
	addr := lowAddr(t)
	certificate, key := selfSigned(t)
	runCaddy(t, fmt.Sprintf("ADDR {\n\trespond ready\n}\nhttps://%s {\n\ttls %s %s\n\tmoat %s\n\treverse_proxy %s\n}\n", addr, certificate, key, openPolicy(t), digestUpstream(t)))
	transport := &http3.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	t.Cleanup(func() { _ = transport.Close() })
	client := &http.Client{Transport: transport, Timeout: exchangeTime}
	post := func(contentType string, length int64, body []byte) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+addr+"/digest", io.MultiReader(bytes.NewReader(body)))
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = length
		req.Header.Set("Content-Type", contentType)
		status, answer := do(t, client, req)
		return status, answer
	}
	large := bytes.Repeat([]byte("moat "), 1<<20)
	json := []byte(`{"name": "anna", "text": "` + strings.Repeat("word ", 20000) + `"}`)
	for _, tt := range []struct {
		name, contentType string
		body              []byte
		status            int
	}{
		{"5 MiB that no rule reads", "application/octet-stream", large, 200},
		{"100 KB of JSON", "application/json", json, 200},
		{"an attack in a form", "application/x-www-form-urlencoded", []byte("id=1'+UNION+SELECT+password+FROM+users--+-"), 403},
		{"over the limit", "application/json", append([]byte(`{"x":"`), append(bytes.Repeat([]byte("a"), 2<<20), `"}`...)...), 413},
	} {
		for name, length := range map[string]int64{"announced": int64(len(tt.body)), "not announced": -1} {
			t.Run(tt.name+", "+name, func(t *testing.T) {
				status, answer := post(tt.contentType, length, tt.body)
				if want := fmt.Sprintf("%d %x", len(tt.body), sha256.Sum256(tt.body)); status != tt.status || status == 200 && answer != want {
					t.Errorf("%d %.200q, want %d %q", status, answer, tt.status, want)
				}
			})
		}
	}
}

// selfSigned writes a certificate for the loopback address, and its key.
func selfSigned(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certificate, key = filepath.Join(dir, "certificate.pem"), filepath.Join(dir, "key.pem")
	writeFile(t, certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	writeFile(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	return certificate, key
}

// hugeUpload is the size of the upload that must stream, in bytes; 4 GiB where
// everything is tested.
func hugeUpload() int64 {
	if os.Getenv("MOAT_TEST_ALL") != "" {
		return 4 << 30
	}
	return 512 << 20
}

// TestCaddyHugeUpload sends a body that is many times the memory which it may take.
func TestCaddyHugeUpload(t *testing.T) {
	skipShort(t)
	for name, site := range map[string]struct{ option, contentType string }{
		"a type that no rule reads":  {"oversize block", "application/octet-stream"},
		"not inspected by oversize":  {"oversize pass", "application/json"},
		"inspected at the beginning": {"oversize inspect\n\t\t\tbody_limit 16KiB", "text/plain"},
	} {
		t.Run(name, func(t *testing.T) {
			size := hugeUpload()
			up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n, err := io.Copy(io.Discard, r.Body)
				_, _ = fmt.Fprint(w, n, err)
			}))
			t.Cleanup(up.Close)
			p := runCaddy(t, fmt.Sprintf("ADDR {\n\tlog\n\thandle /big {\n\t\tmoat %s {\n\t\t\t%s\n\t\t}\n\t\treverse_proxy %s\n\t}\n\trespond ready\n}\n",
				openPolicy(t), site.option, strings.TrimPrefix(up.URL, "http://")))
			p.settle(t)
			before := p.peak(t)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+p.addr+"/big", io.LimitReader(zeros{}, size))
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = size
			req.Header.Set("Content-Type", site.contentType)
			start := time.Now()
			status, answer := do(t, newClient(t), req)
			if status != 200 || answer != strconv.FormatInt(size, 10)+" <nil>" {
				t.Errorf("%d %q, want 200 and %d bytes", status, answer, size)
			}
			peak := p.peak(t)
			t.Logf("%d MiB in %v; resident %d KiB before, %d KiB at most", size>>20, time.Since(start).Round(time.Millisecond), before, peak)
			if peak > before+64<<10 {
				t.Errorf("the upload took %d KiB", peak-before)
			}
		})
	}
}

// zeros reads as the digit zero, without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '0'
	}
	return len(p), nil
}

// peak returns the largest resident memory that the process had, in KiB.
func (p caddyProcess) peak(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil {
		t.Skip("skipped: no /proc")
	}
	match := regexp.MustCompile(`VmHWM:\s*(\d+) kB`).FindSubmatch(data)
	if match == nil {
		t.Fatal("no VmHWM")
	}
	n, _ := strconv.Atoi(string(match[1]))
	return n
}

// TestCaddyEncodedBodies holds that compressed bodies are judged by what they hold,
// or refused, and that the upstream gets the bytes which the client sent.
func TestCaddyEncodedBodies(t *testing.T) {
	skipShort(t)
	encode := func(coding, body string) []byte {
		var encoded bytes.Buffer
		var w io.WriteCloser
		switch coding {
		case "gzip":
			w = gzip.NewWriter(&encoded)
		case "deflate":
			w = zlib.NewWriter(&encoded)
		case "zstd":
			e, err := zstd.NewWriter(&encoded)
			if err != nil {
				t.Fatal(err)
			}
			w = e
		case "br":
			w = brotli.NewWriter(&encoded)
		default:
			return []byte(body)
		}
		if _, err := io.WriteString(w, body); err != nil || w.Close() != nil {
			t.Fatal("encoding failed")
		}
		return encoded.Bytes()
	}
	p := runCaddy(t, fmt.Sprintf("ADDR {\n\tmoat %s\n\treverse_proxy %s\n}\n", openPolicy(t), digestUpstream(t)))
	client := newClient(t)
	clean := `{"name": "anna", "text": "` + strings.Repeat("word ", 5000) + `"}`
	const attack = `{"name": "1' UNION SELECT password FROM users-- -"}`
	bomb := `{"name": "` + strings.Repeat("a", 64<<20) + `"}`
	for _, tt := range []struct {
		coding, name, body string
		status             int
	}{
		{"gzip", "clean", clean, 200}, {"gzip", "attack", attack, 403}, {"gzip", "bomb", bomb, 413},
		{"deflate", "clean", clean, 200}, {"deflate", "attack", attack, 403}, {"deflate", "bomb", bomb, 413},
		{"zstd", "clean", clean, 200}, {"zstd", "attack", attack, 403}, {"zstd", "bomb", bomb, 413},
		{"br", "clean", clean, 200}, {"br", "attack", attack, 403}, {"br", "bomb", bomb, 413},
		// What is not decoded is not let through unread.
		{"gzip, gzip", "clean", clean, 415},
	} {
		t.Run(tt.coding+" "+tt.name, func(t *testing.T) {
			encoded := encode(tt.coding, tt.body)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+p.addr+"/", bytes.NewReader(encoded))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Content-Encoding", tt.coding)
			status, answer := do(t, client, req)
			want := fmt.Sprintf("%d %x", len(encoded), sha256.Sum256(encoded))
			if status != tt.status || status == 200 && answer != want {
				t.Errorf("%d %.200q, want %d %q", status, answer, tt.status, want)
			}
		})
	}
}

// TestCaddyBodiesByRoute holds that each route has its own bound of bodies.
func TestCaddyBodiesByRoute(t *testing.T) {
	skipShort(t)
	policy, up := openPolicy(t), digestUpstream(t)
	var config strings.Builder
	config.WriteString("ADDR {\n")
	for path, options := range map[string]string{
		"block":   "body_limit 4KiB\n\t\t\toversize block",
		"inspect": "body_limit 4KiB\n\t\t\toversize inspect",
		"pass":    "body_limit 4KiB\n\t\t\toversize pass",
		"large":   "body_limit 64KiB",
	} {
		fmt.Fprintf(&config, "\thandle /%s/* {\n\t\tmoat %s {\n\t\t\t%s\n\t\t}\n\t\treverse_proxy %s\n\t}\n", path, policy, options, up)
	}
	config.WriteString("}\n")
	p := runCaddy(t, config.String())
	client := newClient(t)
	const attack = "id=1'+UNION+SELECT+password+FROM+users--+-"
	filler := "text=" + strings.Repeat("word+", 1600)
	early, late := attack+"&"+filler, filler+"&"+attack
	short := "x=" + attack
	for _, tt := range []struct {
		path, name, body string
		status           int
	}{
		{"block", "short", short, 403}, {"block", "early", early, 413}, {"block", "late", late, 413},
		{"inspect", "short", short, 403}, {"inspect", "early", early, 403}, {"inspect", "late", late, 200},
		{"pass", "short", short, 403}, {"pass", "early", early, 200}, {"pass", "late", late, 200},
		{"large", "short", short, 403},
	} {
		for framing, length := range map[string]int64{"length": int64(len(tt.body)), "chunks": -1} {
			t.Run(tt.path+" "+tt.name+" by "+framing, func(t *testing.T) {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+p.addr+"/"+tt.path+"/", io.MultiReader(strings.NewReader(tt.body)))
				if err != nil {
					t.Fatal(err)
				}
				req.ContentLength = length
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				status, answer := do(t, client, req)
				want := fmt.Sprintf("%d %x", len(tt.body), sha256.Sum256([]byte(tt.body)))
				if status != tt.status || status == 200 && answer != want {
					t.Errorf("%d %.200q, want %d %q", status, answer, tt.status, want)
				}
			})
		}
	}
}
