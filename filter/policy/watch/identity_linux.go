package watch

import (
	"io/fs"
	"syscall"
)

// identify takes the change time of the inode as well: a program may set the
// modification time, but not that one.
func identify(info fs.FileInfo) identity {
	id := identity{size: info.Size(), modified: info.ModTime().UnixNano(), mode: info.Mode()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		id.changed = st.Ctim.Nano()
		id.device = uint64(st.Dev) //nolint:unconvert // 32 bits wide on some architectures
		id.inode = st.Ino
	}
	return id
}
