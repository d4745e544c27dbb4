package rules

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// decodeScalar fills a value that is written as one word.
func (n *Node) decodeScalar(v reflect.Value, o options) Errors {
	t := v.Type()
	if n.Kind() != Scalar {
		return n.Expected(expects(t, o), "")
	}
	switch {
	case t == typeDuration:
		return n.decodeDuration(v, o)
	case t == typeSize:
		return n.decodeSize(v, o)
	}
	switch t.Kind() {
	case reflect.String:
		return n.decodeString(v, o)
	case reflect.Bool:
		return n.decodeBool(v, o)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return n.decodeInt(v, o)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return n.decodeUint(v, o)
	case reflect.Float64:
		return n.decodeFloat(v, o)
	}
	panic(fmt.Sprintf("rules: decoding into %v is not supported", t))
}

// wrong is Expected for scalars: a field whose value is secret tells nothing of it.
func (n *Node) wrong(t reflect.Type, o options, hint string) Errors {
	if o.secret {
		return Errors{n.Errorf("", "expected %s", expects(t, o))}
	}
	return n.Expected(expects(t, o), hint)
}

func (n *Node) decodeString(v reflect.Value, o options) Errors {
	if !n.IsString() {
		hint := "quote it"
		if len(o.enum) > 0 {
			hint = ""
		} else if !o.secret {
			hint += ": " + quote(n.String())
		}
		return n.wrong(v.Type(), o, hint)
	}
	s := n.String()
	if len(o.enum) > 0 && !slices.Contains(o.enum, s) {
		if o.secret {
			return n.wrong(v.Type(), o, "")
		}
		hint := Suggest(s, o.enum)
		if !strings.HasPrefix(hint, "did") {
			hint = "one of " + strings.Join(o.enum, ", ")
		}
		return Errors{n.Errorf(hint, "unknown value %s", quote(s))}
	}
	v.SetString(s)
	return nil
}

func (n *Node) decodeBool(v reflect.Value, o options) Errors {
	if n.y.Tag != tagBool {
		hint := ""
		switch strings.ToLower(n.String()) {
		case "true", "yes", "on", "y":
			hint = "write true"
		case "false", "no", "off", "n":
			hint = "write false"
		}
		return n.wrong(v.Type(), o, hint)
	}
	v.SetBool(strings.EqualFold(n.String(), "true"))
	return nil
}

// integer returns the decimal digits of the value. Other notations (0x1f, 0o17,
// 017, 1_000) are refused: readers of YAML disagree about them.
func (n *Node) integer(t reflect.Type, o options) (string, Errors) {
	text := n.String()
	if n.y.Tag == tagString && n.y.Style != 0 && canonicalInt(text) {
		return "", n.wrong(t, o, "remove the quotes")
	}
	if n.y.Tag != tagInt && !(n.y.Tag == tagFloat && canonicalInt(text)) {
		return "", n.wrong(t, o, "")
	}
	if !canonicalInt(text) {
		return "", n.wrong(t, o, "write it in decimal digits, without leading zeros")
	}
	return text, nil
}

func canonicalInt(s string) bool {
	s = strings.TrimPrefix(s, "-")
	return digits(s) && (s == "0" || s[0] != '0')
}

func (n *Node) decodeInt(v reflect.Value, o options) Errors {
	text, errs := n.integer(v.Type(), o)
	if errs != nil {
		return errs
	}
	bits := v.Type().Bits()
	low, high := int64(math.MinInt64)>>(64-bits), int64(math.MaxInt64)>>(64-bits)
	i, err := strconv.ParseInt(text, 10, 64)
	low, high = bound(o.min, low, parseInt64), bound(o.max, high, parseInt64)
	if err != nil || i < low || i > high {
		return n.outOfRange(o, strconv.FormatInt(low, 10), strconv.FormatInt(high, 10))
	}
	v.SetInt(i)
	return nil
}

func (n *Node) decodeUint(v reflect.Value, o options) Errors {
	text, errs := n.integer(v.Type(), o)
	if errs != nil {
		return errs
	}
	high := uint64(math.MaxUint64) >> (64 - v.Type().Bits())
	i, err := strconv.ParseUint(text, 10, 64)
	low, high := bound(o.min, 0, parseUint64), bound(o.max, high, parseUint64)
	if err != nil || i < low || i > high {
		return n.outOfRange(o, strconv.FormatUint(low, 10), strconv.FormatUint(high, 10))
	}
	v.SetUint(i)
	return nil
}

func (n *Node) decodeFloat(v reflect.Value, o options) Errors {
	text := n.String()
	f, err := strconv.ParseFloat(text, 64)
	if n.y.Tag != tagFloat && n.y.Tag != tagInt || strings.ContainsAny(text, "_xXoObB") ||
		errors.Is(err, strconv.ErrSyntax) || math.IsInf(f, 0) && err == nil || math.IsNaN(f) {
		return n.wrong(v.Type(), o, "")
	}
	parse := func(s string) (float64, error) { return strconv.ParseFloat(s, 64) }
	low, high := bound(o.min, -math.MaxFloat64, parse), bound(o.max, math.MaxFloat64, parse)
	if err != nil || f < low || f > high {
		return n.outOfRange(o, o.min, o.max)
	}
	v.SetFloat(f)
	return nil
}

func (n *Node) decodeDuration(v reflect.Value, o options) Errors {
	if !n.IsString() {
		hint := ""
		if n.y.Tag == tagInt && digits(n.String()) {
			hint = "write a unit: " + clip(n.String()) + "s"
		}
		return n.wrong(v.Type(), o, hint)
	}
	d, err := ParseDuration(n.String())
	if err != nil {
		return n.badText(v.Type(), o)
	}
	low, high := bound(o.min, 0, ParseDuration), bound(o.max, math.MaxInt64, ParseDuration)
	if d < low || d > high {
		return n.outOfRange(o, o.min, o.max)
	}
	v.Set(reflect.ValueOf(d))
	return nil
}

func (n *Node) decodeSize(v reflect.Value, o options) Errors {
	if !n.IsString() {
		hint := ""
		if n.y.Tag == tagInt && digits(n.String()) {
			hint = "write a unit: " + clip(n.String()) + "B"
		}
		return n.wrong(v.Type(), o, hint)
	}
	s, err := ParseSize(n.String())
	if err != nil {
		return n.badText(v.Type(), o)
	}
	low, high := bound(o.min, 0, ParseSize), bound(o.max, math.MaxInt64, ParseSize)
	if s < low || s > high {
		return n.outOfRange(o, o.min, o.max)
	}
	v.SetInt(int64(s))
	return nil
}

// badText is the fault of a string that is not written as its type wants.
func (n *Node) badText(t reflect.Type, o options) Errors {
	if o.secret {
		return n.wrong(t, o, "")
	}
	return Errors{n.Errorf("", "expected %s, got %s", expects(t, o), quote(n.String()))}
}

func (n *Node) outOfRange(o options, low, high string) Errors {
	got := clip(n.String())
	if o.secret {
		got = "the value"
	}
	switch {
	case low == "" && high == "":
		return Errors{n.Errorf("", "%s is out of range", got)}
	case high == "":
		return Errors{n.Errorf("", "%s is out of range, expected at least %s", got, low)}
	case low == "":
		return Errors{n.Errorf("", "%s is out of range, expected at most %s", got, high)}
	}
	return Errors{n.Errorf("", "%s is out of range, expected %s to %s", got, low, high)}
}

// bound reads the bound in a tag; def if there is none. A bound that cannot be
// read is a fault of the program.
func bound[T int64 | uint64 | float64 | time.Duration | Size](tag string, def T, parse func(string) (T, error)) T {
	if tag == "" {
		return def
	}
	b, err := parse(tag)
	if err != nil {
		panic(fmt.Sprintf("rules: the bound %q in a tag: %v", tag, err))
	}
	return b
}

func parseInt64(s string) (int64, error)   { return strconv.ParseInt(s, 10, 64) }
func parseUint64(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) }
