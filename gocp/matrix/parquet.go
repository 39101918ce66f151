package matrix

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/format"

	"github.com/gocp/gocp/gocp/foreign"
	"github.com/gocp/gocp/gocp/npy"
	"github.com/gocp/gocp/gocp/strictjson"
	"github.com/gocp/gocp/gocp/usage"
)

// guard turns a panic of the decoder, which trusts the sizes that a file claims, into an error.
func guard(path string, err *error) {
	if p := recover(); p != nil {
		*err = usage.Errorf("%s: not a valid Parquet file: its decoder broke off: %v", path, p)
	}
}

// leaf is a column of a Parquet file that holds values.
type leaf struct {
	column
	at      int // its number
	decode  func(v parquet.Value) (float64, error)
	single  bool // float32 has room for all its values
	sampled bool // its kind is to be found from its values
}

// part is one Parquet file.
type parquetPart struct {
	path   string
	f      *os.File
	file   *parquet.File
	leaves []leaf
}

// parts lists the Parquet files of a folder in their order, refusing an order that could be meant
// otherwise.
func parts(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, usage.Errorf("%s: cannot be read: %w", path, err)
	}
	for _, e := range entries {
		if of, ok := folders[e.Name()]; ok {
			return nil, usage.Errorf("%s: it is %s, which is not read; convert it first: %s", path, of.what, strings.ReplaceAll(of.line, "PATH", path))
		}
	}
	var out []string
	for _, e := range entries {
		name := e.Name()
		if strings.HasPrefix(name, "_") || strings.HasPrefix(name, ".") { // _SUCCESS and checksums
			continue
		}
		if kind, _ := ending(name); e.IsDir() || kind != ".parquet" && kind != ".pq" {
			return nil, usage.Errorf("%s: a folder of Parquet parts holds nothing else, and there is %s in it", path, name)
		}
		out = append(out, name)
	}
	if len(out) == 0 {
		return nil, usage.Errorf("%s: it is a folder without .parquet files", path)
	}
	for i := range out[:len(out)-1] { // sorted by letters
		a, x, ok := numbered(strings.TrimSuffix(out[i], filepath.Ext(out[i])))
		b, y, too := numbered(strings.TrimSuffix(out[i+1], filepath.Ext(out[i+1])))
		if ok && too && a == b && x > y {
			return nil, usage.Errorf("%s: %s comes before %s by letters and after it by numbers, so the order of the rows cannot be told; name the parts with leading zeros", path, out[i], out[i+1])
		}
	}
	for i := range out {
		out[i] = filepath.Join(path, out[i])
	}
	return out, nil
}

func (m *Matrix) openFolder(part string, o Options) error {
	paths, err := parts(m.path)
	if err != nil {
		return err
	}
	return m.openParquet(paths, part, o)
}

// openParquet reads the columns of one file, or of the parts that follow each other in several, into a
// spool: a page cannot be entered in the middle.
func (m *Matrix) openParquet(paths []string, part string, o Options) (err error) {
	s := &spool{narrow: true}
	m.closers = append(m.closers, s.close)
	for i, path := range paths {
		if err := m.addParquet(s, path, i == 0, part, o); err != nil {
			return err
		}
	}
	return s.serve(m)
}

// addParquet appends the rows of a file to the spool; the first one decides on columns.
func (m *Matrix) addParquet(s *spool, path string, first bool, part string, o Options) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return usage.Errorf("%s: cannot be read: %w", path, err)
	}
	defer f.Close()
	defer guard(path, &err)
	p, err := openPart(f, path)
	if err != nil {
		return err
	}
	s.most += spoolBase + spoolGrowth*p.file.Size()
	cols := make([]column, len(p.leaves))
	for i := range p.leaves {
		if first && (part == "" || strings.ContainsAny(part, "*?")) {
			if err := p.sample(&p.leaves[i]); err != nil {
				return usage.Errorf("%s: column %s: %w", path, p.leaves[i].name, err)
			}
		}
		cols[i] = p.leaves[i].column
	}
	var used []leaf
	if first {
		at, left, err := choose(cols, part, o)
		if err != nil {
			return usage.Errorf("%s: %w", m.Name, err)
		}
		m.LeftOut = left
		for _, i := range at {
			used = append(used, p.leaves[i])
			m.Columns = append(m.Columns, p.leaves[i].name)
			s.narrow = s.narrow && p.leaves[i].single
		}
	} else {
		for _, name := range m.Columns {
			at := slices.IndexFunc(p.leaves, func(l leaf) bool { return l.name == name && l.kind.number() })
			if at < 0 {
				return usage.Errorf("%s: there is no column %s of numbers, which the first part has", path, name)
			}
			if used = append(used, p.leaves[at]); s.narrow && !p.leaves[at].single {
				return usage.Errorf("%s: column %s is of another type than in the first part", path, name)
			}
		}
	}
	if used[0].list {
		return m.addLists(s, p, used[0])
	}
	m.K = len(used)
	return m.addScalars(s, p, used)
}

func openPart(f *os.File, path string) (*parquetPart, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := checkFooter(f, info.Size()); err != nil {
		return nil, usage.Errorf("%s: %w", path, err)
	}
	file, err := parquet.OpenFile(f, info.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		head := make([]byte, foreign.Head)
		n, _ := f.ReadAt(head, 0)
		if what := foreign.What(head[:n]); what != "" && !bytes.HasPrefix(head, []byte("PAR1")) {
			return nil, usage.Errorf("%s: not a valid Parquet file; it is %s", path, what)
		}
		return nil, usage.Errorf("%s: not a valid Parquet file: %w", path, err)
	}
	p := &parquetPart{path: path, f: f, file: file}
	index := p.pandasIndex()
	// The library leaves some logical types out of its columns' types, float16 among them.
	var logical []any
	for _, e := range file.Metadata().Schema {
		if e.Type.Valid {
			logical = append(logical, logicalType(e))
		}
	}
	var walk func(c *parquet.Column, frozen string, grouped bool)
	walk = func(c *parquet.Column, frozen string, grouped bool) {
		name := frozen
		if name == "" {
			name = strings.Join(c.Path(), ".")
			if c.Repeated() { // the list is called as what is around its group
				if up := c.Path(); len(up) > 1 && slices.Contains([]string{"list", "bag", "array"}, up[len(up)-1]) {
					name = strings.Join(up[:len(up)-1], ".")
				}
				frozen = name
			}
		}
		if !c.Leaf() {
			for _, sub := range c.Columns() {
				// In a map, and in a list of structs, every row has an order of its own.
				switch inList := frozen != "" || c.Repeated(); {
				case inList && len(c.Columns()) > 1:
					walk(sub, name+"."+sub.Name(), true)
				default:
					walk(sub, frozen, grouped)
				}
			}
			return
		}
		l := leaf{column: column{name: name, list: c.MaxRepetitionLevel() > 0}, at: c.Index()}
		l.classify(c, logical[c.Index()])
		if c.MaxRepetitionLevel() > 1 || grouped {
			l.kind = nested
		}
		if slices.Contains(index, name) || strings.HasPrefix(name, "__index_level_") {
			l.index = true
		}
		p.leaves = append(p.leaves, l)
	}
	walk(file.Root(), "", false)
	return p, nil
}

// logicalType is what a column's numbers mean; older writers said it by a converted type alone.
func logicalType(e format.SchemaElement) any {
	if e.LogicalType.Value != nil || !e.ConvertedType.Valid {
		return e.LogicalType.Value
	}
	switch c := e.ConvertedType.V; c {
	case deprecated.UTF8, deprecated.Enum, deprecated.Json, deprecated.Bson:
		return &format.StringType{}
	case deprecated.Decimal:
		return &format.DecimalType{Scale: e.Scale.V, Precision: e.Precision.V}
	case deprecated.Date, deprecated.Interval:
		return &format.DateType{}
	case deprecated.TimeMillis, deprecated.TimeMicros:
		return &format.TimeType{}
	case deprecated.TimestampMillis, deprecated.TimestampMicros:
		return &format.TimestampType{}
	case deprecated.Uint8, deprecated.Uint16, deprecated.Uint32, deprecated.Uint64:
		return &format.IntType{}
	}
	return nil
}

// pandasIndex lists the columns that pandas says are the index.
func (p *parquetPart) pandasIndex() (names []string) {
	text, ok := p.file.Lookup("pandas")
	if !ok {
		return nil
	}
	var meta struct {
		Index []any `json:"index_columns"`
	}
	if strictjson.Unmarshal([]byte(text), &meta) != nil {
		return nil
	}
	for _, v := range meta.Index {
		if name, ok := v.(string); ok { // others are ranges, which have no column
			names = append(names, name)
		}
	}
	return names
}

// classify finds what a column holds by its logical type and how to read it.
func (l *leaf) classify(c *parquet.Column, logical any) {
	number := func(sampled bool, decode func(v parquet.Value) (float64, error)) {
		l.kind, l.sampled, l.decode = whole, sampled, decode
	}
	exact := func(f func(v parquet.Value) float64) func(v parquet.Value) (float64, error) {
		return func(v parquet.Value) (float64, error) { return f(v), nil }
	}
	switch t := logical.(type) {
	case *format.DateType, *format.TimeType, *format.TimestampType:
		l.kind = dates
		return
	case *format.DecimalType:
		if t.Scale < 0 || t.Scale > 1000 {
			l.kind = nested
			return
		}
		number(t.Scale > 0, func(v parquet.Value) (float64, error) { return decimal(v, int(t.Scale)) })
		return
	case *format.Float16Type:
		if c.Type().Kind() != parquet.FixedLenByteArray || c.Type().Length() != 2 {
			l.kind = nested
			return
		}
		l.single = true
		number(true, func(v parquet.Value) (float64, error) {
			var x [1]float64
			err := npy.Float64s(x[:], "f2", v.ByteArray())
			return x[0], err
		})
		return
	case *format.IntType:
		if !t.IsSigned {
			if c.Type().Kind() == parquet.Int32 {
				number(false, exact(func(v parquet.Value) float64 { return float64(uint32(v.Int32())) }))
			} else {
				number(false, exact(func(v parquet.Value) float64 { return float64(uint64(v.Int64())) }))
			}
			return
		}
	case *format.StringType, *format.EnumType, *format.JsonType, *format.BsonType, *format.UUIDType, *format.NullType:
		l.kind = text
		return
	case nil:
	default:
		l.kind = nested
		return
	}
	switch c.Type().Kind() {
	case parquet.Boolean:
		number(false, exact(func(v parquet.Value) float64 {
			if v.Boolean() {
				return 1
			}
			return 0
		}))
	case parquet.Int32:
		number(false, exact(func(v parquet.Value) float64 { return float64(v.Int32()) }))
	case parquet.Int64:
		number(false, exact(func(v parquet.Value) float64 { return float64(v.Int64()) }))
	case parquet.Float:
		l.single = true
		number(true, exact(func(v parquet.Value) float64 { return float64(v.Float()) }))
	case parquet.Double:
		number(true, exact(parquet.Value.Double))
	case parquet.Int96:
		l.kind = dates
	default:
		l.kind = text
	}
}

// decimal is unscaled·10^−scale to the nearest float64.
func decimal(v parquet.Value, scale int) (float64, error) {
	var n *big.Int
	switch v.Kind() {
	case parquet.Int32:
		n = big.NewInt(int64(v.Int32()))
	case parquet.Int64:
		n = big.NewInt(v.Int64())
	default: // two's complement, the highest byte first
		b := v.ByteArray()
		n = new(big.Int).SetBytes(b)
		if len(b) > 0 && b[0]&0x80 != 0 {
			n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
		}
	}
	if n.IsInt64() && scale <= 22 {
		if i := n.Int64(); i > -1<<53 && i < 1<<53 { // both are exact, so the quotient is rounded once
			return float64(i) / math.Pow10(scale), nil
		}
	}
	return strconv.ParseFloat(n.String()+"e-"+strconv.Itoa(scale), 64)
}

// chunk reads the values of a column in one group of rows.
type chunk struct {
	pages  parquet.Pages
	page   parquet.Page
	values parquet.ValueReader
	buf    [128]parquet.Value
	have   []parquet.Value
}

func (p *parquetPart) chunk(group, at int) (*chunk, error) {
	groups := p.file.Metadata().RowGroups
	if group < len(groups) && at < len(groups[group].Columns) {
		meta := &groups[group].Columns[at].MetaData
		if err := checkPages(p.f, p.file.Size(), meta); err != nil {
			return nil, err
		}
		switch codec := meta.Codec; codec {
		case format.Uncompressed, format.Snappy, format.Gzip, format.Brotli, format.Zstd:
		default: // parquet-go 0.32 reads LZ4 wrongly without an error
			return nil, usage.Errorf(`it is compressed by %s, which is not read; write it again, as by python -c 'import pyarrow.parquet as p; p.write_table(p.read_table(%q), "zstd.parquet", compression="zstd")'`, codec, p.path)
		}
	}
	chunks := p.file.RowGroups()[group].ColumnChunks()
	if at >= len(chunks) {
		return nil, errors.New("it is missing in a group of rows")
	}
	return &chunk{pages: chunks[at].Pages()}, nil
}

func (c *chunk) close() {
	if c.page != nil {
		parquet.Release(c.page)
	}
	c.pages.Close()
}

// next returns the next value, which is good until the one after it; io.EOF at the end.
func (c *chunk) next() (parquet.Value, error) {
	for len(c.have) == 0 {
		if c.values == nil {
			page, err := c.pages.ReadPage()
			if err != nil {
				return parquet.Value{}, err
			}
			c.page, c.values = page, page.Values()
		}
		n, err := c.values.ReadValues(c.buf[:])
		c.have = c.buf[:n]
		if err != nil && err != io.EOF {
			return parquet.Value{}, err
		}
		if n == 0 || err == io.EOF {
			if n == 0 && err == nil {
				return parquet.Value{}, io.ErrNoProgress
			}
			c.values = nil
			if n == 0 {
				parquet.Release(c.page)
				c.page = nil
			} else {
				// The values may lie in the page, which the collector then keeps.
				c.page = nil
			}
		}
	}
	v := c.have[0]
	c.have = c.have[1:]
	return v, nil
}

// sample finds whether a column of a type with fractions has any in its first rows, and what text looks like.
func (p *parquetPart) sample(l *leaf) error {
	if l.kind == text && !l.list {
		return p.firsts(l, 20, func(v parquet.Value) (bool, error) {
			if v.Kind() != parquet.ByteArray {
				return false, nil
			}
			field := v.ByteArray()
			_, err := dialect{}.number(field)
			found := dialect{}.disguised(field) || err == nil && bytes.IndexByte(field, '.') >= 0
			if l.example == "" || found {
				l.example, l.number = string(field), found
			}
			return !found, nil
		})
	}
	if !l.sampled || l.list || l.kind == nested {
		if l.list && l.sampled && l.kind != nested {
			l.kind = fractions
		}
		return nil
	}
	var values []float64
	err := p.firsts(l, sampleRows, func(v parquet.Value) (bool, error) {
		x, err := l.decode(v)
		values = append(values, x)
		return true, err
	})
	if err != nil {
		return err
	}
	l.kind = kindOf(values, false, true)
	return nil
}

// firsts gives the first values of a column that are none missing to f, until it has enough.
func (p *parquetPart) firsts(l *leaf, most int, f func(v parquet.Value) (more bool, err error)) error {
	for g, group := range p.file.RowGroups() {
		if group.NumRows() == 0 {
			continue
		}
		c, err := p.chunk(g, l.at)
		if err != nil {
			return err
		}
		defer c.close()
		for more := true; more && most > 0; {
			v, err := c.next()
			if err == io.EOF {
				break
			}
			if err == nil && !v.IsNull() {
				most--
				more, err = f(v)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	return nil
}

// addScalars appends rows of a number a column, a block of rows at a time.
func (m *Matrix) addScalars(s *spool, p *parquetPart, used []leaf) error {
	k := len(used)
	block := max(1, 1<<15/k)
	values := make([]float64, block*k)
	for g, group := range p.file.RowGroups() {
		n := int(group.NumRows())
		if n == 0 {
			continue
		}
		chunks := make([]*chunk, k)
		defer func() {
			for _, c := range chunks {
				if c != nil {
					c.close()
				}
			}
		}()
		for j, l := range used {
			var err error
			if chunks[j], err = p.chunk(g, l.at); err != nil {
				return usage.Errorf("%s: column %s: %w", p.path, l.name, err)
			}
		}
		for first := 0; first < n; first += block {
			rows := min(block, n-first)
			for j, l := range used {
				for i := range rows {
					x, err := number(chunks[j], l)
					if err != nil {
						return usage.Errorf("%s: row %d, column %s: %w", p.path, m.N+i, l.name, err)
					}
					values[i*k+j] = x
				}
			}
			if err := s.add(values[:rows*k]); err != nil {
				return err
			}
			m.N += rows
		}
	}
	return nil
}

func number(c *chunk, l leaf) (float64, error) {
	v, err := c.next()
	switch {
	case err == io.EOF:
		return 0, io.ErrUnexpectedEOF
	case err != nil:
		return 0, err
	case v.IsNull():
		return 0, errMissing
	}
	return l.decode(v)
}

// addLists appends rows that a list each makes up.
func (m *Matrix) addLists(s *spool, p *parquetPart, l leaf) error {
	var row []float64
	flush := func() error {
		if m.K == 0 {
			m.K = len(row)
		}
		if len(row) != m.K {
			return usage.Errorf("%s: row %d has %d numbers, the first has %d", p.path, m.N, len(row), m.K)
		}
		m.N++
		return s.add(row)
	}
	for g, group := range p.file.RowGroups() {
		if group.NumRows() == 0 {
			continue
		}
		c, err := p.chunk(g, l.at)
		if err != nil {
			return usage.Errorf("%s: column %s: %w", p.path, l.name, err)
		}
		defer c.close()
		row = row[:0]
		for at := 0; ; at++ {
			v, err := c.next()
			if err == io.EOF {
				break
			}
			if at > 0 && err == nil && v.RepetitionLevel() == 0 {
				if err := flush(); err != nil {
					return err
				}
				row = row[:0]
			}
			x := 0.0
			if err == nil && v.IsNull() {
				err = errors.New("a value, or the whole list, is missing")
			}
			if err == nil {
				x, err = l.decode(v)
			}
			if err != nil {
				return usage.Errorf("%s: row %d, column %s: %w", p.path, m.N, l.name, err)
			}
			row = append(row, x)
			if len(row) > maxList {
				return usage.Errorf("%s: row %d, column %s: the list has more than %d numbers", p.path, m.N, l.name, maxList)
			}
		}
		if len(row) > 0 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxList bounds a list: no rows of labels are longer.
const maxList = 1 << 22
