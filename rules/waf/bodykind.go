package waf

import (
	"net/http"
	"strings"
)

// bodyKind is how a body is shown to the rules.
type bodyKind uint8

const (
	// kindNone is no body, or one that the rules cannot read: not buffered.
	kindNone bodyKind = iota
	// kindText is shown as it is: as REQUEST_BODY and as the argument "body".
	// Text that is a JSON document is shown as one.
	kindText
	// kindForm is application/x-www-form-urlencoded.
	kindForm
	// kindMultipart is fields and files.
	kindMultipart
	// kindJSON is one JSON document.
	kindJSON
	// kindNDJSON is a JSON document a line, shown as an array of them.
	kindNDJSON
	// kindXML is text nodes and attribute values.
	kindXML
)

// kinds are the media types that are not known by their suffix or main type.
var kinds = map[string]bodyKind{
	"application/x-www-form-urlencoded": kindForm,
	"application/json":                  kindJSON,
	"text/json":                         kindJSON,
	"text/x-json":                       kindJSON,
	"application/x-json":                kindJSON,
	"application/csp-report":            kindJSON,
	"application/x-ndjson":              kindNDJSON,
	"application/ndjson":                kindNDJSON,
	"application/jsonl":                 kindNDJSON,
	"application/jsonlines":             kindNDJSON,
	"application/x-jsonlines":           kindNDJSON,
	"application/xml":                   kindXML,
	"text/xml":                          kindXML,

	"application/octet-stream":        kindNone,
	"application/protobuf":            kindNone,
	"application/x-protobuf":          kindNone,
	"application/vnd.google.protobuf": kindNone,
	"application/proto":               kindNone,
	"application/connect+proto":       kindNone,
	"application/pdf":                 kindNone,
	"application/zip":                 kindNone,
	"application/gzip":                kindNone,
	"application/zstd":                kindNone,
	"application/x-tar":               kindNone,
	"application/wasm":                kindNone,
}

// kindOf returns how a body of a media type is inspected. A type that nobody
// knows is text: an upstream that guesses sees what the rules saw. A body without
// a type is text for the same reason.
func kindOf(mediaType string) bodyKind {
	if kind, ok := kinds[mediaType]; ok {
		return kind
	}
	main, sub, _ := strings.Cut(mediaType, "/")
	switch {
	case sub == "grpc" || strings.HasPrefix(sub, "grpc+") || strings.HasPrefix(sub, "grpc-web") ||
		strings.HasPrefix(sub, "connect+"):
		// Length-prefixed frames on a stream that may never end.
		return kindNone
	case main == "multipart":
		return kindMultipart
	case strings.HasSuffix(sub, "+json"):
		return kindJSON
	case strings.HasSuffix(sub, "+xml"):
		return kindXML
	case main == "image" || main == "audio" || main == "video" || main == "font":
		return kindNone
	}
	return kindText
}

// mediaType returns the media type of the first Content-Type field, the one that
// selects the parser in most upstreams and in the engine, in lower case and
// without parameters.
func mediaType(h http.Header) string {
	values := h["Content-Type"]
	if len(values) == 0 {
		return ""
	}
	t, _, _ := strings.Cut(values[0], ";")
	return strings.ToLower(strings.TrimSpace(t))
}

// bodyKindOf returns how the body of a request is inspected; kindNone where there
// is none.
func bodyKindOf(r *http.Request) bodyKind {
	if !hasBody(r) {
		return kindNone
	}
	return kindOf(mediaType(r.Header))
}

// hasBody reports whether a request has a body that could be read to an end. That
// of CONNECT is a tunnel, or a WebSocket on HTTP/2 (RFC 8441).
func hasBody(r *http.Request) bool {
	return r.Body != nil && r.Body != http.NoBody && r.Method != http.MethodConnect
}
