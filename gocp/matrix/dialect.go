package matrix

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"unsafe"
)

// dialect is how a text file separates its fields and writes its numbers.
type dialect struct {
	sep   byte // blank stands for runs of blanks and tabs
	comma bool // decimal commas
}

const blank = ' '

// separators are tried in this order where several serve equally well.
var separators = []byte{'\t', ';', '|', ',', blank}

func (d dialect) String() string {
	s := map[byte]string{'\t': "tabs", ';': "semicolons", '|': "bars", ',': "commas", blank: "blanks"}[d.sep]
	if d.comma {
		s += ", with decimal commas"
	}
	return s
}

// cut takes the first field of a line; more tells whether another follows.
func (d dialect) cut(line []byte) (field, rest []byte, more bool) {
	line = bytes.TrimLeft(line, " ")
	if d.sep == blank {
		line = bytes.TrimLeft(line, " \t")
	}
	end := 0
	if len(line) > 0 && line[0] == '"' {
		for end = 1; end < len(line); end++ {
			if line[end] != '"' {
				continue
			}
			if end+1 < len(line) && line[end+1] == '"' {
				end++
				continue
			}
			end++
			break
		}
	}
	var at int
	if d.sep == blank {
		at = bytes.IndexAny(line[end:], " \t")
	} else {
		at = bytes.IndexByte(line[end:], d.sep)
	}
	if at < 0 {
		return line, nil, false
	}
	field, rest = line[:end+at], line[end+at+1:]
	if d.sep == blank {
		rest = bytes.TrimLeft(rest, " \t")
		return field, rest, len(rest) > 0
	}
	return field, rest, true
}

// fields is the number of fields of a line, −1 if a quote is left open.
func (d dialect) fields(line []byte) int {
	if bytes.IndexByte(line, '"') < 0 && d.sep != blank {
		return bytes.Count(line, []byte{d.sep}) + 1
	}
	if bytes.Count(line, []byte{'"'})%2 != 0 {
		return -1
	}
	n := 0
	for more := true; more; n++ {
		_, line, more = d.cut(line)
	}
	return n
}

func (d dialect) split(line []byte) (out [][]byte) {
	for more := true; more; {
		var f []byte
		f, line, more = d.cut(line)
		out = append(out, f)
	}
	return out
}

// trim takes the end of a line off, and blanks around it.
func (d dialect) trim(line []byte) []byte {
	if d.sep == '\t' {
		return bytes.Trim(line, " \r\n")
	}
	return bytes.TrimSpace(line)
}

var (
	errMissing = errors.New("a value is missing")
	errText    = errors.New("it is no number")
)

// number reads a field. True and False are 1 and 0.
func (d dialect) number(field []byte) (float64, error) {
	b := bytes.TrimSpace(field)
	if len(b) >= 2 && b[0] == '"' && b[len(b)-1] == '"' {
		b = bytes.TrimSpace(b[1 : len(b)-1])
	}
	if d.comma {
		if bytes.IndexByte(b, '.') >= 0 {
			return 0, errText
		}
		b = bytes.Replace(b, []byte{','}, []byte{'.'}, 1)
	}
	if len(b) > 0 && len(b) < 400 && (b[0] <= '9' || b[0] == 'i' || b[0] == 'I' || b[0] == 'n' || b[0] == 'N') {
		v, err := strconv.ParseFloat(unsafe.String(&b[0], len(b)), 64)
		if bytes.IndexByte(b, '_') >= 0 || bytes.IndexByte(b, 'x') >= 0 || bytes.IndexByte(b, 'X') >= 0 {
			return 0, errText // Go's 1_000 and 0x1p3
		}
		if err == nil || errors.Is(err, strconv.ErrRange) && !math.IsInf(v, 0) {
			return v, nil
		}
	}
	switch strings.ToLower(string(b)) {
	case "true":
		return 1, nil
	case "false":
		return 0, nil
	case "", "na", "n/a", "<na>", "null", "none", "#n/a":
		return 0, errMissing
	}
	return 0, errText
}

// disguised tells whether a field is a number with something around it, as a bracket, a sign of percent or
// the name of a type: [0.5, 12.5%, tensor(3), "1,234.5".
func (d dialect) disguised(field []byte) bool {
	s := strings.TrimSpace(unquote(field))
	inner, named := s, false
	if at := strings.IndexByte(s, '('); at > 0 && strings.Trim(s[:at], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.") == "" {
		inner, _, _ = strings.Cut(s[at+1:], ", ")
		named = true
	}
	inner = strings.Replace(strings.Trim(inner, "[](){}<>'“”‘’%$€£,;=* "), "−", "-", 1)
	if before, after, _ := strings.Cut(inner, "."); !d.comma && thousands(before) {
		inner = strings.ReplaceAll(before, ",", "") + "." + after
	}
	if inner == s || !strings.ContainsAny(inner, "0123456789") || strings.TrimLeft(inner, "+-.0123456789eE,") != "" {
		return false
	}
	if _, err := d.number([]byte(inner)); err != nil {
		return false
	}
	return named || strings.ContainsAny(inner, ".") || d.comma && strings.ContainsAny(inner, ",") || strings.ContainsAny(s, "'%$€£")
}

// thousands tells whether digits stand in groups of three.
func thousands(s string) bool {
	groups := strings.Split(strings.TrimLeft(s, "+-"), ",")
	for i, g := range groups {
		if strings.Trim(g, "0123456789") != "" || i > 0 && len(g) != 3 || i == 0 && (len(g) < 1 || len(g) > 3) {
			return false
		}
	}
	return len(groups) > 1
}

// plain tells whether a line can be cut at every separator, into numbers that simple reads.
func (d dialect) plain(line []byte) bool {
	return d.sep != blank && !d.comma && bytes.IndexByte(line, '"') < 0 && bytes.IndexByte(line, '_') < 0 &&
		bytes.IndexByte(line, 'x') < 0 && bytes.IndexByte(line, 'X') < 0
}

// simple is number for a field of a plain line that holds nothing else.
func simple(field []byte) (float64, error) {
	if len(field) == 0 {
		return 0, errMissing
	}
	return strconv.ParseFloat(unsafe.String(&field[0], len(field)), 64)
}

// unquote is the text of a field.
func unquote(b []byte) string {
	b = bytes.TrimSpace(b)
	if len(b) >= 2 && b[0] == '"' && b[len(b)-1] == '"' {
		return strings.ReplaceAll(string(b[1:len(b)-1]), `""`, `"`)
	}
	return string(b)
}

// sniff finds the dialect in which lines, of which the first may hold names, have as many fields each and
// the most numbers.
func sniff(lines [][]byte) dialect {
	best, most, least := dialect{sep: ','}, -1, 0
	if len(lines) > 20 {
		lines = lines[:20]
	}
	for _, sep := range separators {
		d := dialect{sep: sep}
		counts := map[int]int{}
		for _, line := range lines {
			counts[d.fields(d.trim(line))]++
		}
		if sep != ',' { // a comma inside fields can only be a decimal one
			points, commas := 0, 0
			for _, line := range lines[min(1, len(lines)-1):] {
				for _, f := range d.split(d.trim(line)) {
					point, comma := bytes.IndexByte(f, '.') >= 0, bytes.IndexByte(f, ',') >= 0
					if _, err := d.number(f); point && (comma || err == nil) { // no name of a file
						points++
					}
					if _, err := (dialect{comma: true}).number(f); comma && err == nil {
						commas++
					}
				}
			}
			d.comma = commas > 0 && points == 0
		}
		numbers, other := 0, 0
		for _, line := range lines {
			for _, f := range d.split(d.trim(line)) {
				if _, err := d.number(f); err == nil {
					numbers++
				} else {
					other++
				}
			}
		}
		// Lines of unlike lengths speak against a separator; R's line of names is one field shorter.
		if len(counts) > 1 && !(len(counts) == 2 && counts[d.fields(d.trim(lines[0]))] == 1 && sep != ',') {
			numbers /= 2
		}
		if numbers > most || numbers == most && other < least {
			best, most, least = d, numbers, other
		}
	}
	return best
}

// integer tells whether a number is written without point and exponent.
func integer(b []byte) bool {
	text := strings.TrimSpace(unquote(b))
	text = strings.TrimPrefix(text, "-")
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool { return r < '0' || r > '9' })
}

// counts tells whether fields are 0, 1, 2 …
func (d dialect) counts(fields [][]byte) bool {
	return len(fields) > 0 && !slices.ContainsFunc(fields, func(b []byte) bool { _, err := d.number(b); return err != nil }) &&
		func() bool {
			for i, b := range fields {
				if v, _ := d.number(b); v != float64(i) {
					return false
				}
			}
			return true
		}()
}
