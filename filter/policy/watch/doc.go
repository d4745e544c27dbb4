// Package watch notices that files have changed: rule files, lists, key files,
// databases.
//
// What counts is content. Directories are watched and files are hashed, so that
// an editor that renames over the file, a program that truncates and writes, and
// a Kubernetes volume that swaps the symbolic link ..data are one and the same,
// and a file that was only touched, or written again as it was, is no change.
// Polling covers what notification misses: network file systems, exhausted
// inotify limits, symbolic links far away.
package watch
