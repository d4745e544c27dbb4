package auth

import (
	"strings"

	"github.com/moatwaf/moat/rules"
)

// Bounds of a password file.
const (
	maxUsers = 100_000
	maxUser  = 255 // bytes of a name
)

// readHtpasswd reads users and their password hashes, name:hash a line. Empty lines
// and lines that begin with # are left out. It returns the dearest hash as well.
// The error is rules.Errors, and holds no hash.
func readHtpasswd(f File) (users map[string]passwordHash, dearest passwordHash, err error) {
	users = make(map[string]passwordHash)
	lines := make(map[string]int)
	var errs rules.Errors
	for n, line := range textLines(f.Data) {
		pos := rules.Position{File: f.Name, Line: n, Column: 1}
		if trimmed := strings.TrimSpace(line); trimmed == "" || trimmed[0] == '#' {
			continue
		}
		if len(users) == maxUsers {
			errs.Add(pos, "", "", "more than %d users", maxUsers)
			break
		}
		name, hash, ok := strings.Cut(line, ":")
		if !ok {
			errs.Add(pos, "", "write name:hash, as htpasswd -B does", "no colon")
			continue
		}
		switch {
		case name == "":
			errs.Add(pos, "", "", "no user name before the colon")
			continue
		case len(name) > maxUser:
			errs.Add(pos, "", "", "a user name of %d bytes, %d are allowed", len(name), maxUser)
			continue
		case !isPlainText(name):
			errs.Add(pos, "", "", "control characters or broken UTF-8 in a user name")
			continue
		case lines[name] != 0:
			errs.Add(pos, "", "", "user %q is in line %d already", name, lines[name])
			continue
		}
		lines[name] = n
		pos.Column += len(name) + 1
		stored, fault := parseHash(strings.TrimRight(hash, " \t"))
		if fault != nil {
			errs.Add(pos, "", fault.hint, "user %q: %s", name, fault.msg)
			continue
		}
		if dearest == nil || stored.cost() > dearest.cost() {
			dearest = stored
		}
		users[name] = stored
	}
	if len(users) == 0 && len(errs) == 0 {
		errs.Add(rules.Position{File: f.Name}, "", "add one with htpasswd -B", "no users: nobody could log in")
	}
	if err := errs.Err(); err != nil {
		return nil, nil, err
	}
	return users, dearest, nil
}
