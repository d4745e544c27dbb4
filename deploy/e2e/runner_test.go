package e2e

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestTableIsComplete(t *testing.T) {
	rows := readRows(t)
	if len(rows) != 97 {
		t.Errorf("%d rows, want 97: the table has changed", len(rows))
	}
	f := newFixtures(t)
	for _, row := range rows {
		_, err := row.Message(f.vars)
		if _, isLater := later[row.ID]; err != nil && !isLater {
			t.Errorf("%s: %v", row.ID, err)
		}
	}
	for id := range later {
		if !slices.ContainsFunc(rows, func(r Row) bool { return r.ID == id }) {
			t.Errorf("the table of later rows names %s, which is no row", id)
		}
	}
}

func TestReadRowsRefusesFaults(t *testing.T) {
	for name, table := range map[string]string{
		"no JSON":         `[`,
		"unknown key":     `[{"id":"A","req":["GET / HTTP/1.1"],"status":[200],"stats":1}]`,
		"no status":       `[{"id":"A","req":["GET / HTTP/1.1"]}]`,
		"duplicate id":    `[{"id":"A","req":["x"],"status":[200]},{"id":"A","req":["x"],"status":[200]}]`,
		"same as nothing": `[{"id":"A","req":["x"],"status":[200],"same_as":"B"}]`,
		"unknown level":   `[{"id":"A","req":["x"],"status":[200],"level":"may"}]`,
	} {
		if _, err := ReadRows(strings.NewReader(table)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestMessage(t *testing.T) {
	vars := Vars{"HOST": "example.com", "P": "/p", "EMPTY": "", "DOLLAR": "$", "N": "3", "SRC": "127.0.0.9"}
	tests := []struct {
		name string
		row  Row
		want string // head and body
	}{
		{"host, connection and row are added", Row{ID: "A", Req: []string{"GET ${P} HTTP/1.1"}},
			"GET /p HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\nX-Row: A\r\n\r\n"},
		{"an empty line goes", Row{ID: "A", Req: []string{"GET / HTTP/1.1", "${EMPTY}", "X: ${EMPTY}"}},
			"GET / HTTP/1.1\r\nX: \r\nHost: example.com\r\nConnection: close\r\nX-Row: A\r\n\r\n"},
		{"own fields stay", Row{ID: "A", Req: []string{"GET / HTTP/1.1", "host:", "Connection: X-A"}},
			"GET / HTTP/1.1\r\nhost:\r\nConnection: X-A\r\nX-Row: A\r\n\r\n"},
		{"values are not expanded again", Row{ID: "A", Req: []string{"GET / HTTP/1.1", "Host: h", "X: ${DOLLAR}{P}"}},
			"GET / HTTP/1.1\r\nHost: h\r\nX: ${P}\r\nConnection: close\r\nX-Row: A\r\n\r\n"},
		{"padding", Row{ID: "A", Req: []string{"GET / HTTP/1.1", "Host: h", "X: @@PAD:b:5@@"}},
			"GET / HTTP/1.1\r\nHost: h\r\nX: bbbbb\r\nConnection: close\r\nX-Row: A\r\n\r\n"},
		{"a body has a length", Row{ID: "A", Req: []string{"POST / HTTP/1.1", "Host: h"}, Body: "a=${P}"},
			"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nConnection: close\r\nX-Row: A\r\n\r\na=/p"},
		{"chunks are sent as written", Row{ID: "A", Req: []string{"POST / HTTP/1.1", "Host: h", "Transfer-Encoding: chunked"}, Body: "0\r\n\r\n"},
			"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\nX-Row: A\r\n\r\n0\r\n\r\n"},
	}
	for _, tt := range tests {
		m, err := tt.row.Message(vars)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if got := string(m.Head) + string(m.Body); got != tt.want {
			t.Errorf("%s:\n got %q\nwant %q", tt.name, got, tt.want)
		}
	}
	m, err := Row{ID: "A", Req: []string{"GET / HTTP/1.1", "Expect: 100-continue"}, Src: "${SRC}", Repeat: "${N}"}.Message(vars)
	if err != nil || m.Src != "127.0.0.9" || m.Repeat != 3 || !m.Waits || m.Method != "GET" {
		t.Errorf("%+v, %v", m, err)
	}
	var missing *MissingError
	_, err = Row{ID: "A", Req: []string{"GET ${NO} HTTP/1.1"}, Body: "${NO}${NEITHER}", Repeat: "many"}.Message(vars)
	if !errors.As(err, &missing) || !slices.Equal(missing.Names, []string{"NEITHER", "NO", "many"}) {
		t.Errorf("%v, want the missing names", err)
	}
}

// serveRaw answers each connection with the bytes given, after it has read the
// header, and returns its address and the peers that came.
func serveRaw(t *testing.T, answers ...string) (addr string, peers <-chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	came := make(chan string, 10)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
			came <- host
			r := bufio.NewReader(conn)
			req, err := http.ReadRequest(r)
			for i, answer := range answers {
				_, _ = io.WriteString(conn, answer)
				if i == 0 && err == nil && len(answers) > 1 {
					_, _ = io.Copy(io.Discard, req.Body)
				}
			}
			_ = conn.Close()
		}
	}()
	return l.Addr().String(), came
}

func TestSend(t *testing.T) {
	get := Message{Method: "GET", Head: []byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n"), Repeat: 1}

	t.Run("from a source address", func(t *testing.T) {
		addr, peers := serveRaw(t, "HTTP/1.1 403 Forbidden\r\nDate: x\r\nB: 1\r\nA: 2\r\nContent-Length: 2\r\n\r\nno")
		m := get
		m.Src = "127.0.0.66"
		a, err := Send(t.Context(), addr, m)
		if err != nil {
			t.Fatal(err)
		}
		if peer := <-peers; peer != m.Src {
			t.Errorf("sent from %s, want %s", peer, m.Src)
		}
		want := []string{"HTTP/1.1 403 Forbidden", "Date: x", "B: 1", "A: 2", "Content-Length: 2"}
		if a.Status != 403 || string(a.Body) != "no" || !slices.Equal(a.Head, want) {
			t.Errorf("%+v", a)
		}
	})
	t.Run("content after an answer to HEAD is seen", func(t *testing.T) {
		addr, _ := serveRaw(t, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
		a, err := Send(t.Context(), addr, Message{Method: "HEAD", Head: []byte("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")})
		if err != nil {
			t.Fatal(err)
		}
		if problems := (Row{Status: []int{403}, NoBody: true}).Check(a, nil); len(problems) != 1 {
			t.Errorf("problems %q, want the content", problems)
		}
	})
	t.Run("the body waits for 100", func(t *testing.T) {
		addr, _ := serveRaw(t, "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		a, err := Send(t.Context(), addr, Message{Method: "POST", Waits: true, Body: []byte("abc"),
			Head: []byte("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n")})
		if err != nil {
			t.Fatal(err)
		}
		if a.Status != 200 || !slices.Equal(a.Interim, []int{100}) || a.Head[0] != "HTTP/1.1 200 OK" {
			t.Errorf("%+v", a)
		}
	})
	t.Run("no answer", func(t *testing.T) {
		addr, _ := serveRaw(t)
		if a, err := Send(t.Context(), addr, get); err == nil {
			t.Errorf("%+v, want an error", a)
		}
	})
}

func TestCheckFindsEveryFault(t *testing.T) {
	answer := &Answer{
		Status: 403,
		Header: http.Header{"Www-Authenticate": {`Bearer realm="a"`, `Basic realm="b"`}, "Date": {"1"}},
		Head:   []string{"HTTP/1.1 403 Forbidden", "Date: 1"},
		Body:   []byte("forbidden by rule 942100"),
	}
	later := &Answer{Status: 403, Head: []string{"HTTP/1.1 403 Forbidden", "Date: 2"}, Body: answer.Body}
	longer := &Answer{Status: 403, Head: []string{"HTTP/1.1 403 Forbidden", "A: 1"}, Body: []byte("x")}
	tests := []struct {
		name string
		row  Row
		same *Answer
		want int // problems
	}{
		{"all right", Row{Status: []int{401, 403}, Has: map[string]string{"WWW-Authenticate": `(?i)bearer .*, basic`}, Not: []string{"X-Powered-By", "WWW-Authenticate: error="}, BodyRe: "forbidden", BodyNo: "coraza"}, nil, 0},
		{"status", Row{Status: []int{200}}, nil, 1},
		{"missing field", Row{Status: []int{403}, Has: map[string]string{"Retry-After": "."}}, nil, 1},
		{"field does not match", Row{Status: []int{403}, Has: map[string]string{"WWW-Authenticate": "^Digest"}}, nil, 1},
		{"field is there", Row{Status: []int{403}, Not: []string{"WWW-Authenticate"}}, nil, 1},
		{"field matches", Row{Status: []int{403}, Not: []string{`WWW-Authenticate: realm="b"`}}, nil, 1},
		{"content", Row{Status: []int{403}, NoBody: true, BodyRe: "gone", BodyNo: `\b9[0-9]{5}\b`}, nil, 3},
		{"broken expression", Row{Status: []int{403}, BodyRe: "("}, nil, 2},
		{"same but for the date", Row{Status: []int{403}, SameAs: "A"}, later, 0},
		{"not the same", Row{Status: []int{403}, SameAs: "A"}, longer, 2},
		{"nothing to compare with", Row{Status: []int{403}, SameAs: "A"}, nil, 1},
	}
	for _, tt := range tests {
		if got := tt.row.Check(answer, tt.same); len(got) != tt.want {
			t.Errorf("%s: problems %q, want %d", tt.name, got, tt.want)
		}
	}
}

// FuzzReadRows holds that no table makes the runner panic.
func FuzzReadRows(f *testing.F) {
	table, err := os.ReadFile("testdata/conformance.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(table))
	f.Add(`[{"id":"A","req":["","${A}"],"status":[200],"repeat":"0"}]`)
	f.Fuzz(func(t *testing.T, table string) {
		rows, err := ReadRows(strings.NewReader(table))
		if err != nil {
			return
		}
		for _, row := range rows {
			if m, err := row.Message(Vars{"HOST": "h"}); err == nil && len(m.Head) == 0 {
				t.Errorf("%s: an empty message", row.ID)
			}
		}
	})
}
