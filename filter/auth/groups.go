package auth

import (
	"slices"
	"strings"

	"github.com/moatwaf/moat/rules"
)

// readGroups reads the roles of users, "role: user user" a line, as Apache's
// AuthGroupFile has them. A role may have several lines. Empty lines and lines that
// begin with # are left out. The error is rules.Errors.
func readGroups(f File, users map[string]passwordHash) (map[string][]string, error) {
	roles := make(map[string][]string)
	var errs rules.Errors
	for n, line := range textLines(f.Data) {
		pos := rules.Position{File: f.Name, Line: n, Column: 1}
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		role, members, ok := strings.Cut(line, ":")
		role = strings.TrimSpace(role)
		switch {
		case !ok:
			errs.Add(pos, "", "write role: user user", "no colon")
			continue
		case role == "" || strings.ContainsAny(role, " \t"):
			errs.Add(pos, "", "write role: user user", "not one role before the colon")
			continue
		case !isPlainText(line):
			errs.Add(pos, "", "", "control characters or broken UTF-8")
			continue
		}
		for _, user := range strings.Fields(members) {
			if _, known := users[user]; !known {
				errs.Add(pos, "", "", "the password file has no user %q", user)
				continue
			}
			if !slices.Contains(roles[user], role) {
				roles[user] = append(roles[user], role)
			}
		}
	}
	return roles, errs.Err()
}
