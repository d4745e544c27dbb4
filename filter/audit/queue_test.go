package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moatwaf/moat/filter"
)

// lockedBuffer is a sink that a test may read while the writer writes.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// decode returns every line as a map, and fails on one that is no JSON.
func decode(t *testing.T, r io.Reader) (lines []map[string]any) {
	t.Helper()
	s := bufio.NewScanner(r)
	for s.Scan() {
		var v map[string]any
		if err := json.Unmarshal(s.Bytes(), &v); err != nil {
			t.Fatalf("%v in %q", err, s.Text())
		}
		lines = append(lines, v)
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}

func block(rule string) filter.Decision {
	return filter.Decision{Stage: "access", Rule: rule, Reason: filter.ReasonRule}
}

func TestStuckSinkDropsAndReports(t *testing.T) {
	for _, bound := range []struct {
		name    string
		options Options
		kept    uint64
	}{
		{"lines", Options{MaxLines: 10}, 10},
		{"bytes", Options{MaxBytes: 1000}, 4},
	} {
		t.Run(bound.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				var out bytes.Buffer
				l := New(writerFunc(func(p []byte) (int, error) {
					<-release
					return out.Write(p)
				}), bound.options)
				r := request(t, "GET", "/", filter.Location{})
				l.Observe(r, block("first"), nil)
				synctest.Wait() // the writer hangs in the sink with the first line
				for range 99 {
					l.Observe(r, block("later"), nil)
				}
				s := l.Stats()
				if s.Dropped == 0 || s.Dropped+uint64(s.QueuedLines) != 100 || uint64(s.QueuedLines) < bound.kept-1 || uint64(s.QueuedLines) > bound.kept+1 {
					t.Errorf("%+v, want about %d kept and the others counted", s, bound.kept)
				}
				if limit := bound.options.MaxBytes; limit > 0 && s.QueuedBytes > limit {
					t.Errorf("%d bytes queued, limit %d", s.QueuedBytes, limit)
				}
				kept := s.QueuedLines
				close(release)
				if err := l.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				lines := decode(t, &out)
				if len(lines) != kept+1 {
					t.Fatalf("%d lines, want %d and one report", len(lines), kept)
				}
				report := lines[len(lines)-1]
				if report["dropped"] != float64(100-kept) || report["verdict"] != nil {
					t.Errorf("last line %v, want a report of %d", report, 100-kept)
				}
				if l.Observe(r, block("late"), nil); l.Stats().Dropped != s.Dropped+1 {
					t.Error("a line after Close was not counted as dropped")
				}
			})
		})
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestFailingSinkIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		full := errors.New("no space left on device")
		var out bytes.Buffer
		calls := 0
		var told []error
		l := New(writerFunc(func(p []byte) (int, error) {
			switch calls++; {
			case calls <= 3:
				return 0, full
			case calls == 4: // the middle of a line
				n, _ := out.Write(p[:10])
				return n, full
			}
			return out.Write(p)
		}), Options{OnError: func(err error) { told = append(told, err) }})
		r := request(t, "GET", "/", filter.Location{})
		for range 3 {
			l.Observe(r, block("x"), nil)
		}
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := len(decode(t, &out)); got != 3 {
			t.Errorf("%d lines, want 3", got)
		}
		if s := l.Stats(); s.WriteErrors != 4 || s.Written != 3 || s.Dropped != 0 {
			t.Errorf("%+v", s)
		}
		if len(told) != 1 || !errors.Is(told[0], full) {
			t.Errorf("told %v, want the error once", told)
		}
	})
}

func TestDeadSinkLosesLinesAndSaysSoWhenItIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out lockedBuffer
		dead := true
		var mu sync.Mutex
		l := New(LineFunc(func(p []byte) error {
			mu.Lock()
			defer mu.Unlock()
			if dead {
				return errors.New("connection refused")
			}
			_, err := out.Write(p)
			return err
		}), Options{})
		r := request(t, "GET", "/", filter.Location{})
		l.Observe(r, block("lost"), nil)
		time.Sleep(time.Minute)
		if s := l.Stats(); s.Dropped != 1 || s.QueuedLines != 0 {
			t.Errorf("%+v, want one dropped", s)
		}
		mu.Lock()
		dead = false
		mu.Unlock()
		l.Observe(r, block("kept"), nil)
		time.Sleep(time.Minute)
		if err := l.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		lines := decode(t, &out.b)
		if len(lines) != 2 || lines[0]["dropped"] != 1.0 || lines[1]["rule"] != "kept" {
			t.Errorf("lines %v, want the report of one and then the kept line", lines)
		}
	})
}

func TestCloseGivesUpAtTheDeadline(t *testing.T) {
	for name, sink := range map[string]func(stop chan struct{}) error{
		"failing": func(chan struct{}) error { return errors.New("broken pipe") },
		"stuck":   func(stop chan struct{}) error { <-stop; return errors.New("broken pipe") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				stop := make(chan struct{})
				l := New(LineFunc(func([]byte) error { return sink(stop) }), Options{})
				r := request(t, "GET", "/", filter.Location{})
				// The first is with the sink when the others come.
				for range 3 {
					l.Observe(r, block("x"), nil)
					synctest.Wait()
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := l.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Close: %v, want the deadline", err)
				}
				close(stop)
				<-l.done
				if s := l.Stats(); s.Dropped != 3 || s.QueuedLines != 0 || s.QueuedBytes != 0 {
					t.Errorf("%+v, want three dropped", s)
				}
			})
		})
	}
}

func TestManyGoroutinesLoseNothing(t *testing.T) {
	var out lockedBuffer
	l := New(&out, Options{MaxLines: 1 << 20, MaxBytes: 1 << 30})
	const workers, each = 8, 500
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				r := request(t, "GET", "/", filter.Location{})
				r.Detect(block("detected"))
				l.Observe(r, block("x"), nil)
			}
		})
	}
	wg.Wait()
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	verdicts := map[any]int{}
	for _, line := range decode(t, &out.b) {
		verdicts[line["verdict"]]++
	}
	if verdicts["block"] != workers*each || verdicts["detect"] != workers*each {
		t.Errorf("verdicts %v, want %d each", verdicts, workers*each)
	}
	if s := l.Stats(); s.Written != 2*workers*each || s.Dropped != 0 {
		t.Errorf("%+v", s)
	}
}

func TestFileIsReopenedAfterRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	if err := os.WriteFile(path, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := request(t, "GET", "/", filter.Location{})
	l.Observe(r, block("before"), nil)
	waitWritten(t, l, 1)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	l.Observe(r, block("after"), nil)
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{path + ".1": `"rule":"before"`, path: `"rule":"after"`} {
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(got), want) || strings.Count(string(got), `"rule":`) != 1 {
			t.Errorf("%s holds %s, want one line with %s", name, got, want)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if mode := info.Mode().Perm(); mode != 0o600 {
		t.Errorf("mode %v, want 0600", mode)
	}
}

func TestReopenKeepsTheOldFileOnAnError(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := Open(filepath.Join(dir, "audit.jsonl"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Reopen: %v, want not exist", err)
	}
	l.Observe(request(t, "GET", "/", filter.Location{}), block("kept"), nil)
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir+".away", "audit.jsonl"))
	if err != nil || !bytes.Contains(got, []byte("kept")) {
		t.Errorf("%s, %v", got, err)
	}
}

func TestOpenAndReopenErrors(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "missing", "audit.jsonl"), Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Open: %v, want not exist", err)
	}
	l := New(io.Discard, Options{})
	if err := l.Reopen(); !errors.Is(err, ErrNotReopenable) {
		t.Errorf("Reopen: %v, want ErrNotReopenable", err)
	}
	if err := l.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestChunksEndAtLines(t *testing.T) {
	line := []byte(strings.Repeat("x", 999) + "\n")
	batch := bytes.Repeat(line, 200)
	for len(batch) > 0 {
		chunk := nextChunk(batch, false)
		if len(chunk) > chunkBytes || chunk[len(chunk)-1] != '\n' {
			t.Fatalf("chunk of %d bytes that ends in %q", len(chunk), chunk[len(chunk)-1])
		}
		batch = batch[len(chunk):]
	}
	huge := append(bytes.Repeat([]byte("y"), 2*chunkBytes), "\nz\n"...)
	if chunk := nextChunk(huge, false); len(chunk) != 2*chunkBytes+1 {
		t.Errorf("a long line was cut to %d bytes", len(chunk))
	}
	if chunk := nextChunk(bytes.Repeat(line, 2), true); len(chunk) != len(line) {
		t.Errorf("%d bytes for a sink of single lines", len(chunk))
	}
}

// waitWritten waits until the sink has taken n lines.
func waitWritten(t *testing.T, l *Log, n uint64) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for l.Stats().Written < n {
		if time.Now().After(deadline) {
			t.Fatalf("%+v, want %d written", l.Stats(), n)
		}
		time.Sleep(time.Millisecond)
	}
}
