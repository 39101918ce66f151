package matrix

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/gocp/gocp/gocp/foreign"
	"github.com/gocp/gocp/gocp/usage"
)

// maxLine bounds a line: a hundred thousand columns of long numbers.
const maxLine = 4 << 20

// textLines is what a text file looks like before anything is made of it.
type textLines struct {
	dialect
	starts []int64 // of every line that holds something, and where the last one ends
	lines  []int   // their numbers in the file, from 1
	sample [][]byte
}

var bom = []byte("\xef\xbb\xbf")

// openText indexes the lines of a file of numbers with separators, with or without a line of names; part
// names columns. Numbers are parsed when they are read.
func (m *Matrix) openText(part string, o Options) error {
	f, size, err := m.file()
	if err != nil {
		return err
	}
	t, err := scan(f, size)
	if err != nil {
		return usage.Errorf("%s: %w", m.Name, err)
	}
	cols, first, err := t.header(o)
	if err != nil {
		return usage.Errorf("%s: %w", m.Name, err)
	}
	used, left, err := choose(cols, part, o)
	if err != nil {
		return usage.Errorf("%s: %w", m.Name, err)
	}
	starts := t.starts[first:]
	m.N, m.K, m.LeftOut = len(starts)-1, len(used), left
	for _, i := range used {
		m.Columns = append(m.Columns, cols[i].name)
	}
	m.About = "separated by " + t.dialect.String()
	if len(cols) == 1 {
		m.About = "text"
	}
	if first == 0 {
		m.Columns = nil
		m.About += ", without a line of names"
	}
	place := make([]int, len(cols)) // of a field in the row, −1 where it is not wanted
	for i := range place {
		place[i] = slices.Index(used, i)
	}
	last := slices.Max(append([]int{-1}, used...))
	sep := []byte{t.sep}
	m.read = func(dst []float64, row int) error {
		rows := len(dst) / m.K
		b := make([]byte, starts[row+rows]-starts[row])
		if _, err := f.ReadAt(b, starts[row]); err != nil && err != io.EOF {
			return err
		}
		for i := range rows {
			line := b[starts[row+i]-starts[row] : starts[row+i+1]-starts[row]]
			if at := bytes.IndexByte(line, '\n'); at >= 0 { // empty lines may follow
				line = line[:at]
			}
			line = t.trim(bytes.TrimPrefix(line, bom))
			plain := t.plain(line)
			for j := 0; j <= last; j++ {
				var field, rest []byte
				if plain {
					field, rest, _ = bytes.Cut(line, sep)
				} else {
					field, rest, _ = t.cut(line)
				}
				line = rest
				if place[j] < 0 {
					continue
				}
				if plain {
					if v, err := simple(field); err == nil {
						dst[i*m.K+place[j]] = v
						continue
					}
				}
				v, err := t.number(field)
				switch {
				case errors.Is(err, errMissing):
					return usage.Errorf("row %d (line %d), column %s: a value is missing", row+i, t.lines[first+row+i], cols[j].name)
				case err != nil:
					return usage.Errorf("row %d (line %d), column %s: %.40q is no number", row+i, t.lines[first+row+i], cols[j].name, unquote(field))
				}
				dst[i*m.K+place[j]] = v
			}
		}
		return nil
	}
	return nil
}

// scan indexes a file's lines, once by the first ones for the dialect, then all of them.
func scan(f *os.File, size int64) (*textLines, error) {
	head := make([]byte, min(size, maxLine))
	if _, err := f.ReadAt(head, 0); err != nil && err != io.EOF {
		return nil, err
	}
	binary := bytes.ContainsFunc(head[:min(len(head), foreign.Head)], func(r rune) bool { return r < '\t' })
	if what := foreign.What(head); what != "" && (binary || head[0] == 'v' || bytes.HasPrefix(bytes.TrimSpace(bytes.TrimPrefix(head, bom)), []byte{'<'})) {
		return nil, fmt.Errorf("it is %s", what)
	}
	if bytes.HasPrefix(head, []byte{0xff, 0xfe}) || bytes.HasPrefix(head, []byte{0xfe, 0xff}) || bytes.IndexByte(head, 0) >= 0 {
		return nil, errors.New("it is no UTF-8 text (UTF-16, as Windows writes it, or no text at all); save it as UTF-8")
	}
	t := new(textLines)
	for rest := bytes.TrimPrefix(head, bom); len(rest) > 0 && len(t.sample) < sampleRows+1; {
		line, after, whole := bytes.Cut(rest, []byte{'\n'})
		rest = after
		if !whole && int64(len(head)) < size && len(t.sample) > 0 {
			break
		}
		line = bytes.TrimRight(line, "\r")
		if bytes.IndexByte(line, '\r') >= 0 {
			return nil, errors.New("its lines end in carriage returns alone; save it with line feeds")
		}
		if len(bytes.TrimSpace(line)) > 0 && !(len(t.sample) == 0 && heading(line)) {
			t.sample = append(t.sample, line)
		}
	}
	if len(t.sample) == 0 {
		return nil, errors.New("there are no rows in it")
	}
	t.dialect = sniff(t.sample)

	r := bufio.NewReaderSize(io.NewSectionReader(f, 0, size), int(min(maxLine, size+1)))
	at, number, columns, empty, short := int64(0), 0, 0, 0, false
	for {
		text, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return nil, fmt.Errorf("line %d is longer than %d bytes", number+1, maxLine)
		}
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("line %d: %w", number+1, err)
		}
		begin := at
		at += int64(len(text))
		number++
		if number == 1 {
			text = bytes.TrimPrefix(text, bom)
		}
		line := t.trim(text)
		switch {
		case len(bytes.TrimSpace(line)) == 0 && (len(line) == 0 || columns < 2):
			if empty == 0 {
				empty = number
			}
		case len(t.lines) == 0 && heading(line):
		default:
			got := t.fields(line)
			switch {
			case got < 0:
				return nil, fmt.Errorf("line %d: a quote is not closed, and cells of several lines are not read; if pandas wrote arrays into cells, write them by numpy.save or to_parquet", number)
			case columns == 0:
				columns = got
			case got == columns+1 && len(t.lines) == 1 && t.nameless():
				short, columns = true, got
			case got != columns:
				return nil, fmt.Errorf("line %d has %d columns separated by %s, the first has %d: %.60q; leave out titles, remarks and totals", number, got, t.dialect, columns, line)
			}
			if columns == 1 && empty > 0 && len(t.lines) > 0 {
				return nil, fmt.Errorf("line %d is empty: a value is missing, or it is one line too many", empty)
			}
			empty = 0
			t.starts, t.lines = append(t.starts, begin), append(t.lines, number)
		}
		if err == io.EOF {
			break
		}
	}
	t.starts = append(t.starts, at)
	if short {
		t.sample[0] = append([]byte{'"', '"', t.sep}, t.sample[0]...)
	}
	return t, nil
}

// heading tells whether a line before all others is none of the table: numpy.savetxt's remarks, and the
// separator that Excel asks for.
func heading(line []byte) bool {
	line = bytes.Trim(line, "\" \r\n")
	return len(line) > 0 && line[0] == '#' || len(line) == 5 && bytes.EqualFold(line[:4], []byte("sep="))
}

// nameless tells whether the first line may be R's, which has no name for those of the rows.
func (t *textLines) nameless() bool {
	first := t.split(t.trim(t.sample[0]))
	return t.counts(first) || !t.allNumbers(first)
}

// header decides whether the first line holds names, and returns the columns and the number of the first
// line with a row.
func (t *textLines) header(o Options) ([]column, int, error) {
	first := t.split(t.trim(t.sample[0]))
	cols := make([]column, len(first))
	for j := range cols {
		cols[j].kind = nothing
	}
	// What stands below the first line.
	words, points, quoted, integers := make([]bool, len(first)), make([]bool, len(first)), false, false
	examples, disguised := make([]string, len(first)), make([]bool, len(first))
	var values = make([][]float64, len(first))
	for _, line := range t.sample[1:] {
		for j, f := range t.split(t.trim(line)) {
			if j >= len(first) {
				break
			}
			v, err := t.number(f)
			switch {
			case errors.Is(err, errText):
				words[j] = true
				if found := t.disguised(f); examples[j] == "" || found && !disguised[j] {
					examples[j], disguised[j] = strings.TrimSpace(unquote(f)), found
				}
			case err == nil:
				values[j] = append(values[j], v)
				quoted = quoted || bytes.IndexByte(f, '"') >= 0
				integers = integers || integer(f)
				points[j] = points[j] || !integer(f)
			}
		}
	}
	for j := range cols {
		cols[j].name = strconv.Itoa(j)
		cols[j].kind = kindOf(values[j], words[j], points[j])
		if cols[j].kind == text {
			cols[j].example, cols[j].number = examples[j], disguised[j]
		}
	}
	named, why := t.named(first, cols, quoted, integers)
	lines := len(t.lines)
	if open := why != "" || o.Header != "" && t.allNumbers(first); open {
		switch {
		case o.Rows > 0 && lines == o.Rows:
			named = false
		case o.Rows > 0 && lines == o.Rows+1:
			named = true
		case o.Header != "":
			named = o.Header == HeaderYes
		default:
			return nil, 0, fmt.Errorf("it cannot be told whether its first line holds names or numbers (%s): say --header yes or --header no", why)
		}
	}
	if !named {
		for j, f := range first { // a row as the others
			v, err := t.number(f)
			if err == nil {
				values[j] = append(values[j], v)
			}
			cols[j].kind = kindOf(values[j], words[j] || errors.Is(err, errText), points[j] || err == nil && !integer(f))
			cols[j].unnamed = true
		}
		return cols, 0, nil
	}
	if lines == 1 {
		return nil, 0, errors.New("there is a line of names but there are no rows")
	}
	for j, f := range first {
		cols[j].name = unquote(f)
	}
	// pandas' index and R's names of rows have no name; pandas calls them so when it reads them again.
	if name := cols[0].name; len(cols) > 1 && (name == "" || name == "Unnamed: 0") && cols[0].kind != fractions {
		cols[0].index = true
		if name == "" {
			cols[0].name = "the first column, which has no name"
		}
	}
	return cols, 1, nil
}

// kindOf tells what the first values of a column make it: words, if some are among them and nothing
// else, and for numbers that could be fractions (they have a point, or a type for it) whole ones only if
// they are more than a few.
func kindOf(values []float64, words, points bool) kind {
	if words && len(values) == 0 {
		return text
	}
	k := nothing
	if points && len(values) < fewRows {
		return fractions
	}
	for _, v := range values {
		switch {
		case math.IsInf(v, 0) || math.IsNaN(v):
		case v != math.Trunc(v):
			return fractions
		case v != 0:
			k = whole
		}
	}
	return k
}

// fewRows of fractions may be whole by chance, where they are written by hand.
const fewRows = 8

func (t *textLines) allNumbers(fields [][]byte) bool {
	return !slices.ContainsFunc(fields, func(b []byte) bool { _, err := t.number(b); return err != nil })
}

// named tells whether a first line holds the names of columns, whose kinds are those of the lines below,
// or why that cannot be told. quoted and integers tell of the numbers below: whether some stand in quotes,
// and whether some are written without a point.
func (t *textLines) named(first [][]byte, below []column, quoted, integers bool) (yes bool, why string) {
	words, numbers, missing, distinct := 0, 0, 0, map[string]bool{}
	ints, inQuotes := true, true
	for j, f := range first {
		_, err := t.number(f)
		switch {
		case errors.Is(err, errMissing):
			missing++
			continue
		case err != nil:
			words++
			if below[j].kind == text {
				continue
			}
			distinct["word"] = true // over numbers
			continue
		}
		numbers++
		distinct[unquote(f)] = true
		ints = ints && integer(f)
		inQuotes = inQuotes && bytes.IndexByte(f, '"') >= 0
	}
	fractional := slices.ContainsFunc(below, func(c column) bool { return c.kind == fractions })
	alone := len(t.sample) == 1
	rest := first
	if len(first) > 1 && missing == 1 && len(bytes.TrimSpace(first[0])) == 0 || len(first) > 1 && unquote(first[0]) == "" {
		rest = first[1:]
	}
	switch {
	case distinct["word"]:
		return true, "" // a word over numbers, or over nothing
	case words > 0 && numbers == 0 && missing == 0:
		if alone {
			return true, ""
		}
		return true, "" // words over words: no numbers either way
	case words > 0: // over text, beside numbers
		if !ints {
			return false, ""
		}
		if fractional {
			return true, ""
		}
		return false, "it has words and whole numbers, as the others have"
	case numbers == 0:
		return false, "" // nothing but missing values
	case inQuotes && !quoted && !alone:
		return true, ""
	case missing > 0 && len(rest) == len(first)-1 && t.counts(rest) && below[0].kind != fractions && !alone:
		return true, "" // pandas: an index without a name beside columns 0, 1, 2 …
	case missing > 0:
		return false, "" // a row with a gap
	case alone:
		return false, ""
	case t.counts(first) && (fractional || !slices.ContainsFunc(below, func(c column) bool { return c.kind.number() })):
		return true, ""
	case t.counts(first):
		return false, "it counts up from 0"
	case ints && fractional && !integers && len(distinct) == len(first):
		return false, "it has whole numbers, the others have none"
	}
	return false, ""
}
