package decide

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// TestInterest: Go's poller no longer hears of a quiet socket that its peer has read,
// until a write has to wait.
func TestInterest(t *testing.T) {
	a, b := pair(t)
	q, ok := quiet(a).(*quietConn)
	if !ok || q.interest == nil {
		t.Fatal("the poller's interest in the socket has not been found")
	}
	const readers uint32 = pollerEvents &^ syscall.EPOLLOUT
	if events := asked(t, a); events != readers {
		t.Errorf("the poller asks for %#x, not %#x", events, readers)
	}
	fault := make(chan error, 1)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() {
		_, err := q.Write(sent)
		fault <- errors.Join(err, a.(*net.UnixConn).CloseWrite())
	}()
	for deadline := time.Now().Add(10 * time.Second); asked(t, a) == readers; {
		if time.Now().After(deadline) {
			t.Fatal("the poller is not asked to wake a write that waits")
		}
		time.Sleep(time.Millisecond)
	}
	got, err := io.ReadAll(b)
	if err := errors.Join(err, <-fault); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes, %v", len(got), len(sent), err)
	}
	if n, err := b.Write([]byte("x")); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := q.Read(make([]byte, 2)); n != 1 || err != nil {
		t.Errorf("read %d, %v", n, err)
	}
}

// asked returns the events that Go's poller asks for about c, as the kernel has them.
func asked(t *testing.T, c net.Conn) (events uint32) {
	t.Helper()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		text, err := os.ReadFile("/proc/self/fdinfo/" + strconv.FormatInt(pollerFD.Load()-1, 10))
		if err != nil {
			t.Error(err)
		}
		for line := range bytes.Lines(text) {
			if in, mask, ok := parseInterest(string(line)); ok && in.fd == int(fd) {
				events = mask &^ alwaysTold
			}
		}
	}); err != nil {
		t.Error(err)
	}
	return events
}

// TestInterestUnknown: what is not as it is known to be is left as it is.
func TestInterestUnknown(t *testing.T) {
	a, _ := pair(t)
	raw, err := a.(*net.UnixConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	own, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(own) }()
	if err := raw.Control(func(fd uintptr) {
		if in, err := interestIn(own, int(fd)); err == nil {
			t.Errorf("%+v of an instance that does not know the socket", in)
		}
		e := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}
		if err := syscall.EpollCtl(own, syscall.EPOLL_CTL_ADD, int(fd), &e); err != nil {
			t.Fatal(err)
		}
		if in, err := interestIn(own, int(fd)); err == nil {
			t.Errorf("%+v, although other events are asked for", in)
		}
		if in, err := interestIn(int(fd), int(fd)); err == nil {
			t.Errorf("%+v of a socket", in)
		}
	}); err != nil {
		t.Error(err)
	}
}

// TestParseInterest reads lines of /proc/PID/fdinfo.
func TestParseInterest(t *testing.T) {
	in, events, ok := parseInterest("tfd:        8 events: 8000201d data: 3ff1b2e13e000001  pos:0 ino:637e4e sdev:9")
	if !ok || in.fd != 8 || in.word != 0x3ff1b2e13e000001 || events != 0x8000201d {
		t.Errorf("%+v, %#x, %v", in, events, ok)
	}
	for _, line := range []string{
		"", "pos:\t0", "tfd: 8", "tfd: 8 events: 1d data:", "tfd: x events: 1d data: 1", "tfd: 8 events: 1d data: 10000000000000000",
		"tfd: 8 events: g data: 1", "tfd: 8 data: 1 events: 1d", "inotify wd:1 ino:1 sdev:1 mask:1 ignored_mask:0",
	} {
		if in, _, ok := parseInterest(line); ok {
			t.Errorf("%q is %+v", line, in)
		}
	}
}

// TestWaitFails: a write that nobody would wake fails.
func TestWaitFails(t *testing.T) {
	a, _ := pair(t)
	q, ok := quiet(a).(*quietConn)
	if !ok || q.interest == nil {
		t.Fatal("the poller's interest in the socket has not been found")
	}
	q.interest.poller = -1
	if _, err := q.Write(make([]byte, 1<<20)); !errors.Is(err, syscall.EIO) {
		t.Errorf("%v", err)
	}
}
