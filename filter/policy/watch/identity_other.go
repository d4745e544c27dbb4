//go:build !linux

package watch

import "io/fs"

func identify(info fs.FileInfo) identity {
	return identity{size: info.Size(), modified: info.ModTime().UnixNano(), mode: info.Mode()}
}
