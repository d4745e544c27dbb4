package view

// frame is a JSON container that is open.
type frame struct {
	name  int // length of its name
	index int // of the next element; -1 for an object
}
