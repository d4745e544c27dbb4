package view

// Kind is how the payload stage shows a body to the rules, after the body's media
// type. The order is that of the stage.
type Kind uint8

// The kinds.
const (
	None Kind = iota // no body, or one that is not read
	Text             // the argument "body", and pairs if it looks like a form
	Form
	Multipart
	JSON
	NDJSON
	XML
)

// kindProcessors are the body parsers that the stage names for a kind before the
// rules of phase 1.
var kindProcessors = [...]string{
	Text: "RAW", Form: "URLENCODED", Multipart: "MULTIPART", JSON: "JSON", NDJSON: "JSON", XML: "XML",
}

// MaxDelimiters is how many delimiters of a multipart body may be known.
const MaxDelimiters = 8

// Body is a request body as the stage hands it to the engine: decompressed and
// prepared.
type Body struct {
	Kind Kind
	// Data is empty if the rules see no body. It must not change as long as the
	// View is used.
	Data []byte
	// Cut says that Data is only the beginning.
	Cut bool
	// Whole says of a body of kind XML that Data is the document as the client sent
	// it, but for a byte order mark. What the rules see is the same as if the stage
	// had prepared it.
	Whole bool
	// Delimiters are, unless Boundary is empty, all places in Data at which "--" and
	// Boundary stand, from the left, without those that begin inside another; Count is
	// how many there are. Only bodies of kind Multipart have them.
	Boundary   string
	Delimiters [MaxDelimiters]int
	Count      int
}

// Body fills v, which holds what the rules of phase 1 see, with what those of
// phase 2 see. processor is the body parser that is in force between the phases, in
// upper case: what Head set, or what a rule of phase 1 has chosen with
// ctl:requestBodyProcessor; empty for none. (ctl:forceRequestBodyVariable chooses
// one only for a body that has none, and the stage does not read such a body.) Where
// the rules do not get at the body, in has no Data.
//
// Unless the answer is Known, v holds nothing that may be used.
func (b *Builder) Body(v *View, in Body, processorInForce string) Reason {
	if v.phase != 1 {
		return Unset
	}
	v.phase = 0
	why := b.fill(v, in, processorInForce)
	if why == Known {
		v.phase = 2
	}
	return why
}

// fill sets the values that follow from the body.
func (b *Builder) fill(v *View, in Body, parser string) Reason {
	v.single[processor] = parser
	if len(in.Data) == 0 || in.Kind == None {
		return Known
	}
	if b.o.BodyLimit > 0 && int64(len(in.Data)) >= b.o.BodyLimit {
		return Size
	}
	if in.Cut {
		v.single[inboundDataError] = "1"
	}
	data := textOf(in.Data)
	if in.Whole && (in.Kind != XML || parser != kindProcessors[XML] || in.Cut) {
		return Processor // the rules see the document as it was prepared
	}
	switch {
	case in.Kind == JSON && parser == kindProcessors[Text]:
		// Text that has turned out to be JSON.
		parser = kindProcessors[JSON]
		v.single[processor] = parser
		v.single[requestBodyLength] = v.number(len(data))
	case in.Kind == Text && parser == kindProcessors[Text]:
		v.setBody(data)
		return b.text(v, data)
	}
	switch parser {
	case "":
		return Known
	case "RAW":
		v.setBody(data)
		return Known
	case "URLENCODED":
		v.setBody(data)
		list, size, ok := v.appendForm(v.list[argsPost], data, b.o.Arguments)
		if !ok {
			return Arguments
		}
		v.list[argsPost] = list
		v.addArguments(size)
		return Known
	case "JSON":
		return b.json(v, data)
	case "MULTIPART":
		return b.multipart(v, data, &in)
	case "XML":
		return b.xml(v, data, in.Whole)
	}
	return Processor
}

// setBody sets the body as text, which two of the parsers do.
func (v *View) setBody(data string) {
	v.single[requestBody] = data
	v.single[requestBodyLength] = v.number(len(data))
}

// addArguments adds the size of the arguments of the body to that of the query.
func (v *View) addArguments(size int) {
	v.single[argsCombinedSize] = v.number(v.getSize + size)
}
