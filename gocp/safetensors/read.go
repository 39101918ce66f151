package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sort"
	"strconv"
	"unicode/utf8"

	"github.com/gocp/gocp/gocp/foreign"
	"github.com/gocp/gocp/gocp/usage"
)

// maxHeader is the limit of the reference implementation, in bytes.
const maxHeader = 100_000_000

// maxRank bounds a shape: no framework goes beyond it, and a header cannot make
// us build long slices.
const maxRank = 64

// File is the content of a safetensors file.
type File struct {
	Meta    map[string]string // the "__metadata__" entry, nil if absent
	Tensors []Tensor          // in the order of their bytes
}

// Get returns the tensor of that name, or nil.
func (f *File) Get(name string) *Tensor {
	for i := range f.Tensors {
		if f.Tensors[i].Name == name {
			return &f.Tensors[i]
		}
	}
	return nil
}

// Need is Get for a tensor that must be there with this type and shape; a size
// of −1 allows any. The type "" allows any.
func (f *File) Need(name string, dtype DType, shape ...int) (*Tensor, error) {
	t := f.Get(name)
	if t == nil {
		return nil, usage.Errorf("tensor %q is missing", name)
	}
	if dtype != "" && t.DType != dtype {
		return nil, usage.Errorf("tensor %q has type %s; it must have type %s", name, t.DType, dtype)
	}
	ok := len(shape) == len(t.Shape)
	for i := 0; ok && i < len(shape); i++ {
		ok = shape[i] < 0 || shape[i] == t.Shape[i]
	}
	if !ok {
		return nil, usage.Errorf("tensor %q has shape %v; it must have shape %v", name, t.Shape, shape)
	}
	return t, nil
}

// Load reads the file at path.
func Load(path string) (*File, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, usage.Errorf("%s: no such file: %w", path, os.ErrNotExist)
	}
	if err != nil {
		return nil, usage.Errorf("%s: cannot be read: %w", path, err)
	}
	f, err := Parse(b)
	if err != nil {
		return nil, usage.Errorf("%s: not a valid safetensors file: %w", path, err)
	}
	return f, nil
}

// Parse reads a whole file from memory. The tensors share b.
func Parse(b []byte) (*File, error) {
	f, err := parse(b)
	if err != nil {
		if err := other(b); err != nil {
			return nil, err
		}
	}
	return f, err
}

func parse(b []byte) (*File, error) {
	if len(b) < 8 {
		return nil, usage.Errorf("it has %d bytes, too few for the 8-byte header length; it is cut off or of another format", len(b))
	}
	length := binary.LittleEndian.Uint64(b)
	if length > maxHeader {
		return nil, usage.Errorf("the header length of %d bytes is above the limit of %d; it is damaged or of another format", length, maxHeader)
	}
	if length > uint64(len(b)-8) {
		return nil, usage.Errorf("the header is %d bytes long but only %d bytes follow; the file is cut off", length, len(b)-8)
	}
	header, body := b[8:8+length], b[8+length:]
	f, spans, err := parseHeader(header)
	if err != nil {
		return nil, usage.Errorf("header: %w", err)
	}
	order, err := f.attach(spans, len(body))
	if err != nil {
		return nil, usage.Wrap(err)
	}
	for i, s := range order {
		t := &f.Tensors[i]
		t.Data = body[s.begin:s.end:s.end]
		if t.DType == Bool {
			for _, v := range t.Data {
				if v > 1 {
					return nil, usage.Errorf("tensor %q: a BOOL element is %d, neither 0 nor 1", t.Name, v)
				}
			}
		}
	}
	return f, nil
}

// Reader is a file whose tensors are read piece by piece, for those that need not fit in memory.
// Several goroutines may read it at once.
type Reader struct {
	// File has the tensors without their Data.
	*File

	f     *os.File
	begin []int64 // of each tensor's data
	size  []int64
}

// Open reads and checks the header of the file at path.
func Open(path string) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usage.Errorf("%s: cannot be read: %w", path, err)
	}
	r, err := open(f)
	if err != nil {
		head := make([]byte, foreign.Head)
		if n, _ := f.ReadAt(head, 0); other(head[:n]) != nil {
			err = other(head[:n])
		}
		f.Close()
		return nil, usage.Errorf("%s: not a valid safetensors file: %w", path, err)
	}
	return r, nil
}

func open(f *os.File) (*Reader, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	start := make([]byte, 8)
	if _, err := io.ReadFull(f, start); err != nil {
		return nil, usage.Errorf("it has %d bytes, too few for the 8-byte header length; it is cut off or of another format", info.Size())
	}
	length := binary.LittleEndian.Uint64(start)
	switch {
	case length > maxHeader:
		return nil, usage.Errorf("the header length of %d bytes is above the limit of %d; it is damaged or of another format", length, maxHeader)
	case length > uint64(info.Size()-8):
		return nil, usage.Errorf("the header is %d bytes long but only %d bytes follow; the file is cut off", length, info.Size()-8)
	}
	header := make([]byte, length)
	if _, err := io.ReadFull(f, header); err != nil {
		return nil, err
	}
	file, spans, err := parseHeader(header)
	if err != nil {
		return nil, usage.Errorf("header: %w", err)
	}
	body := info.Size() - 8 - int64(length)
	order, err := file.attach(spans, int(body))
	if err != nil {
		return nil, usage.Wrap(err)
	}
	r := &Reader{File: file, f: f}
	for _, s := range order {
		r.begin = append(r.begin, 8+int64(length)+int64(s.begin))
		r.size = append(r.size, int64(s.end-s.begin))
	}
	return r, nil
}

// Read fills dst with bytes of a tensor's data, from an offset in it on.
func (r *Reader) Read(name string, dst []byte, offset int64) error {
	for i := range r.Tensors {
		if r.Tensors[i].Name != name {
			continue
		}
		if offset < 0 || offset+int64(len(dst)) > r.size[i] {
			return fmt.Errorf("tensor %q: bytes %d to %d of %d", name, offset, offset+int64(len(dst)), r.size[i])
		}
		_, err := r.f.ReadAt(dst, r.begin[i]+offset)
		return err
	}
	return fmt.Errorf("tensor %q is missing", name)
}

// Close closes the file.
func (r *Reader) Close() error { return r.f.Close() }

// span is a tensor's byte range in the body.
type span struct{ begin, end int }

// attach checks that the spans tile a body of so many bytes, puts the tensors in their order and
// returns it.
func (f *File) attach(spans []span, body int) ([]span, error) {
	order := make([]int, len(spans))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(i, j int) bool {
		a, b := spans[order[i]], spans[order[j]]
		return a.begin < b.begin || a.begin == b.begin && a.end < b.end
	})
	tensors, sorted := make([]Tensor, 0, len(spans)), make([]span, 0, len(spans))
	at := 0
	for _, i := range order {
		t, s := f.Tensors[i], spans[i]
		size := t.DType.Size()
		n, err := elements(t.Shape)
		switch {
		case err != nil:
			return nil, fmt.Errorf("tensor %q: %w", t.Name, err)
		case s.begin > s.end:
			return nil, fmt.Errorf("tensor %q: its data ends at %d before it begins at %d", t.Name, s.end, s.begin)
		case s.end > body:
			return nil, fmt.Errorf("tensor %q: its data ends at byte %d but only %d bytes follow the header; the file is cut off", t.Name, s.end, body)
		case size > 0 && (n > math.MaxInt/size || s.end-s.begin != n*size): // of other types the offsets are believed
			return nil, fmt.Errorf("tensor %q: shape %v of type %s does not fill its %d bytes", t.Name, t.Shape, t.DType, s.end-s.begin)
		case s.begin < at:
			return nil, fmt.Errorf("tensor %q: its data overlaps another tensor's", t.Name)
		case s.begin > at:
			return nil, fmt.Errorf("tensor %q: %d bytes before its data belong to no tensor", t.Name, s.begin-at)
		}
		at = s.end
		tensors, sorted = append(tensors, t), append(sorted, s)
	}
	if at != body {
		return nil, fmt.Errorf("%d bytes at the end belong to no tensor", body-at)
	}
	f.Tensors = tensors
	return sorted, nil
}

// parseHeader walks the JSON token by token, because encoding/json alone lets
// duplicate keys, other spellings of keys and invalid UTF-8 pass.
func parseHeader(header []byte) (*File, []span, error) {
	if len(header) == 0 || header[0] != '{' {
		return nil, nil, errors.New("it does not begin with {")
	}
	if !utf8.Valid(header) {
		return nil, nil, errors.New("it is not valid UTF-8")
	}
	p := parser{json.NewDecoder(bytes.NewReader(header))}
	p.UseNumber()
	var spans []span
	f := &File{}
	err := p.object("the header", func(name string) error {
		if name == "__metadata__" {
			f.Meta = map[string]string{}
			return p.object("__metadata__", func(key string) error {
				value, err := p.str("__metadata__." + key)
				f.Meta[key] = value
				return err
			})
		}
		t, s, err := p.tensor(name)
		f.Tensors = append(f.Tensors, t)
		spans = append(spans, s)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	if _, err := p.Token(); err != io.EOF {
		return nil, nil, errors.New("something follows its closing }")
	}
	return f, spans, nil
}

type parser struct{ *json.Decoder }

func (p parser) delim(where string, want json.Delim) error {
	tok, err := p.Token()
	if err != nil {
		return malformed(where, err)
	}
	if tok != want {
		return fmt.Errorf("%s: %q expected", where, want.String())
	}
	return nil
}

// object calls f for every key, before its value; f must read the value.
func (p parser) object(where string, f func(key string) error) error {
	if err := p.delim(where, '{'); err != nil {
		return err
	}
	seen := map[string]bool{}
	for p.More() {
		key, err := p.str(where)
		if err != nil {
			return err
		}
		if seen[key] {
			return fmt.Errorf("%s: the name %q occurs twice", where, key)
		}
		seen[key] = true
		if err := f(key); err != nil {
			return err
		}
	}
	return p.delim(where, '}')
}

func (p parser) str(where string) (string, error) {
	tok, err := p.Token()
	if err != nil {
		return "", malformed(where, err)
	}
	s, ok := tok.(string)
	if !ok {
		return "", fmt.Errorf("%s: a string expected", where)
	}
	return s, nil
}

// ints reads an array of at most max non-negative integers.
func (p parser) ints(where string, max int) ([]int, error) {
	if err := p.delim(where, '['); err != nil {
		return nil, err
	}
	out := []int{}
	for p.More() {
		tok, err := p.Token()
		if err != nil {
			return nil, malformed(where, err)
		}
		num, ok := tok.(json.Number)
		if !ok {
			return nil, fmt.Errorf("%s: a number expected", where)
		}
		n, err := strconv.ParseUint(num.String(), 10, 63)
		if err != nil || n > math.MaxInt {
			return nil, fmt.Errorf("%s: %s is not a size", where, num)
		}
		if len(out) == max {
			return nil, fmt.Errorf("%s: more than %d numbers", where, max)
		}
		out = append(out, int(n))
	}
	return out, p.delim(where, ']')
}

func (p parser) tensor(name string) (t Tensor, s span, err error) {
	where := fmt.Sprintf("tensor %q", name)
	t.Name = name
	var offsets []int
	var shaped bool
	err = p.object(where, func(key string) error {
		switch key {
		case "dtype":
			d, err := p.str(where)
			if err != nil {
				return err
			}
			t.DType = DType(d)
			return nil
		case "shape":
			shaped = true
			var err error
			t.Shape, err = p.ints(where+": shape", maxRank)
			return err
		case "data_offsets":
			var err error
			offsets, err = p.ints(where+": data_offsets", 2)
			return err
		}
		return fmt.Errorf("%s: unknown entry %q", where, key)
	})
	switch {
	case err != nil:
	case t.DType == "":
		err = fmt.Errorf("%s: dtype is missing", where)
	case !shaped:
		err = fmt.Errorf("%s: shape is missing", where)
	case len(offsets) != 2:
		err = fmt.Errorf("%s: data_offsets must be two numbers", where)
	default:
		s = span{offsets[0], offsets[1]}
	}
	return t, s, err
}

func malformed(where string, err error) error {
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%s: it ends too early", where)
	}
	return fmt.Errorf("%s: %w", where, err)
}
