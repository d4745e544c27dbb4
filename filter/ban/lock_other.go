//go:build !unix

package ban

import (
	"io"
	"os"
)

// lockFile opens a file. Systems without flock do not keep a second process away.
func lockFile(path string) (io.Closer, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
}
