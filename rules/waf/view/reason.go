package view

// Reason says whether the values of a request are known, and if not, why. The zero
// Reason is no answer and means that they are not.
type Reason uint8

// The reasons.
const (
	// Unset is no answer.
	Unset Reason = iota
	// Known means that the values are those of the engine.
	Known
	// Arguments is more arguments, parts or nodes than the engine's limit, or more
	// header fields, cookies, files or attributes than are worth the while.
	Arguments
	// Header is a header field whose name the engine could fold to another one.
	Header
	// Size is a body over the engine's limit.
	Size
	// Processor is a body parser that is not known here.
	Processor
	// OddJSON is a JSON document that does not parse, or is nested or
	// grows beyond the limits.
	OddJSON
	// OddMultipart is a multipart body that two parsers could read differently.
	OddMultipart
	// OddXML is an XML document with more in it than elements, attributes, text
	// and comments.
	OddXML
	numReasons
)

// NumReasons is the number of reasons: every Reason is less.
const NumReasons = int(numReasons)

var reasonNames = [...]string{
	Unset: "unset", Known: "known", Arguments: "arguments", Header: "header", Size: "size",
	Processor: "processor", OddJSON: "json", OddMultipart: "multipart", OddXML: "xml",
}

// String returns the reason in one lower-case word, as metrics label it.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return "unset"
}
