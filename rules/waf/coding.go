package waf

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"mime"
	"net/http"
	"runtime"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// coding is a content coding of RFC 9110 section 8.4.1 that is decoded for
// inspection.
type coding uint8

const (
	codingIdentity coding = iota
	codingGzip
	codingDeflate
	codingBrotli
	codingZstd
	numCodings
)

// codings are the names of the codings, those of RFC 9110 section 8.4.1, RFC 7932
// and RFC 9659.
var codings = map[string]coding{
	"gzip": codingGzip, "deflate": codingDeflate, "br": codingBrotli, "zstd": codingZstd,
}

// DefaultCodings returns the content codings that are decoded by default: all that
// can be.
func DefaultCodings() []string { return []string{"gzip", "deflate", "br", "zstd"} }

// contentCoding returns the coding of a body. A coding that is not decoded here,
// and more than one at once, is not known: the rules would judge bytes that the
// upstream never sees.
func contentCoding(h http.Header) (c coding, known bool) {
	for _, line := range h["Content-Encoding"] {
		for name := range strings.SplitSeq(line, ",") {
			name = strings.ToLower(strings.Trim(name, " \t"))
			if name == "" || name == "identity" {
				continue
			}
			next, ok := codings[strings.TrimPrefix(name, "x-")]
			if !ok || c != codingIdentity || strings.HasPrefix(name, "x-") && next != codingGzip {
				return codingIdentity, false
			}
			c = next
		}
	}
	return c, true
}

// maxRatio is how many times larger than its compressed form a body may be,
// beyond the first 64 KiB. Text compresses to a tenth, logs to a fiftieth;
// DEFLATE ends at 1:1032.
const (
	maxRatio      = 200
	maxRatioFloor = 64 << 10
)

// maxWindow bounds the memory of one decoder, as RFC 9659 section 3 does for zstd.
const maxWindow = 8 << 20

// decoders bounds how many bodies are decoded at a time: a few bytes may ask for
// the whole window. The bodies are in memory, so that nobody waits for a client.
var decoders = make(chan struct{}, max(4, 2*runtime.GOMAXPROCS(0)))

// decode decompresses a body. end is false if that gives more bytes than limit,
// or more than maxRatio lets pass; plain is then the beginning. cut says that data
// is itself only the beginning, so that its sudden end is no fault.
func decode(c coding, data []byte, limit int64, cut bool) (plain []byte, end bool, err error) {
	decoders <- struct{}{}
	defer func() { <-decoders }()
	var r io.Reader
	switch c {
	case codingGzip:
		r, err = gzip.NewReader(bytes.NewReader(data))
	case codingDeflate:
		// The zlib format of RFC 1950, as RFC 9110 section 8.4.1.2 says. Raw
		// DEFLATE is an error, not a second guess.
		src := bytes.NewReader(data)
		if r, err = zlib.NewReader(src); err == nil {
			r = whole{r, src}
		}
	case codingBrotli:
		src := bytes.NewReader(data)
		r = whole{brotli.NewReader(slowEnd{src}), src}
	case codingZstd:
		var d *zstd.Decoder
		d, err = zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(maxWindow))
		if err == nil {
			defer d.Close()
			r = d
		}
	}
	if err != nil {
		return nil, false, err
	}
	limit = min(limit, max(maxRatioFloor, int64(len(data))*maxRatio))
	var buf bytes.Buffer
	n, err := io.Copy(&buf, io.LimitReader(r, limit+1))
	if n > limit {
		return buf.Bytes()[:limit], false, nil
	}
	if err != nil && !(cut && errors.Is(err, io.ErrUnexpectedEOF)) {
		return nil, false, err
	}
	return buf.Bytes(), true, nil
}

// whole refuses bytes after the end of the compressed data: another decoder could
// take them for a part of the body.
type whole struct {
	io.Reader
	src *bytes.Reader
}

var errTrailing = errors.New("bytes behind the compressed data")

func (w whole) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if errors.Is(err, io.EOF) && w.src.Len() > 0 {
		err = errTrailing
	}
	return n, err
}

// slowEnd gives the last bytes one by one, to a decoder that reads ahead: so it has
// taken no byte behind the end of the compressed data when it comes there.
type slowEnd struct{ *bytes.Reader }

func (s slowEnd) Read(p []byte) (int, error) {
	const last = 64
	if n := s.Len() - last; n > 0 {
		return s.Reader.Read(p[:min(n, len(p))])
	}
	return s.Reader.Read(p[:min(1, len(p))])
}

// boundaryOf returns the boundary of a multipart body; empty if there is none.
func boundaryOf(h http.Header) string {
	_, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return params["boundary"]
}

// unescapeForm decodes percent-encoding and plus signs as forms have them. What
// is not an encoding stays.
func unescapeForm(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '+':
			b.WriteByte(' ')
		case s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			b.WriteByte(unhex(s[i+1])<<4 | unhex(s[i+2]))
			i += 2
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}
