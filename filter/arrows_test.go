package filter_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/moatwaf/moat"

// rooms lists, for every folder, which folders of the module it may import. A
// folder that has no line of its own takes the line of the longest prefix. "std"
// stands for a folder that imports nothing but the standard library beside what
// is listed.
var rooms = []struct {
	dir     string
	std     bool
	imports []string
}{
	{dir: "filter", std: true},
	{dir: "filter/clientip", std: true, imports: []string{"filter"}},
	{dir: "filter/respond", std: true, imports: []string{"filter"}},
	{dir: "filter/cors", std: true},
	{dir: "filter/front", std: true, imports: []string{"filter", "filter/auth", "filter/cors", "filter/respond"}},
	{dir: "filter/profile", imports: []string{"filter", "filter/respond", "rules"}},
	{dir: "filter/filtertest", std: true, imports: []string{"filter"}},
	{dir: "filter/audit", imports: []string{"filter"}},
	{dir: "filter/ban", imports: []string{"filter"}},
	{dir: "filter/metrics", imports: []string{"filter"}},
	{dir: "filter/auth", imports: []string{"filter", "rules"}},
	{dir: "rules"},
	{dir: "rules/list", imports: []string{"rules"}},
	{dir: "rules/match", imports: []string{"filter", "rules"}},
	{dir: "rules/access", imports: []string{"filter", "rules"}},
	{dir: "rules/waf", imports: []string{"filter", "rules", "rules/waf/..."}},
	{dir: "geo", imports: []string{"filter", "geo/..."}},
	{dir: "ratelimit", imports: []string{"filter"}},
	{dir: "ratelimit/redis", imports: []string{"filter", "filter/ban", "ratelimit", "rules/list"}},
	{dir: "filter/policy", imports: []string{"filter/...", "rules/...", "geo", "ratelimit/..."}},
	{dir: "filter/policy/watch"},
	{dir: "deploy", imports: []string{"filter/...", "deploy/...", "rules"}},
	{dir: "deploy/traefik", std: true}, // Traefik interprets it
	{dir: "cmd", imports: []string{"filter/...", "deploy/...", "rules/..."}},
	{dir: "bench", imports: []string{"..."}},
}

// caddyRooms are the folders that may import Caddy.
var caddyRooms = []string{"deploy/caddy", "cmd/moat"}

// TestArrows holds the imports of every package against the table: the house
// stays in order only if nothing can be carried through the wrong door.
func TestArrows(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatalf("the module's root is not where it was: %v", err)
	}
	checked := 0
	err = filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); file != root && (strings.HasPrefix(name, ".") || name == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		checked++
		checkImports(t, filepath.ToSlash(rel), file)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if checked < 10 {
		t.Errorf("only %d files were checked", checked)
	}
}

func checkImports(t *testing.T, dir, file string) {
	t.Helper()
	best := -1
	for i, room := range rooms {
		if (dir == room.dir || strings.HasPrefix(dir, room.dir+"/")) && (best < 0 || len(room.dir) > len(rooms[best].dir)) {
			best = i
		}
	}
	if best < 0 {
		t.Errorf("%s: no line in the table for the folder %s", file, dir)
		return
	}
	room := rooms[best]
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Error(err)
		return
	}
	for _, spec := range f.Imports {
		target, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Error(err)
			continue
		}
		switch inside, ok := strings.CutPrefix(target, module+"/"); {
		case ok:
			if inside != dir && !allowed(room.imports, inside) {
				t.Errorf("%s imports %s, which the table does not let %s do", file, target, dir)
			}
		case strings.Contains(strings.SplitN(target, "/", 2)[0], "."):
			if room.std {
				t.Errorf("%s imports %s; %s keeps to the standard library", file, target, dir)
			}
			if strings.HasPrefix(target, "github.com/caddyserver/") && !under(caddyRooms, dir) {
				t.Errorf("%s imports Caddy; only %v may", file, caddyRooms)
			}
		}
	}
}

func allowed(patterns []string, target string) bool {
	for _, p := range patterns {
		if prefix, ok := strings.CutSuffix(p, "..."); ok {
			if prefix == "" || target == strings.TrimSuffix(prefix, "/") || strings.HasPrefix(target, prefix) {
				return true
			}
		} else if p == target {
			return true
		}
	}
	return false
}

func under(dirs []string, dir string) bool {
	for _, d := range dirs {
		if dir == d || strings.HasPrefix(dir, d+"/") {
			return true
		}
	}
	return false
}

func TestArrowPatterns(t *testing.T) {
	tests := []struct {
		pattern, target string
		want            bool
	}{
		{"filter", "filter", true},
		{"filter", "filter/policy", false},
		{"filter/...", "filter", true},
		{"filter/...", "filter/policy", true},
		{"filter/...", "filters", false},
		{"...", path.Join("rules", "waf"), true},
	}
	for _, tt := range tests {
		if got := allowed([]string{tt.pattern}, tt.target); got != tt.want {
			t.Errorf("allowed(%q, %q) = %v", tt.pattern, tt.target, got)
		}
	}
}
