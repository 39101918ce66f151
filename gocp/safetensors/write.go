package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"sort"
	"strconv"
	"unicode/utf8"

	"github.com/gocp/gocp/gocp/atomicfile"
)

// Save writes the file at path, whole or not at all.
func (f *File) Save(path string) error {
	return atomicfile.Write(path, f.Encode)
}

// Encode writes the file to w. It fails before the first byte if a tensor is
// not valid.
func (f *File) Encode(w io.Writer) error {
	tensors := make([]*Tensor, len(f.Tensors))
	for i := range f.Tensors {
		tensors[i] = &f.Tensors[i]
	}
	// Wider types first, so that every tensor is aligned; then by name.
	sort.SliceStable(tensors, func(i, j int) bool {
		a, b := tensors[i], tensors[j]
		if ra, rb := rank(a.DType), rank(b.DType); ra != rb {
			return ra < rb
		}
		return a.Name < b.Name
	})
	header, err := f.header(tensors)
	if err != nil {
		return err
	}
	if _, err := w.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(header)))); err != nil {
		return err
	}
	if _, err := w.Write(header); err != nil {
		return err
	}
	for _, t := range tensors {
		if _, err := w.Write(t.Data); err != nil {
			return err
		}
	}
	return nil
}

// rank orders the types as the reference implementation does; others come last.
func rank(d DType) int {
	known := []DType{U64, I64, F64, F32, U32, I32, BF16, F16, U16, I16, I8, U8, Bool}
	if i := slices.Index(known, d); i >= 0 {
		return i
	}
	return len(known)
}

func (f *File) header(tensors []*Tensor) ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	if f.Meta != nil {
		keys := make([]string, 0, len(f.Meta))
		for k := range f.Meta {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		b.WriteString(`"__metadata__":{`)
		for i, k := range keys {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := quote(&b, k); err != nil {
				return nil, err
			}
			b.WriteByte(':')
			if err := quote(&b, f.Meta[k]); err != nil {
				return nil, err
			}
		}
		b.WriteByte('}')
	}
	seen := map[string]bool{"__metadata__": true}
	at := 0
	for i, t := range tensors {
		if seen[t.Name] {
			return nil, fmt.Errorf("safetensors: the name %q occurs twice or is reserved", t.Name)
		}
		seen[t.Name] = true
		if t.DType == "" {
			return nil, fmt.Errorf("safetensors: tensor %q: it has no type", t.Name)
		}
		size := t.DType.Size() // 0 for a type that is handed on as it was read
		n, err := elements(t.Shape)
		if err != nil {
			return nil, fmt.Errorf("safetensors: tensor %q: %w", t.Name, err)
		}
		if size > 0 && (n > math.MaxInt/size || n*size != len(t.Data)) {
			return nil, fmt.Errorf("safetensors: tensor %q: shape %v of type %s does not fill its %d bytes", t.Name, t.Shape, t.DType, len(t.Data))
		}
		if i > 0 || f.Meta != nil {
			b.WriteByte(',')
		}
		if err := quote(&b, t.Name); err != nil {
			return nil, err
		}
		b.WriteString(`:{"dtype":"` + string(t.DType) + `","shape":[`)
		for j, s := range t.Shape {
			if j > 0 {
				b.WriteByte(',')
			}
			b.WriteString(strconv.Itoa(s))
		}
		fmt.Fprintf(&b, `],"data_offsets":[%d,%d]}`, at, at+len(t.Data))
		at += len(t.Data)
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 { // the body starts aligned
		b.WriteByte(' ')
	}
	if b.Len() > maxHeader {
		return nil, fmt.Errorf("safetensors: the header of %d bytes is above the format's limit of %d", b.Len(), maxHeader)
	}
	return b.Bytes(), nil
}

func quote(b *bytes.Buffer, s string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("safetensors: %q is not valid UTF-8", s)
	}
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return err
	}
	b.Truncate(b.Len() - 1) // Encode ends with a newline
	return nil
}
