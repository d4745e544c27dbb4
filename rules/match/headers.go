package match

import (
	"errors"
	"maps"
	"net/textproto"
	"reflect"
	"slices"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/moatwaf/moat/filter"
)

// headers is http.request.headers: the header of a request as a map from names,
// in lower case, to values. A name is found in any case. The value of a field
// that was not sent is "", so that no expression fails for it; the operator in
// tells whether it was sent.
type headers struct{ r *filter.Request }

var _ traits.Mapper = headers{}

// value returns the value of a field and whether it was sent.
func (h headers) value(name string) (value string, sent bool) {
	name = textproto.CanonicalMIMEHeaderKey(name)
	if name == "Host" {
		return h.r.HTTP.Host, h.r.HTTP.Host != ""
	}
	_, sent = h.r.HTTP.Header[name]
	return headerValue(h.r.HTTP, name), sent
}

// Find implements traits.Mapper.
func (h headers) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(key), false
	}
	value, _ := h.value(string(name))
	if len(value) > mostHeader {
		return types.NewErr("a header field is too long"), false
	}
	return types.String(value), true
}

// Get implements traits.Indexer.
func (h headers) Get(key ref.Val) ref.Val {
	value, _ := h.Find(key)
	return value
}

// Contains implements traits.Container.
func (h headers) Contains(key ref.Val) ref.Val {
	name, ok := key.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(key)
	}
	_, sent := h.value(string(name))
	return types.Bool(sent)
}

// Size implements traits.Sizer.
func (h headers) Size() ref.Val { return types.Int(len(h.r.HTTP.Header)) }

// Iterator implements traits.Iterable: the names in lower case, sorted.
func (h headers) Iterator() traits.Iterator {
	names := slices.Sorted(maps.Keys(h.r.HTTP.Header))
	for i, name := range names {
		names[i] = strings.ToLower(name)
	}
	return types.DefaultTypeAdapter.NativeToValue(names).(traits.Lister).Iterator()
}

// Type implements ref.Val.
func (h headers) Type() ref.Type { return types.MapType }

// Value implements ref.Val.
func (h headers) Value() any { return h.r.HTTP.Header }

// Equal implements ref.Val. Headers are compared field by field only.
func (h headers) Equal(ref.Val) ref.Val { return types.NewErr("headers cannot be compared as a whole") }

// ConvertToNative implements ref.Val.
func (h headers) ConvertToNative(reflect.Type) (any, error) {
	return nil, errors.New("headers cannot be converted")
}

// ConvertToType implements ref.Val.
func (h headers) ConvertToType(t ref.Type) ref.Val {
	if t == types.TypeType {
		return types.MapType
	}
	return types.NewErr("headers cannot be converted")
}
