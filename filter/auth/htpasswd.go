package auth

import (
	"crypto/rand"
	"strconv"
	"strings"

	"github.com/moatwaf/moat/rules"
)

// Bounds of a password file.
const (
	maxUsers = 100_000
	maxUser  = 255 // bytes of a name

	// A cost of 16 takes some seconds a try: a login is then an attack.
	minCost = 4
	maxCost = 16
)

// bcryptLength is the length of a bcrypt hash: $2b$, two digits, $, 22 characters
// of salt and 31 of hash.
const bcryptLength = 60

// readHtpasswd reads users and their bcrypt hashes, name:hash a line. Empty lines
// and lines that begin with # are left out. It returns the highest cost of a hash
// as well. The error is rules.Errors, and holds no hash.
func readHtpasswd(f File) (users map[string][]byte, cost int, err error) {
	users = make(map[string][]byte)
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
		c, fault := checkHash(strings.TrimRight(hash, " \t"))
		if fault != nil {
			errs.Add(pos, "", fault.hint, "user %q: %s", name, fault.msg)
			continue
		}
		cost = max(cost, c)
		users[name] = []byte(strings.TrimRight(hash, " \t"))
	}
	if len(users) == 0 && len(errs) == 0 {
		errs.Add(rules.Position{File: f.Name}, "", "add one with htpasswd -B", "no users: nobody could log in")
	}
	if err := errs.Err(); err != nil {
		return nil, 0, err
	}
	return users, cost, nil
}

// checkHash checks that a hash is one of bcrypt and returns its cost.
func checkHash(hash string) (cost int, fault *keyFault) {
	const again = "only bcrypt is taken: make it again with htpasswd -B"
	switch {
	case hash == "":
		return 0, &keyFault{"no password hash", again}
	case strings.HasPrefix(hash, "$apr1$"), strings.HasPrefix(hash, "$1$"):
		return 0, &keyFault{"an MD5 hash", again}
	case strings.HasPrefix(hash, "{SHA}"), strings.HasPrefix(hash, "{SSHA}"):
		return 0, &keyFault{"an SHA-1 hash", again}
	case strings.HasPrefix(hash, "$5$"), strings.HasPrefix(hash, "$6$"):
		return 0, &keyFault{"a crypt hash", again}
	case strings.HasPrefix(hash, "$2x$"):
		return 0, &keyFault{"a bcrypt hash of a version with a known fault", again}
	case !strings.HasPrefix(hash, "$2"):
		return 0, &keyFault{"not a password hash", again}
	}
	damaged := &keyFault{"the bcrypt hash is damaged", "it has 60 characters: $2y$, the cost, and 53 of ./A-Za-z0-9"}
	if len(hash) != bcryptLength || hash[6] != '$' {
		return 0, damaged
	}
	switch hash[:4] {
	case "$2a$", "$2b$", "$2y$":
	default:
		return 0, damaged
	}
	for i := 7; i < len(hash); i++ {
		if strings.IndexByte(bcryptAlphabet, hash[i]) < 0 {
			return 0, damaged
		}
	}
	cost, err := strconv.Atoi(hash[4:6])
	if err != nil {
		return 0, damaged
	}
	if cost < minCost || cost > maxCost {
		return 0, &keyFault{"a bcrypt cost of " + strconv.Itoa(cost), "4 to 16 are taken; 10 to 12 are usual"}
	}
	return cost, nil
}

const bcryptAlphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// dummyHash returns a bcrypt hash of the cost that no password has: comparing with
// it takes as long as comparing with a user's.
func dummyHash(cost int) []byte {
	random := make([]byte, bcryptLength-7)
	_, _ = rand.Read(random) // never fails: crypto/rand ends the program instead
	hash := make([]byte, 0, bcryptLength)
	hash = append(hash, "$2b$"...)
	hash = append(hash, byte('0'+cost/10), byte('0'+cost%10), '$')
	for _, b := range random {
		hash = append(hash, bcryptAlphabet[b%64])
	}
	return hash
}
