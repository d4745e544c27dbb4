package view

// Options are the settings of the engine on which its collections depend.
type Options struct {
	// Arguments is SecArgumentsLimit: of the query, and of the body.
	Arguments int
	// JSONDepth is SecRequestBodyJsonDepthLimit.
	JSONDepth int
	// BodyLimit is SecRequestBodyLimit, in bytes; 0 for none. A body of that size
	// or over it is not known.
	BodyLimit int64
}

// Builder builds Views. It is immutable and safe for concurrent use.
type Builder struct{ o Options }

// New returns a Builder. Limits of the engine that are not positive are its
// defaults: 1,000 arguments, 1,024 levels of JSON.
func New(o Options) *Builder {
	if o.Arguments <= 0 {
		o.Arguments = 1000
	}
	if o.JSONDepth <= 0 {
		o.JSONDepth = 1024
	}
	return &Builder{o: o}
}
