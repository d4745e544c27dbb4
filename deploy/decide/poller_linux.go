package decide

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// Go's poller wants to hear of every socket when it can be read and when it can be
// written again. A Unix socket says the latter each time the peer has read something,
// not only when it was full: each answer that a host reads would wake the daemon for
// nothing, a fifth of what a decision costs here and a tenth of what it costs the
// host, which sends the interrupt. So the poller is told to leave that out until a
// write has to wait. The interest is changed in the poller's own epoll instance,
// which the runtime does not show; the kernel does, in /proc/self/fdinfo, together
// with the word by which the runtime finds its descriptor again. Where anything is
// not as it is known to be, everything stays as it was.

// pollerEvents is what Go's poller asks for.
const pollerEvents = syscall.EPOLLIN | syscall.EPOLLOUT | syscall.EPOLLRDHUP | epollET

const (
	epollET     = 1 << 31                             // as package syscall has it, but not negative
	alwaysTold  = syscall.EPOLLERR | syscall.EPOLLHUP // the kernel adds these to every interest
	maxInterest = 64 << 10                            // how much of the list of sockets is read, in bytes
)

// interest is an entry of an epoll instance. It knows whether writes are waited for.
type interest struct {
	poller int // the instance
	fd     int
	word   uint64 // the runtime's
	reads  bool   // only readers are woken
}

// pollerFD is the descriptor of Go's poller and one more, or 0 as long as nobody
// knows it. The poller is never closed.
var pollerFD atomic.Int64

// pollerInterest finds the entry of fd, which stays open meanwhile, in Go's poller.
func pollerInterest(fd int) (*interest, error) {
	if known := pollerFD.Load(); known != 0 {
		return interestIn(int(known-1), fd)
	}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil, err
	}
	for _, e := range open {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || to != "anon_inode:[eventpoll]" { // the directory's own is closed by now
			continue
		}
		poller, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if in, err := interestIn(poller, fd); err == nil {
			pollerFD.Store(int64(poller) + 1)
			return in, nil
		}
	}
	return nil, errors.New("no poller knows the socket")
}

// interestIn finds the entry of fd in the epoll instance poller.
func interestIn(poller, fd int) (*interest, error) {
	f, err := os.Open("/proc/self/fdinfo/" + strconv.Itoa(poller))
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	lines := bufio.NewScanner(io.LimitReader(f, maxInterest))
	for lines.Scan() {
		if in, events, ok := parseInterest(lines.Text()); ok && in.fd == fd {
			if events&^alwaysTold != pollerEvents {
				return nil, fmt.Errorf("the poller asks for %#x", events)
			}
			in.poller = poller
			return in, nil
		}
	}
	return nil, errors.Join(errors.New("the poller does not know the socket"), lines.Err())
}

// parseInterest reads a line of an epoll instance in /proc/PID/fdinfo (proc(5)), such as
//
//	tfd:        8 events: 8000201d data: 3ff1b2e13e000001  pos:0 ino:637e4e sdev:9
func parseInterest(line string) (in *interest, events uint32, ok bool) {
	f := strings.Fields(line)
	if len(f) < 6 || f[0] != "tfd:" || f[2] != "events:" || f[4] != "data:" {
		return nil, 0, false
	}
	fd, err1 := strconv.ParseInt(f[1], 10, 32)
	mask, err2 := strconv.ParseUint(f[3], 16, 32)
	word, err3 := strconv.ParseUint(f[5], 16, 64)
	return &interest{fd: int(fd), word: word}, uint32(mask), err1 == nil && err2 == nil && err3 == nil
}

// set says which of them are woken, readers only or writers too. A socket that can be
// written already wakes a writer at once.
func (in *interest) set(reads bool) error {
	events := uint32(pollerEvents)
	if reads {
		events &^= syscall.EPOLLOUT
	}
	e := syscall.EpollEvent{Events: events}
	// Fd and Pad, side by side, are the word (struct epoll_event).
	binary.NativeEndian.PutUint64(unsafe.Slice((*byte)(unsafe.Pointer(&e.Fd)), 8), in.word)
	if err := syscall.EpollCtl(in.poller, syscall.EPOLL_CTL_MOD, in.fd, &e); err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	in.reads = reads
	return nil
}
