package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestEchoAsksForTheBody has a client that sends the body only when it is asked to.
func TestEchoAsksForTheBody(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := (demo{}).ServeHTTP(w, r, nil); err != nil {
			t.Error(err)
		}
	}))
	defer s.Close()
	c, err := s.Client().Transport.(*http.Transport).DialContext(t.Context(), "tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n")
	in := bufio.NewReader(c)
	line, err := in.ReadString('\n')
	if err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("%q, %v; want 100", line, err)
	}
	fmt.Fprint(c, "hello")
	rest, err := io.ReadAll(in)
	if err != nil || len(rest) < 5 {
		t.Errorf("%q, %v", rest, err)
	}
}
