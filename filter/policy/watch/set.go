package watch

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxFiles bounds the files that patterns may stand for.
const maxFiles = 10_000

// expand returns the files that patterns stand for now, absolute, sorted, each
// once, and whether some were left out because of the bound.
//
// A pattern is a file, which is in the set whether it exists or not; a
// directory, which stands for the files directly in it, hidden ones and editors'
// backups (name~) aside; or a glob of path/filepath.
func expand(patterns []string) (files []string, tooMany bool) {
	add := func(path string) {
		if abs, err := filepath.Abs(path); err == nil {
			files = append(files, abs)
		}
	}
	for _, pattern := range patterns {
		// A file may be named like a glob: what exists is meant literally.
		info, err := os.Stat(pattern)
		switch {
		case err == nil && info.IsDir():
			entries, err := os.ReadDir(pattern)
			if err != nil {
				add(pattern) // its fingerprint tells of the error
				continue
			}
			for _, e := range entries {
				name := e.Name()
				if strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") || e.IsDir() {
					continue
				}
				path := filepath.Join(pattern, name)
				if e.Type()&os.ModeSymlink != 0 {
					if target, err := os.Stat(path); err == nil && target.IsDir() {
						continue
					}
				}
				add(path)
			}
		case err != nil && strings.ContainsAny(pattern, "*?["):
			matches, err := filepath.Glob(pattern)
			if err != nil {
				add(pattern) // no glob after all
				continue
			}
			for _, path := range matches {
				add(path)
			}
		default:
			add(pattern)
		}
	}
	slices.Sort(files)
	files = slices.Compact(files)
	if len(files) > maxFiles {
		return files[:maxFiles], true
	}
	return files, false
}

// directories returns the directories whose entries decide what files and
// patterns stand for: the parents of the files, of every symbolic link on the
// way to them, and the directories that are patterns or hold globs.
func directories(patterns, files []string) []string {
	set := map[string]bool{}
	for _, file := range files {
		addDirectories(set, file, 0)
	}
	for _, pattern := range patterns {
		abs, err := filepath.Abs(pattern)
		if err != nil {
			continue
		}
		addDirectories(set, abs, 0)
		if info, err := os.Stat(abs); err == nil && info.IsDir() {
			set[abs] = true
		}
	}
	// A directory that is no more, or not yet, is seen by the nearest one above.
	dirs := make([]string, 0, len(set))
	for dir := range set {
		for {
			if info, err := os.Stat(dir); err == nil && info.IsDir() {
				break
			}
			parent := filepath.Dir(dir)
			if parent == dir {
				break
			}
			dir = parent
		}
		// One directory by two names would be two watches of which the
		// system makes one.
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			dir = real
		}
		dirs = append(dirs, dir)
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// maxLinks bounds a chain of symbolic links, as the kernel does.
const maxLinks = 40

// addDirectories adds the parent of path, and, for each of its components that
// is a symbolic link, the parent of that link and those of its target.
func addDirectories(set map[string]bool, path string, links int) {
	set[filepath.Dir(path)] = true
	if links > maxLinks {
		return
	}
	for at := path; ; at = filepath.Dir(at) {
		info, err := os.Lstat(at)
		if err == nil && info.Mode()&os.ModeSymlink != 0 {
			if target, err := os.Readlink(at); err == nil {
				if !filepath.IsAbs(target) {
					target = filepath.Join(filepath.Dir(at), target)
				}
				set[filepath.Dir(at)] = true
				addDirectories(set, target+strings.TrimPrefix(path, at), links+1)
				return
			}
		}
		if parent := filepath.Dir(at); parent == at {
			return
		}
	}
}
