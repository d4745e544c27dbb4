package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Answer is what a server answered to one message.
type Answer struct {
	Status  int
	Header  http.Header
	Head    []string // status line and field lines as they came, without line ends
	Body    []byte
	Interim []int // statuses of the 1xx answers before
}

// Bounds of one exchange.
const (
	exchangeTime = 15 * time.Second
	maxAnswer    = 16 << 20

	// silence is how long an answer without content is listened to for
	// content after all, where the server keeps the connection open.
	silence = 300 * time.Millisecond
)

// Send sends m to addr on a connection of its own, from the address m.Src where
// it is set, and reads the answer.
func Send(ctx context.Context, addr string, m Message) (*Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, exchangeTime)
	defer cancel()
	var dialer net.Dialer
	if m.Src != "" {
		ip := net.ParseIP(m.Src)
		if ip == nil {
			return nil, fmt.Errorf("source %q is no address", m.Src)
		}
		dialer.LocalAddr = &net.TCPAddr{IP: ip}
	}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()

	// A server may answer, and close, before it has read everything. So the
	// writing has its own goroutine, and its error counts only without an answer.
	written := make(chan error, 1)
	first := append(bytes.Clone(m.Head), m.Body...)
	if m.Waits {
		first = m.Head
	}
	go func() {
		_, err := conn.Write(first)
		written <- err
	}()

	a, err := readAnswer(conn, m, func() error {
		_, err := conn.Write(m.Body)
		return err
	})
	if err != nil {
		select {
		case writeErr := <-written:
			err = errors.Join(err, writeErr)
		default:
		}
		return nil, err
	}
	return a, nil
}

func readAnswer(conn net.Conn, m Message, sendBody func() error) (*Answer, error) {
	var a Answer
	var raw bytes.Buffer
	r := bufio.NewReader(io.TeeReader(io.LimitReader(conn, maxAnswer), &raw))
	for {
		before := raw.Len() - r.Buffered()
		resp, err := http.ReadResponse(r, &http.Request{Method: m.Method})
		if err != nil {
			return nil, fmt.Errorf("reading the answer: %w", err)
		}
		if resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols {
			a.Interim = append(a.Interim, resp.StatusCode)
			if resp.StatusCode == http.StatusContinue && m.Waits {
				if err := sendBody(); err != nil {
					return nil, err
				}
			}
			continue
		}
		a.Status, a.Header = resp.StatusCode, resp.Header
		head := raw.Bytes()[before : raw.Len()-r.Buffered()]
		if end := bytes.Index(head, []byte("\r\n\r\n")); end >= 0 {
			head = head[:end]
		}
		for line := range bytes.SplitSeq(head, []byte("\r\n")) {
			a.Head = append(a.Head, string(line))
		}
		if m.Method == http.MethodHead {
			// ReadResponse knows that no content follows. Whether the server
			// knows it too shows in what comes.
			_ = conn.SetReadDeadline(time.Now().Add(silence))
			a.Body, _ = io.ReadAll(r)
			return &a, nil
		}
		a.Body, err = io.ReadAll(resp.Body)
		if err != nil {
			return nil, fmt.Errorf("reading the answer's content: %w", err)
		}
		return &a, nil
	}
}
