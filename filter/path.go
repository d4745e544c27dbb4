package filter

import "net/url"

// ReadPath is a placeholder replaced in the next commit.
func ReadPath(u *url.URL) (path string, readings []string, err error) {
	return u.Path, nil, nil
}
