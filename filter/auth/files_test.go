package auth_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moatwaf/moat/filter/auth"
	"github.com/moatwaf/moat/rules"
)

var update = flag.Bool("update", false, "write the expected messages anew")

// read loads a file of testdata as the kind that its extension says.
func read(t *testing.T, file string) error {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f := auth.File{Name: filepath.Base(file), Data: data}
	c := auth.BearerConfig{Tokens: auth.TokenConfig{Issuer: issuer, Audience: audience, JWKS: allKeys(t)}}
	switch filepath.Ext(file) {
	case ".json":
		c.Tokens.JWKS = f
		_, err = auth.NewBearer(c)
	case ".txt":
		c.Tokens.Revoked = f
		_, err = auth.NewBearer(c)
	case ".yaml":
		_, err = auth.NewAPIKey(auth.APIKeyConfig{Keys: f})
	case ".urlkeys":
		_, err = auth.NewSignedURL(auth.SignedURLConfig{Keys: f})
	case ".groups":
		users, readErr := os.ReadFile("testdata/good/migrated.htpasswd")
		if readErr != nil {
			t.Fatal(readErr)
		}
		_, err = auth.NewBasic(auth.BasicConfig{Htpasswd: auth.File{Name: "users", Data: users}, Groups: f})
	case ".htpasswd":
		_, err = auth.NewBasic(auth.BasicConfig{Htpasswd: f})
	default:
		t.Fatalf("%s: what is it?", file)
	}
	return err
}

func TestGoodFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/good/*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			if err := read(t, file); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestBadFiles holds every file of testdata/bad against its line in
// testdata/bad.want: file name, a tab, and the errors with " | " between them.
func TestBadFiles(t *testing.T) {
	const wantFile = "testdata/bad.want"
	raw, err := os.ReadFile(wantFile)
	if err != nil && !*update {
		t.Fatal(err)
	}
	want := make(map[string]string)
	for line := range strings.Lines(string(raw)) {
		name, message, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		want[name] = message
	}
	files, err := filepath.Glob("testdata/bad/*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var got strings.Builder
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			err := read(t, file)
			var errs rules.Errors
			if !errors.As(err, &errs) {
				t.Fatalf("got %v, want rules.Errors", err)
			}
			for _, e := range errs {
				if e.Pos.File != name {
					t.Errorf("place %v, want one in %s", e.Pos, name)
				}
			}
			message := strings.ReplaceAll(err.Error(), "\n", " | ")
			got.WriteString(name + "\t" + message + "\n")
			if message != want[name] && !*update {
				t.Errorf("got  %s\nwant %s", message, want[name])
			}
			if strings.Contains(message, "bm90IGEga2V5") || filepath.Ext(file) != ".urlkeys" && strings.Contains(message, "secret") || strings.Contains(message, "MDEyMzQ1") || strings.Contains(message, "c2hvcnQ") || strings.Contains(message, "$2a$04$") {
				t.Errorf("the error holds a secret: %s", message)
			}
			delete(want, name)
		})
	}
	if *update {
		if err := os.WriteFile(wantFile, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for name := range want {
		t.Errorf("%s has a message and no file", name)
	}
}
