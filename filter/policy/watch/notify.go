package watch

import (
	"fmt"
	"os"
	"slices"

	"github.com/fsnotify/fsnotify"
)

// notifier follows directories by the system's notification. A notifier without
// one is silent.
type notifier struct {
	w       *fsnotify.Watcher
	tell    func(error)
	watched map[string]identity // of directories, without times
}

func (w *Watcher) newNotifier() *notifier {
	n := &notifier{tell: w.tell, watched: map[string]identity{}}
	if w.options.PollOnly {
		return n
	}
	fw, err := fsnotify.NewWatcher()
	if err != nil {
		w.tell(fmt.Errorf("watch: no notification, polling instead: %w", err))
		return n
	}
	n.w = fw
	return n
}

func (n *notifier) events() <-chan fsnotify.Event {
	if n.w == nil {
		return nil
	}
	return n.w.Events
}

func (n *notifier) errors() <-chan error {
	if n.w == nil {
		return nil
	}
	return n.w.Errors
}

// follow watches exactly the directories given and reports whether one of them
// is new. A directory that another one has taken the place of is watched anew.
func (n *notifier) follow(dirs []string) (added bool) {
	if n.w == nil {
		return false
	}
	alive := n.w.WatchList()
	for dir := range n.watched {
		if !slices.Contains(dirs, dir) {
			_ = n.w.Remove(dir) // gone already, perhaps
			delete(n.watched, dir)
		}
	}
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err != nil {
			continue // it went this moment; its parent is told
		}
		id := identify(info)
		id = identity{device: id.device, inode: id.inode}
		old, known := n.watched[dir]
		if known && old == id && slices.Contains(alive, dir) {
			continue
		}
		if known {
			_ = n.w.Remove(dir)
			delete(n.watched, dir)
		}
		if err := n.w.Add(dir); err != nil {
			n.tell(fmt.Errorf("watch: no notification for %s, polling instead: %w", dir, err))
			continue
		}
		n.watched[dir] = id
		added = added || !known
	}
	return added
}

func (n *notifier) close() {
	if n.w != nil {
		_ = n.w.Close()
	}
}
