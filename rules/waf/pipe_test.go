//go:build unix

package waf

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestPipeIsRefused includes a pipe from within a file: opening it would wait for
// a writer that never comes.
func TestPipeIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.conf"), 0o600); err != nil {
		t.Skipf("skipped: no pipes here: %v", err)
	}
	file := filepath.Join(dir, "rules.conf")
	if err := os.WriteFile(file, []byte("Include pipe.conf\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{Include: []Include{{Name: file}}})
	if err == nil {
		_ = s.Close()
		t.Fatal("no fault")
	}
	if !strings.Contains(err.Error(), "is no regular file") {
		t.Errorf("error %v", err)
	}
}
