package decide

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"
)

// quietConn reads and writes a socket without telling Go's scheduler that a system
// call begins. The socket never blocks, so there is nothing for the scheduler to do;
// but in a process that was idle the news wakes the runtime's monitor thread, which
// costs more than the call itself. Waiting is left to the runtime's poller, with its
// deadlines. It has one reader and one writer at a time.
type quietConn struct {
	raw        syscall.RawConn
	in, out    quietCall
	read, send func(fd uintptr) bool
	interest   *interest // of the poller; nil if nobody knows it. The writer's.
}

// quietCall is what a system call is given, and what it returns.
type quietCall struct {
	p     []byte // not empty
	n     uintptr
	errno syscall.Errno
}

// do calls until the call is not interrupted, and reports whether it need not wait.
func (c *quietCall) do(call, fd uintptr) bool {
	for {
		c.n, _, c.errno = syscall.RawSyscall(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(c.p))), uintptr(len(c.p)))
		if c.errno != syscall.EINTR {
			return c.errno != syscall.EAGAIN
		}
	}
}

// quiet returns reads and writes of c that disturb the scheduler least.
func quiet(c net.Conn) io.ReadWriter {
	s, ok := c.(*net.UnixConn)
	if !ok {
		return c
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return c
	}
	q := &quietConn{raw: raw}
	q.read = func(fd uintptr) bool { return q.in.do(syscall.SYS_READ, fd) }
	q.send = func(fd uintptr) bool { return q.out.do(syscall.SYS_WRITE, fd) || !q.wait() }
	_ = raw.Control(func(fd uintptr) { // of a socket that is closed already, a read tells
		if in, err := pollerInterest(int(fd)); err == nil && in.set(true) == nil {
			q.interest = in
		}
	})
	return q
}

// wait has the poller wake the writer, which would wait for ever otherwise. If it
// reports false, that cannot be had, and the write has failed.
func (q *quietConn) wait() bool {
	if q.interest != nil && q.interest.reads && q.interest.set(false) != nil {
		q.out.errno = syscall.EIO
		return false
	}
	return true
}

// Read implements io.Reader.
func (q *quietConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	q.in.p = p
	err := q.raw.Read(q.read)
	q.in.p = nil
	switch {
	case err != nil:
		return 0, err
	case q.in.errno != 0:
		return 0, os.NewSyscallError("read", q.in.errno)
	case q.in.n == 0:
		return 0, io.EOF
	}
	return int(q.in.n), nil
}

// Write implements io.Writer.
func (q *quietConn) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		q.out.p = p[done:]
		err := q.raw.Write(q.send)
		q.out.p = nil
		if err != nil {
			return done, err
		}
		if q.out.errno != 0 {
			return done, os.NewSyscallError("write", q.out.errno)
		}
		done += int(q.out.n)
	}
	return done, nil
}
