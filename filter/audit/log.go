package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/moatwaf/moat/filter"
)

// Defaults and fixed bounds.
const (
	defaultMaxLines = 4096
	defaultMaxBytes = 4 << 20

	// chunkBytes bounds one call of the sink, and with it what a retry repeats.
	chunkBytes = 64 << 10

	// maxAttempts is how often a chunk is offered to a failing sink before it
	// is dropped and counted: with the pauses between them about 16 seconds.
	maxAttempts  = 12
	firstPause   = 50 * time.Millisecond
	longestPause = 2 * time.Second
)

// ErrNotReopenable is the answer of Reopen where the sink is no file of Open.
var ErrNotReopenable = errors.New("audit: the sink cannot be reopened")

// Options are the settings of a Log. The zero Options are the defaults.
type Options struct {
	// MaxLines and MaxBytes bound what waits for the sink, the line that is
	// being written included. 0 takes 4096 lines and 4 MiB.
	MaxLines int
	MaxBytes int

	// IncludeQuery adds the raw query, and IncludeUserAgent the User-Agent, to
	// each line. Both are the client's own words: a query may hold payloads
	// and secrets.
	IncludeQuery     bool
	IncludeUserAgent bool

	// Policy returns the name of the policy in force; nil leaves it out. It
	// must be safe for concurrent use and fast.
	Policy func() string

	// Clock is the time at the end of a decision, for the latency, and of the
	// lines that report drops; nil takes time.Now.
	Clock func() time.Time

	// OnError is told of errors of the sink, from the writer's goroutine and
	// at most once for a run of failures; nil ignores them. Stats counts all.
	OnError func(error)
}

// Stats are the counts of a Log since its start, and the size of its queue.
type Stats struct {
	Written     uint64 // lines that the sink has taken, reports of drops among them
	Dropped     uint64 // lines that were lost: queue full, sink failing, or closed
	WriteErrors uint64 // failed calls of the sink
	QueuedLines int    // lines that wait now, those being written included
	QueuedBytes int
}

// Log writes refusals and reports of detecting rules to a sink. It is a
// filter.Observer. Make it with New or Open; all methods are safe for concurrent
// use.
type Log struct {
	sink    io.Writer
	closer  io.Closer // the sink, where the Log opened it
	perLine bool
	encoder lineEncoder
	options Options

	wake  chan struct{} // something is queued, or the log was closed
	abort chan struct{} // closed when Close gives up waiting
	done  chan struct{} // closed when the writer has ended

	mu          sync.Mutex
	pending     []byte // whole lines
	pendingN    int
	inflight    int // bytes that the writer has taken and not finished
	inflightN   int
	unreported  uint64 // dropped lines that no line has told of
	stats       Stats
	closed      bool
	abandonOnce sync.Once
}

// LineFunc is a sink that takes one line at a time, newline included. It must
// not keep the slice. After an error it is called again with the same line.
type LineFunc func(line []byte) error

// Write implements io.Writer for one line.
func (f LineFunc) Write(line []byte) (int, error) {
	if err := f(line); err != nil {
		return 0, err
	}
	return len(line), nil
}

// New returns a Log that writes to sink, and starts its writer. The sink is
// called from one goroutine, with whole lines, many at once unless it is a
// LineFunc. The caller closes the sink, after Close.
func New(sink io.Writer, options Options) *Log { return start(sink, nil, options) }

func start(sink io.Writer, closer io.Closer, options Options) *Log {
	if options.MaxLines <= 0 {
		options.MaxLines = defaultMaxLines
	}
	if options.MaxBytes <= 0 {
		options.MaxBytes = defaultMaxBytes
	}
	if options.Clock == nil {
		options.Clock = time.Now
	}
	_, perLine := sink.(LineFunc)
	l := &Log{
		sink:    sink,
		closer:  closer,
		perLine: perLine,
		encoder: lineEncoder{query: options.IncludeQuery, userAgent: options.IncludeUserAgent},
		options: options,
		wake:    make(chan struct{}, 1),
		abort:   make(chan struct{}),
		done:    make(chan struct{}),
	}
	go l.write()
	return l
}

// Open returns a Log that appends to the file at path, made with mode 0600 if
// there is none. Reopen serves log rotation. The error is that of opening.
func Open(path string, options Options) (*Log, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return start(f, f, options), nil
}

// scratch holds buffers in which lines are encoded outside the lock.
var scratch = sync.Pool{New: func() any {
	b := make([]byte, 0, 1024)
	return &b
}}

// Observe implements filter.Observer. It queues a line for a refusal and one for
// each report of a detecting rule, and never waits for the sink. It keeps no
// part of r.
func (l *Log) Observe(r *filter.Request, d filter.Decision, err error) {
	if !d.Refuses() && len(r.Detected) == 0 {
		return
	}
	latency := l.options.Clock().Sub(r.Now)
	var policy string
	if l.options.Policy != nil {
		policy = l.options.Policy()
	}
	buf := scratch.Get().(*[]byte)
	for i := range r.Detected {
		line := l.encoder.append((*buf)[:0], r, &r.Detected[i], nil, policy, latency, true)
		l.enqueue(line)
		*buf = line
	}
	if d.Refuses() {
		line := l.encoder.append((*buf)[:0], r, &d, err, policy, latency, false)
		l.enqueue(line)
		*buf = line
	}
	scratch.Put(buf)
}

func (l *Log) enqueue(line []byte) {
	l.mu.Lock()
	if l.closed || l.pendingN+l.inflightN >= l.options.MaxLines ||
		len(l.pending)+l.inflight+len(line) > l.options.MaxBytes {
		l.stats.Dropped++
		l.unreported++
		l.mu.Unlock()
		return
	}
	l.pending = append(l.pending, line...)
	l.pendingN++
	l.mu.Unlock()
	l.signal()
}

func (l *Log) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Stats returns the counts.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.QueuedLines = l.pendingN + l.inflightN
	s.QueuedBytes = len(l.pending) + l.inflight
	return s
}

// Reopen opens the file of Open anew under its path, for a log that was rotated
// away. On an error the old file stays in use. It returns ErrNotReopenable for
// other sinks.
func (l *Log) Reopen() error {
	f, ok := l.sink.(*file)
	if !ok {
		return ErrNotReopenable
	}
	return f.reopen()
}

// Close takes no more lines, waits until those that wait are written, and closes
// the file of Open. If ctx ends before, the rest is dropped and counted, and the
// error says so. Further calls wait for the same end.
func (l *Log) Close(ctx context.Context) error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.signal()
	select {
	case <-l.done:
		return nil
	case <-ctx.Done():
	}
	l.abandonOnce.Do(func() { close(l.abort) })
	// The writer ends at once, unless the sink itself hangs.
	select {
	case <-l.done:
	case <-time.After(firstPause):
	}
	s := l.Stats()
	return fmt.Errorf("audit: closed before all was written: %d lines dropped, %d in a sink that does not return: %w",
		s.Dropped, s.QueuedLines, ctx.Err())
}

// write is the writer's goroutine.
func (l *Log) write() {
	defer close(l.done)
	if l.closer != nil {
		defer func() { _ = l.closer.Close() }()
	}
	var batch []byte
	for {
		var dropped uint64
		var last bool
		batch, dropped, last = l.take(batch)
		if len(batch) == 0 && dropped == 0 {
			if last {
				return
			}
			<-l.wake
			continue
		}
		l.deliver(batch)
		if dropped > 0 {
			l.report(dropped)
		}
		if l.aborted() {
			l.drop()
			return
		}
		// A buffer that grew in a flood is not kept for the quiet after it.
		if cap(batch) > chunkBytes {
			batch = nil
		}
	}
}

// take exchanges the queue for an empty buffer. It also takes the number of
// dropped lines to report. last says that the log is closed.
func (l *Log) take(spare []byte) (batch []byte, dropped uint64, last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	batch = l.pending
	l.inflight, l.inflightN = len(batch), l.pendingN
	l.pending, l.pendingN = spare[:0], 0
	dropped, l.unreported = l.unreported, 0
	return batch, dropped, l.closed
}

// deliver writes whole lines, a chunk at a time.
func (l *Log) deliver(batch []byte) {
	for len(batch) > 0 {
		chunk := nextChunk(batch, l.perLine)
		batch = batch[len(chunk):]
		lines := bytes.Count(chunk, []byte{'\n'})
		lost := lines
		if !l.aborted() {
			lost = l.writeChunk(chunk)
		}

		l.mu.Lock()
		l.inflight -= len(chunk)
		l.inflightN -= lines
		l.stats.Written += uint64(lines - lost)
		l.stats.Dropped += uint64(lost)
		l.unreported += uint64(lost)
		l.mu.Unlock()
	}
}

// drop counts the lines that came behind the last batch as lost. The log is closed,
// so that no more follow.
func (l *Log) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Dropped += uint64(l.pendingN)
	l.pending, l.pendingN = nil, 0
}

// report writes the line that tells of n dropped lines. If that is lost too, the
// next report tells of them.
func (l *Log) report(n uint64) {
	lost := 1
	if !l.aborted() {
		lost = l.writeChunk(appendDropped(nil, l.options.Clock(), n))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if lost > 0 {
		l.unreported += n
		return
	}
	l.stats.Written++
}

func (l *Log) aborted() bool {
	select {
	case <-l.abort:
		return true
	default:
		return false
	}
}

// nextChunk returns the lines at the beginning of batch that one call of the
// sink takes: one, or as many as fit chunkBytes.
func nextChunk(batch []byte, perLine bool) []byte {
	first := bytes.IndexByte(batch, '\n') + 1
	switch {
	case perLine || first >= chunkBytes:
		return batch[:first]
	case len(batch) <= chunkBytes:
		return batch
	}
	return batch[:bytes.LastIndexByte(batch[:chunkBytes], '\n')+1]
}

// writeChunk offers lines to the sink until it has taken them, and returns how
// many were lost. What the sink took of them is not offered again, except the
// beginning of a line that went into a file since rotated away.
func (l *Log) writeChunk(lines []byte) (lost int) {
	pause := firstPause
	for attempt := 0; ; {
		generation := l.generation()
		n, err := l.sink.Write(lines)
		n = min(max(n, 0), len(lines))
		rest := lines[n:]
		if err == nil && len(rest) > 0 {
			err = io.ErrShortWrite
		}
		if err == nil {
			return 0
		}
		l.count(attempt == 0, err)
		if n > 0 {
			attempt, pause = 0, firstPause
		}
		if attempt++; attempt >= maxAttempts {
			return bytes.Count(rest, []byte{'\n'})
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-l.abort:
			timer.Stop()
			return bytes.Count(rest, []byte{'\n'})
		}
		pause = min(2*pause, longestPause)
		if generation != l.generation() {
			rest = lines[bytes.LastIndexByte(lines[:n], '\n')+1:]
		}
		lines = rest
	}
}

func (l *Log) count(first bool, err error) {
	l.mu.Lock()
	l.stats.WriteErrors++
	l.mu.Unlock()
	if first && l.options.OnError != nil {
		l.options.OnError(fmt.Errorf("audit: %w", err))
	}
}

// generation counts the files that the sink has opened.
func (l *Log) generation() uint64 {
	if f, ok := l.sink.(*file); ok {
		return f.generation.Load()
	}
	return 0
}
