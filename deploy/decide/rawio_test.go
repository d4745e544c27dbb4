package decide

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// pair returns both ends of a connection over a Unix socket.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if a, err = net.Dial("unix", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

// TestQuiet: quiet reads and writes are those of the connection, with its deadlines,
// its end, and a peer that is slow.
func TestQuiet(t *testing.T) {
	t.Run("more than the socket holds", func(t *testing.T) {
		a, b := pair(t)
		sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		fault := make(chan error, 1)
		go func() {
			n, err := quiet(a).Write(sent)
			if err == nil && n != len(sent) {
				err = io.ErrShortWrite
			}
			fault <- errors.Join(err, a.Close())
		}()
		got, err := io.ReadAll(quiet(b))
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d of %d bytes, %v", len(got), len(sent), err)
		}
		if err := <-fault; err != nil {
			t.Error(err)
		}
	})
	t.Run("deadlines", func(t *testing.T) {
		a, _ := pair(t)
		_ = a.SetDeadline(time.Now().Add(-time.Second))
		if n, err := quiet(a).Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read %d, %v", n, err)
		}
		if n, err := quiet(a).Write([]byte("a")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("wrote %d, %v", n, err)
		}
	})
	t.Run("closed while it waits", func(t *testing.T) {
		a, _ := pair(t)
		ended := make(chan error, 1)
		go func() {
			_, err := quiet(a).Read(make([]byte, 1))
			ended <- err
		}()
		_ = a.Close() // before the read or in it
		if err := <-ended; err == nil || err == io.EOF {
			t.Errorf("%v", err)
		}
	})
	t.Run("a peer that has gone", func(t *testing.T) {
		a, b := pair(t)
		_ = b.Close()
		if n, err := quiet(a).Write([]byte("a")); n != 0 || err == nil {
			t.Errorf("wrote %d, %v", n, err)
		}
		if n, err := quiet(a).Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("read %d, %v", n, err)
		}
	})
	t.Run("nothing", func(t *testing.T) {
		a, _ := pair(t)
		if n, err := quiet(a).Read(nil); n != 0 || err != nil {
			t.Errorf("read %d, %v", n, err)
		}
		if n, err := quiet(a).Write(nil); n != 0 || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
	})
	t.Run("no allocation", func(t *testing.T) {
		a, b := pair(t)
		in, out, p := quiet(a), quiet(b), make([]byte, 64)
		if n := testing.AllocsPerRun(100, func() {
			_, _ = out.Write(p)
			_, _ = in.Read(p)
		}); n != 0 {
			t.Errorf("%v allocations for a message", n)
		}
	})
}

// TestFieldsOf: the copy of a header does not change with it.
func TestFieldsOf(t *testing.T) {
	header := map[string][]string{"A": {"1"}, "B": {"2", "3"}, "C": {}, "D": nil}
	fields := fieldsOf(header)
	header["A"][0], header["B"] = "changed", append(header["B"], "4")
	got := map[string][]string{}
	for _, f := range fields {
		got[f.name] = f.values
	}
	if len(got) != 4 || got["A"][0] != "1" || len(got["B"]) != 2 || len(got["C"]) != 0 || len(got["D"]) != 0 {
		t.Errorf("%q", got)
	}
}
