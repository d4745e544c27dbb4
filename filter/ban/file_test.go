package ban

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func mustPersist(t *testing.T, table *Table, path string) {
	t.Helper()
	if err := table.Persist(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = table.Close() })
}

// same compares bans as they come back from a file.
func same(a, b []Ban) bool {
	return slices.EqualFunc(a, b, func(a, b Ban) bool {
		return a.Prefix == b.Prefix && a.Until.Equal(b.Until) && a.Rule == b.Rule && a.Level == b.Level
	})
}

func TestBansSurviveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "bans.log")
	table, c := newTestTable()
	mustPersist(t, table, path)
	if _, err := os.Stat(path); err == nil {
		t.Error("there is a file without a ban")
	}
	w := mustWatch(t, table, Rule{ID: "five", After: 2, Within: time.Minute, For: time.Hour, Growth: 3})
	offend(w, "192.0.2.1", c.now(), 2, 1)
	for i := range 5 {
		if _, err := table.Add(ip(fmt.Sprintf("192.0.2.%d", 10+i)), time.Duration(i+1)*time.Hour, Manual); err != nil {
			t.Fatal(err)
		}
	}
	table.Lift(ip("192.0.2.11"))
	if err := table.Sync(); err != nil {
		t.Fatal(err)
	}
	want := table.List()
	// The process dies here: nothing is closed, another one reads the file.
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), "bans.log")
	if err := os.WriteFile(copied, data, 0o600); err != nil {
		t.Fatal(err)
	}
	again := NewTable(c.now, nil)
	mustPersist(t, again, copied)
	if got := again.List(); !same(got, want) || len(got) != 5 {
		t.Errorf("after a restart: %+v, want %+v", got, want)
	}
	// The level is known after a restart too.
	c.add(time.Hour)
	w = mustWatch(t, again, Rule{ID: "five", After: 2, Within: time.Minute, For: time.Hour, Growth: 3})
	offend(w, "192.0.2.1", c.now(), 2, 1)
	if b := again.entries[ip("192.0.2.1")]; b == nil || b.Level != 2 || b.Until.Sub(c.now()) != 3*time.Hour {
		t.Errorf("the second ban: %+v", b)
	}
	// A file in use is not shared.
	if err := NewTable(c.now, nil).Persist(path); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second table takes the file: %v", err)
	}
	if err := table.Persist(path); err != nil {
		t.Errorf("the same table is refused its file: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// TestTornFile cuts the file at every byte: what was whole stays, and the file can
// be written on.
func TestTornFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "bans.log")
	table, c := newTestTable()
	mustPersist(t, table, path)
	for i := range 4 {
		if _, err := table.Add(ip(fmt.Sprintf("192.0.2.%d", i)), time.Hour, Manual); err != nil {
			t.Fatal(err)
		}
		if err := table.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	step := 1
	if testing.Short() {
		step = 7
	}
	for cut := 0; cut <= len(data); cut += step {
		torn := filepath.Join(dir, fmt.Sprintf("torn%d.log", cut))
		if err := os.WriteFile(torn, data[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		again := NewTable(c.now, nil)
		if err := again.Persist(torn); err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		whole := bytes.Count(data[:cut], []byte{'\n'})
		if got := len(again.List()); got != whole {
			t.Fatalf("cut at %d: %d bans, want %d", cut, got, whole)
		}
		if _, err := again.Add(ip("198.51.100.1"), time.Hour, Manual); err != nil {
			t.Fatal(err)
		}
		if err := again.Close(); err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		third := NewTable(c.now, nil)
		if err := third.Persist(torn); err != nil {
			t.Fatal(err)
		}
		if got := len(third.List()); got != whole+1 {
			t.Fatalf("cut at %d, written on: %d bans, want %d", cut, got, whole+1)
		}
		_ = third.Close()
	}
}

func TestDamagedFiles(t *testing.T) {
	_, c := newTestTable()
	good := string(appendLine(nil, Change{Ban: Ban{Prefix: ip("192.0.2.1"), Since: c.now(), Until: c.now().Add(time.Hour), Rule: "a"}}))
	everybody := string(appendLine(nil, Change{Ban: Ban{Prefix: ip("0.0.0.0/0"), Until: c.now().Add(time.Hour)}}))
	over := string(appendLine(nil, Change{Ban: Ban{Prefix: ip("192.0.2.9"), Until: c.now().Add(-time.Hour)}}))
	for name, text := range map[string]string{
		"garbage-in-front":  "\x00\xff garbage\n" + good,
		"flipped-bit":       strings.Replace(good, "192.0.2.1", "192.0.2.3", 1) + good,
		"line-too-long":     strings.Repeat("x", 3*maxLine) + "\n" + good,
		"long-without-end":  good + strings.Repeat("x", 3*maxLine),
		"everybody":         everybody + good,
		"over":              over + good,
		"empty-lines":       "\n\n" + good + "\n",
		"carriage-returns":  strings.ReplaceAll(good, "\n", "\r\n") + good,
		"no-newline-in-end": good + strings.TrimSuffix(good, "\n"),
	} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		table := NewTable(c.now, nil)
		mustPersist(t, table, path)
		if l := table.List(); len(l) != 1 || l[0].Prefix != ip("192.0.2.1") {
			t.Errorf("%s: %+v", name, l)
		}
	}
	if err := NewTable(c.now, nil).Persist(t.TempDir()); err == nil {
		t.Error("a directory is taken for a file")
	}
}

func TestCompaction(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bans.log")
	table, c := newTestTable()
	mustPersist(t, table, path)
	for i := range 5000 {
		p := ip(fmt.Sprintf("10.0.0.%d", i%100))
		if i%3 == 0 {
			table.Lift(p)
		} else if _, err := table.Add(p, time.Hour, Manual); err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 {
			if err := table.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := table.Sync(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(data, []byte{'\n'}); n > 1200 {
		t.Errorf("%d lines for %d bans", n, len(table.List()))
	}
	want := table.List()
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
	again := NewTable(c.now, nil)
	mustPersist(t, again, path)
	if got := again.List(); !same(got, want) {
		t.Errorf("%d bans, want %d", len(got), len(want))
	}
	if left, _ := filepath.Glob(path + ".new"); len(left) > 0 {
		t.Error("a new file was left behind")
	}
}

// TestUnwritable: without a disk, bans work in memory, and come to the file when
// there is one again.
func TestUnwritable(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	table, c := newTestTable()
	mustPersist(t, table, filepath.Join(dir, "bans.log"))
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // a file in the directory's place
		t.Fatal(err)
	}
	if _, err := table.Add(ip("192.0.2.1"), time.Hour, Manual); err != nil {
		t.Fatal(err)
	}
	if err := table.Sync(); err == nil {
		t.Error("no error from a disk that cannot be written")
	}
	if banned(t, table, "192.0.2.1") == "" {
		t.Error("not banned")
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(3 * retryAfter); ; {
		if err := table.Sync(); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the file is not tried again")
		}
	}
	if err := table.Close(); err != nil {
		t.Fatal(err)
	}
	again := NewTable(c.now, nil)
	mustPersist(t, again, filepath.Join(dir, "bans.log"))
	if len(again.List()) != 1 {
		t.Errorf("%+v", again.List())
	}
}

func FuzzReadChanges(f *testing.F) {
	f.Add(appendLine(nil, Change{Ban: Ban{Prefix: ip("192.0.2.1"), Until: epoch}}))
	f.Add([]byte("00000000 {}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		n := 0
		good, _, err := readChanges(bytes.NewReader(data), func(c Change) {
			n++
			if _, err := canonical(c.Prefix); err != nil {
				t.Errorf("%+v: %v", c, err)
			}
		})
		if err != nil || good != n {
			t.Errorf("%d, %d, %v", good, n, err)
		}
	})
}
