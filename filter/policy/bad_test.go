package policy

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moatwaf/moat/rules"
)

var update = flag.Bool("update", false, "write the expected messages of testdata/bad anew")

// TestBadPolicies holds every policy of testdata/bad against the message in the
// file beside it. The name of a file names its fault.
func TestBadPolicies(t *testing.T) {
	t.Chdir("testdata/bad")
	files, err := filepath.Glob("*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 25 {
		t.Fatalf("only %d bad policies", len(files))
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(file, ".yaml"), func(t *testing.T) {
			_, err := Check(t.Context(), Options{File: file, CacheDir: t.TempDir()})
			if err == nil {
				t.Fatal("no fault was found")
			}
			var faults rules.Errors
			if !errors.As(err, &faults) {
				t.Fatalf("%T is no rules.Errors: %v", err, err)
			}
			for _, f := range faults {
				if f.Pos.File == "" || f.Pos.Line == 0 && !placeless[file] {
					t.Errorf("no place: %v", f)
				}
			}
			got := err.Error() + "\n"
			want := strings.TrimSuffix(file, ".yaml") + ".want"
			if *update {
				if err := os.WriteFile(want, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			wanted, err := os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(wanted) {
				t.Errorf("messages:\n%swant:\n%s", got, wanted)
			}
		})
	}
}

// placeless are policies whose fault has no line.
var placeless = map[string]bool{}

func TestMissingPolicyFile(t *testing.T) {
	_, err := Check(context.Background(), Options{File: filepath.Join(t.TempDir(), "nowhere.yaml")})
	if err == nil || !strings.Contains(err.Error(), "nowhere.yaml: no such file") {
		t.Errorf("error %v", err)
	}
}

func TestGoodPolicies(t *testing.T) {
	files, err := filepath.Glob("testdata/good/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			s, err := Check(t.Context(), Options{File: file, CacheDir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			if s.PayloadRules < 100 || s.Countries < 200 {
				t.Errorf("%d payload rules and %d countries were loaded", s.PayloadRules, s.Countries)
			}
		})
	}
}

func TestFullPolicyIsSummedUp(t *testing.T) {
	s, err := Check(t.Context(), Options{File: "testdata/good/full.yaml", CacheDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if s.AccessRules != 5 || s.Tiers != 3 || s.Lists != 3 || s.ListEntries != 7 || s.AuthMethods != 2 || s.Requirements != 4 {
		t.Errorf("summary %+v", s)
	}
}
