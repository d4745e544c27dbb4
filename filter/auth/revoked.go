package auth

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode/utf8"

	"github.com/moatwaf/moat/rules"
)

// maxTokenID is the length of a jti in bytes. Identifiers are random numbers in
// some writing; a longer line is another kind of file.
const maxTokenID = 512

// readRevoked reads a list of token identifiers, one a line. Empty lines and lines
// that begin with # are left out. The error is rules.Errors.
func readRevoked(f File) (map[string]struct{}, error) {
	ids := make(map[string]struct{})
	var errs rules.Errors
	for n, line := range textLines(f.Data) {
		line = strings.TrimSpace(line)
		pos := rules.Position{File: f.Name, Line: n, Column: 1}
		switch {
		case line == "" || line[0] == '#':
		case len(line) > maxTokenID:
			errs.Add(pos, "", "write the jti claim of one token a line", "a token identifier of %d bytes, %d are allowed", len(line), maxTokenID)
		case !isPlainText(line):
			errs.Add(pos, "", "write the jti claim of one token a line", "control characters or broken UTF-8 in a token identifier")
		case strings.Count(line, ".") == 2 && strings.HasPrefix(line, "eyJ"):
			errs.Add(pos, "", "write its jti claim instead, and revoke it: it has been in a file", "a whole token, not its identifier")
		default:
			ids[line] = struct{}{}
		}
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return ids, nil
}

// readFingerprints reads a list of certificates: the SHA-256 of one a line, in
// hexadecimal, in any case and with or without colons, as OpenSSL writes it. The
// error is rules.Errors.
func readFingerprints(f File) (map[string]struct{}, error) {
	sums := make(map[string]struct{})
	var errs rules.Errors
	for n, line := range textLines(f.Data) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		digits := strings.ToLower(strings.ReplaceAll(line, ":", ""))
		if sum, err := hex.DecodeString(digits); err != nil || len(sum) != sha256.Size {
			errs.Add(rules.Position{File: f.Name, Line: n, Column: 1}, "", "openssl x509 -noout -fingerprint -sha256 writes it", "not the SHA-256 of a certificate")
			continue
		}
		sums[digits] = struct{}{}
	}
	return sums, errs.Err()
}

// textLines yields the lines of a file with their numbers from 1, without line
// ends and without the byte order mark that some editors write.
func textLines(data []byte) func(yield func(int, string) bool) {
	return func(yield func(int, string) bool) {
		n := 0
		for line := range bytes.Lines(bytes.TrimPrefix(data, []byte("\uFEFF"))) {
			if n++; !yield(n, strings.TrimRight(string(line), "\r\n")) {
				return
			}
		}
	}
}

// isPlainText reports whether s is UTF-8 without control characters (C0, DEL, C1).
func isPlainText(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	return !strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || 0x7f <= c && c <= 0x9f })
}
