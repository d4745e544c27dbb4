package moatcaddy

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/moatwaf/moat/filter/auth"
)

var update = flag.Bool("update", false, "write the expected parts of testdata anew")

// separator stands between a Caddyfile and what it must become, as in Caddy's own
// files of this kind.
const separator = "----------"

// TestCaddyfiles adapts each Caddyfile of testdata/caddyfile: behind the separator
// stands the JSON, or the error.
func TestCaddyfiles(t *testing.T) {
	files, err := filepath.Glob("testdata/caddyfile/*.caddyfiletest")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 20 {
		t.Errorf("only %d files", len(files))
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddyfiletest"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			input, want, _ := strings.Cut(string(data), separator)
			input, want = strings.TrimSpace(input)+"\n", strings.TrimSpace(want)
			got := adapt(t, input)
			if *update {
				if err := os.WriteFile(file, []byte(input+separator+"\n"+got+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if formatted := string(caddyfile.Format([]byte(input))); formatted != input {
				t.Errorf("caddy fmt would write\n%s", formatted)
			}
			if bad := strings.HasPrefix(filepath.Base(file), "bad-"); bad == json.Valid([]byte(want)) {
				t.Error("the name of a file begins with bad- if, and only if, it has a fault")
			}
		})
	}
}

// TestReadme adapts the Caddyfile of README.md, but for the handler of events that
// is not among Caddy's own.
func TestReadme(t *testing.T) {
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), "```caddyfile\n")
	input, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("README.md has no Caddyfile")
	}
	if formatted := string(caddyfile.Format([]byte(input))); formatted != input {
		t.Errorf("caddy fmt would write\n%s", formatted)
	}
	input = strings.Replace(input, "exec /usr/local/bin/notify {event.data.client} {event.data.rule}", "moat_test", 1)
	if got := adapt(t, input); !json.Valid([]byte(got)) {
		t.Error(got)
	}
}

// adapt returns the JSON of a Caddyfile, or the error.
func adapt(t *testing.T, input string) string {
	t.Helper()
	result, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(input), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		return err.Error()
	}
	if len(warnings) > 0 {
		t.Errorf("warnings: %v", warnings)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, result, "", "\t"); err != nil {
		t.Fatal(err)
	}
	return indented.String()
}

// FuzzCaddyfile holds that no block makes the directive panic, and that what it
// takes can be compiled for the engine.
func FuzzCaddyfile(f *testing.F) {
	f.Add("moat policy.yaml")
	f.Add("moat {\n\tpolicy p\n\tmode detect\n\tparanoia 2\n\texclude 942100 ARGS:q\n\texclude tag:attack-sqli\n}")
	f.Add("moat p {\n\tidentity_header X-User claim:email\n\tbody_limit 10MiB\n\toversize pass\n}")
	f.Add("moat {\n\texclude 1-2 ARGS:/x/ \"a b\"\n}")
	f.Fuzz(func(t *testing.T, text string) {
		tokens, err := caddyfile.Tokenize([]byte(text), "Caddyfile")
		if err != nil || len(tokens) == 0 {
			return
		}
		h := new(Handler)
		if h.UnmarshalCaddyfile(caddyfile.NewDispenser(tokens)) != nil {
			return
		}
		o, err := h.overrides()
		if err != nil {
			t.Errorf("the directive takes what the handler refuses: %v", err)
		}
		for line := range strings.Lines(o.Exclude) {
			if !strings.HasPrefix(line, "SecRuleRemoveBy") && !strings.HasPrefix(line, "SecRuleUpdateTargetBy") {
				t.Errorf("an exclusion became %q", line)
			}
		}
		if _, err := auth.NewIdentityHeaders(h.IdentityHeaders); err != nil {
			_ = err // two names that an upstream takes for one are found here only
		}
	})
}
