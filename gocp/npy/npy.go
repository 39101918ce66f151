package npy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/gocp/gocp/gocp/foreign"
	"github.com/gocp/gocp/gocp/usage"
)

const magic = "\x93NUMPY"

// maxHeader bounds the header: NumPy itself refuses more than 10,000 bytes
// unless told otherwise.
const maxHeader = 10_000

// maxRank is NumPy's limit on the number of axes.
const maxRank = 64

// Parse reads one .npy file from memory. The array may share b.
func Parse(b []byte) (*Array, error) {
	text, at, err := split(b)
	if err != nil {
		return nil, err
	}
	h, err := parseHeader(text)
	if err != nil {
		return nil, usage.Errorf("header: %w", err)
	}
	return h.array(b[at:])
}

// split returns the header of a file that begins with b, and where the data begin.
func split(b []byte) (text string, data int, err error) {
	if len(b) < 10 || string(b[:6]) != magic {
		return "", 0, usage.Errorf("it does not begin as an .npy file does%s", foreign.Says(b))
	}
	var length, at int
	switch major := b[6]; major {
	case 1:
		length, at = int(binary.LittleEndian.Uint16(b[8:])), 10
	case 2, 3:
		if len(b) < 12 {
			return "", 0, usage.Errorf("it ends in the header; it is cut off")
		}
		n := binary.LittleEndian.Uint32(b[8:])
		if n > maxHeader {
			return "", 0, usage.Errorf("its header of %d bytes is above the limit of %d", n, maxHeader)
		}
		length, at = int(n), 12
	default:
		return "", 0, usage.Errorf("its format version %d.%d is not 1, 2 or 3", b[6], b[7])
	}
	if length > maxHeader {
		return "", 0, usage.Errorf("its header of %d bytes is above the limit of %d", length, maxHeader)
	}
	if length > len(b)-at {
		return "", 0, usage.Errorf("it ends in the header; it is cut off")
	}
	return string(b[at : at+length]), at + length, nil
}

// header is the Python dictionary at the start of a file.
type header struct {
	descr   string
	fortran bool
	shape   []int
}

// check holds the header against the size of the body and returns the byte order and the type.
func (h header) check(body int64) (order byte, kind string, err error) {
	order, kind = h.descr[0], h.descr[1:]
	if !strings.ContainsRune("<>|=", rune(order)) {
		order, kind = '=', h.descr
	}
	size := itemSize(kind)
	switch {
	case strings.Contains(h.descr, "O"):
		return 0, "", usage.Errorf("it holds pickled Python objects, which are not read; save it with a plain type")
	case size == 0:
		return 0, "", usage.Errorf("the type %q is not supported, only bool, integers, float16 to float64 and Unicode strings%s", h.descr, instead(kind))
	}
	n := 1
	for _, s := range h.shape {
		if s > 0 && n > math.MaxInt/size/s {
			return 0, "", usage.Errorf("the shape %v overflows", h.shape)
		}
		n *= s
	}
	if int64(n*size) < body {
		return 0, "", usage.Errorf("shape %v of type %s needs %d bytes but %d follow the header; if several arrays were saved into one file, save them concatenated; if not, it is damaged", h.shape, kind, n*size, body)
	}
	if int64(n*size) > body {
		return 0, "", usage.Errorf("shape %v of type %s needs %d bytes but %d follow the header; the file is cut off", h.shape, kind, n*size, body)
	}
	return order, kind, nil
}

// instead says how an array of a type that is not read becomes one of another.
func instead(kind string) string {
	switch {
	case kind == "V1" || kind == "V2": // the file does not tell bfloat16 from other types of two bytes
		return ": NumPy loses the name of JAX's and ml_dtypes' types, bfloat16 among them; save x.astype(\"float32\")"
	case kind[0] == 'f':
		return "; save x.astype(\"float64\")"
	}
	return ""
}

// array checks the body against the header and brings it into our order.
func (h header) array(body []byte) (*Array, error) {
	order, kind, err := h.check(int64(len(body)))
	if err != nil {
		return nil, err
	}
	size := itemSize(kind)
	if kind == "b1" {
		for _, v := range body {
			if v > 1 {
				return nil, usage.Errorf("a bool is %d, neither 0 nor 1", v)
			}
		}
	}
	word := size // bytes that a change of byte order reverses
	if kind[0] == 'U' {
		word = 4
	}
	if order == '>' && word > 1 {
		body = slices.Clone(body)
		for i := 0; i < len(body); i += word {
			slices.Reverse(body[i : i+word])
		}
	}
	if h.fortran && len(h.shape) > 1 {
		body = toC(body, h.shape, size)
	}
	return &Array{kind, h.shape, body}, nil
}

// toC reorders elements stored with the first axis fastest.
func toC(src []byte, shape []int, size int) []byte {
	dst := make([]byte, len(src))
	strides := make([]int, len(shape)) // of src, in elements
	s := 1
	for i, n := range shape {
		strides[i] = s
		s *= n
	}
	index := make([]int, len(shape))
	from := 0
	for to := 0; to < len(dst); to += size {
		copy(dst[to:to+size], src[from*size:])
		for i := len(shape) - 1; i >= 0; i-- {
			index[i]++
			from += strides[i]
			if index[i] < shape[i] {
				break
			}
			from -= strides[i] * shape[i]
			index[i] = 0
		}
	}
	return dst
}

// parseHeader reads {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }.
func parseHeader(s string) (h header, err error) {
	p := &scanner{s: s}
	p.expect("{")
	seen := map[string]bool{}
	for p.err == nil && !p.accept("}") {
		key := p.quoted()
		p.expect(":")
		if seen[key] {
			p.fail("the key %q occurs twice", key)
		}
		seen[key] = true
		switch key {
		case "descr":
			h.descr = p.quoted()
		case "fortran_order":
			if h.fortran = p.accept("True"); !h.fortran {
				p.expect("False")
			}
		case "shape":
			h.shape = p.tuple()
		default:
			p.fail("unknown key %q", key)
		}
		if !p.accept(",") {
			p.expect("}")
			break
		}
	}
	if p.space(); p.err == nil && p.s != "" {
		p.fail("something follows the closing }")
	}
	if p.err == nil && (len(seen) != 3 || len(h.descr) < 2) {
		p.fail("descr, fortran_order or shape is missing")
	}
	return h, p.err
}

// scanner consumes a Python literal; after the first error it stands still.
type scanner struct {
	s   string
	err error
}

func (p *scanner) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
	}
}

func (p *scanner) space() { p.s = strings.TrimLeft(p.s, " \t\r\n") }

func (p *scanner) accept(token string) bool {
	p.space()
	rest, ok := strings.CutPrefix(p.s, token)
	if ok {
		p.s = rest
	}
	return ok
}

func (p *scanner) expect(token string) {
	if p.err == nil && !p.accept(token) {
		p.fail("%q expected at %.20q", token, p.s)
	}
}

func (p *scanner) quoted() string {
	p.space()
	if p.err == nil && p.s != "" && (p.s[0] == '\'' || p.s[0] == '"') {
		if end := strings.IndexByte(p.s[1:], p.s[0]); end >= 0 {
			text := p.s[1 : 1+end]
			p.s = p.s[2+end:]
			if !strings.ContainsRune(text, '\\') {
				return text
			}
		}
	}
	if strings.HasPrefix(p.s, "[") {
		p.fail("it is a structured array; save each field by itself")
	}
	p.fail("a string expected at %.20q", p.s)
	return ""
}

func (p *scanner) tuple() []int {
	shape := []int{}
	p.expect("(")
	for p.err == nil && !p.accept(")") {
		p.space()
		digits := 0
		for digits < len(p.s) && p.s[digits] >= '0' && p.s[digits] <= '9' {
			digits++
		}
		n, err := strconv.ParseInt(p.s[:digits], 10, 0)
		if err != nil {
			p.fail("a size expected at %.20q", p.s)
			break
		}
		p.s = strings.TrimPrefix(p.s[digits:], "L") // Python 2 wrote 3L
		if len(shape) == maxRank {
			p.fail("more than %d axes", maxRank)
			break
		}
		shape = append(shape, int(n))
		if !p.accept(",") {
			p.expect(")")
			break
		}
	}
	return shape
}

// Write writes a as an .npy file of version 1.
func Write(w io.Writer, a *Array) error {
	n, err := elements(a.Type, a.Shape)
	if err != nil {
		return err
	}
	if n*itemSize(a.Type) != len(a.Data) {
		return fmt.Errorf("npy: shape %v of type %s does not fill its %d bytes", a.Shape, a.Type, len(a.Data))
	}
	if err := WriteHeader(w, a.Type, a.Shape...); err != nil {
		return err
	}
	_, err = w.Write(a.Data)
	return err
}

// elements checks a type and a shape and returns the number of elements.
func elements(kind string, shape []int) (int, error) {
	size := itemSize(kind)
	if size == 0 {
		return 0, fmt.Errorf("npy: type %q is not supported", kind)
	}
	if len(shape) > maxRank {
		return 0, fmt.Errorf("npy: shape %v has more than %d axes", shape, maxRank)
	}
	n := 1
	for _, s := range shape {
		if s < 0 || s > 0 && n > math.MaxInt/size/s {
			return 0, fmt.Errorf("npy: shape %v is negative or overflows", shape)
		}
		n *= s
	}
	return n, nil
}

// WriteHeader writes the header of an .npy file of version 1; the elements, little-endian, are the
// caller's to write after it.
func WriteHeader(w io.Writer, kind string, shape ...int) error {
	if _, err := elements(kind, shape); err != nil {
		return err
	}
	order := "<"
	if itemSize(kind) == 1 {
		order = "|"
	}
	var text strings.Builder
	for i, s := range shape {
		if i > 0 {
			text.WriteString(", ")
		}
		text.WriteString(strconv.Itoa(s))
	}
	if len(shape) == 1 {
		text.WriteByte(',')
	}
	h := fmt.Sprintf("{'descr': '%s%s', 'fortran_order': False, 'shape': (%s), }", order, kind, text.String())
	h += strings.Repeat(" ", 63-(10+len(h))%64) + "\n" // data begin at a multiple of 64
	if len(h) > maxHeader {
		return errors.New("npy: the header is too long")
	}
	b := append([]byte(magic), 1, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(h)))
	_, err := w.Write(append(b, h...))
	return err
}
