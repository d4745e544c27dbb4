package e2e

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// websocketScenario sends messages both ways over one upgraded connection, each
// only after the answer to the one before.
func websocketScenario(t *testing.T, s scenario) {
	config, err := websocket.NewConfig("ws://"+s.addr+"/socket", s.url)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := config.DialContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(exchangeTime)); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1, 125, 126, 65535, 65536, 1 << 20} {
		sent := bytes.Repeat([]byte("moat"), size/4+1)[:size]
		if err := websocket.Message.Send(conn, sent); err != nil {
			t.Fatalf("sending %d bytes: %v", size, err)
		}
		got := make([]byte, 0, size)
		for len(got) < size {
			var part []byte
			if err := websocket.Message.Receive(conn, &part); err != nil {
				t.Fatalf("receiving %d of %d bytes: %v", len(got), size, err)
			}
			got = append(got, part...)
		}
		if !bytes.Equal(got, sent) {
			t.Errorf("%d bytes came back changed", size)
		}
	}
}
