package matrix

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/gocp/gocp/gocp/usage"
)

// kind is what a column of a table holds, as far as its type and its first rows tell.
type kind int

const (
	fractions kind = iota
	whole          // whole numbers: could be labels, ids or counts
	nothing        // zeros, infinities or missing values alone: could be either
	text
	dates
	nested // lists of lists or of structs, maps and other things
)

func (k kind) String() string {
	return [...]string{"fractions", "whole numbers", "zeros", "text", "dates or times", "nested values"}[k]
}

func (k kind) number() bool { return k <= nothing }

// sampleRows is how many rows tell the kind of a column.
const sampleRows = 1000

// column is one of a table.
type column struct {
	name    string
	kind    kind
	list    bool   // a list of numbers in every row
	index   bool   // numbers the rows, by the file's own word
	example string // of text: a value, best one that is a number with something around it
	number  bool   // the example is such a one
	unnamed bool   // its name is its place
}

// asides are names that no label's column of logits has.
var asides = []string{"label", "labels", "target", "targets", "y", "y_true", "y_test", "y_pred", "true_label", "ground_truth", "gt", "truth",
	"pred", "preds", "prediction", "predictions", "predicted", "predicted_label", "pred_label", "class", "class_id", "id", "idx", "index",
	"sample", "sample_id", "image_id", "img_id", "row", "row_id", "fold", "group", "split", "epoch", "step", "batch", "seed", "time",
	"timestamp", "date", "loss", "nll", "confidence", "conf", "score", "max_prob", "max_logit", "msp", "entropy", "uncertainty", "energy",
	"margin", "temperature", "weight", "sample_weight"}

// choose returns the numbers of the columns that are meant by part, of those that there are, and the
// names of those that were left out of it.
func choose(cols []column, part string, o Options) (used []int, left []string, err error) {
	if part != "" {
		return selected(cols, part)
	}
	for i, c := range cols {
		if c.index || !c.kind.number() {
			left = append(left, c.name)
		} else {
			used = append(used, i)
		}
	}
	if err := disguised(cols, o.One && len(used) == 1); err != nil {
		return nil, nil, err
	}
	if len(used) < 2 {
		if len(used) == 0 {
			also := ""
			if o.One {
				also = "; labels are whole numbers, the places of their columns from 0"
			}
			return nil, nil, usage.Errorf("there is no column of numbers; there are %s%s", kinds(cols, nil), also)
		}
		return used, left, nil
	}
	if o.One {
		return nil, nil, usage.Errorf("it has %d columns of numbers, and one is wanted; say which, as FILE:NAME: %s", len(used), kinds(cols, used))
	}
	if err := alike(cols, used); err != nil {
		return nil, nil, err
	}
	return used, left, nil
}

// disguised refuses columns that would be left out though they are numbers, in text or by their names;
// settled tells that one column of numbers is all that is wanted.
func disguised(cols []column, settled bool) error {
	const say = "write it as numbers, or say which columns are wanted, as FILE:A,B,C or FILE:PREFIX*"
	if settled {
		return nil
	}
	for _, c := range cols {
		if c.kind == text && c.number {
			return usage.Errorf("column %s holds text that may be numbers, such as %.40q; %s", c.name, c.example, say)
		}
	}
	for i, c := range cols {
		prefix, n, counts := numbered(c.name)
		if c.kind.number() || c.index || !counts || c.unnamed {
			continue
		}
		for j, d := range cols {
			if p, m, ok := numbered(d.name); ok && p == prefix && (j < i && m == n-1 || j > i && m == n+1) && d.kind.number() {
				return usage.Errorf("column %s holds %s and %s %s; %s", c.name, c.kind, d.name, d.kind, say)
			}
		}
	}
	return nil
}

// alike refuses columns that nobody chose one by one and of which some may be no label's.
func alike(cols []column, used []int) error {
	const say = "say which are wanted, as FILE:A,B,C or FILE:PREFIX* (FILE:* for all)"
	count, seen := map[kind]int{}, map[string]bool{}
	for _, i := range used {
		c := cols[i]
		count[c.kind]++
		switch {
		case c.list && len(used) > 1:
			return usage.Errorf("column %s holds lists, and there are others of numbers; say which is wanted, as FILE:%s: %s", c.name, c.name, kinds(cols, used))
		case seen[c.name]:
			return usage.Errorf("two columns are called %q: if there are several lines of names, leave one; if not, %s: %s", c.name, say, kinds(cols, used))
		}
		seen[c.name] = true
	}
	if count[fractions] > 0 && count[whole] > 0 {
		return usage.Errorf("its columns are of two kinds, so some may be labels or numbers of samples; %s: %s", say, kinds(cols, used))
	}
	for _, i := range used {
		if len(used) > 1 && slices.Contains(asides, strings.ToLower(cols[i].name[strings.LastIndexByte(cols[i].name, '.')+1:])) {
			return usage.Errorf("column %s may be something else than the others; %s: %s", cols[i].name, say, kinds(cols, used))
		}
	}
	if !cols[used[0]].unnamed {
		if err := families(cols, used); err != nil {
			return err
		}
	}
	return inOrder(cols, used)
}

// families refuses columns whose names tell that they are several things: two that count, one that counts
// beside others, one that counts with a gap, or the same names twice with something before or behind.
func families(cols []column, used []int) error {
	const say = "which may be different things; say which are wanted, as FILE:A,B,C or FILE:PREFIX* (FILE:* for all)"
	type family struct {
		names   []string
		numbers []int
	}
	by := map[string]*family{}
	var counting []*family
	var others, all []string
	for _, i := range used {
		name := cols[i].name
		all = append(all, name)
		prefix, n, ok := numbered(name)
		if !ok {
			others = append(others, name)
			continue
		}
		f := by[prefix]
		if f == nil {
			f = new(family)
			by[prefix], counting = f, append(counting, f)
		}
		f.names, f.numbers = append(f.names, name), append(f.numbers, n)
	}
	counting = slices.DeleteFunc(counting, func(f *family) bool {
		if len(f.names) < 2 {
			others = append(others, f.names...)
		}
		return len(f.names) < 2
	})
	rising := func(f *family) bool { // as labels do
		return f.numbers[0] <= 1 && slices.IsSorted(f.numbers)
	}
	switch {
	case len(counting) > 1 && rising(counting[0]) && rising(counting[1]):
		return usage.Errorf("its columns count twice, %s and %s, %s", enumerate(counting[0].names), enumerate(counting[1].names), say)
	case len(counting) == 1 && len(others) > 0 && rising(counting[0]):
		return usage.Errorf("there are columns that count, %s, and %s beside them, %s", enumerate(counting[0].names), enumerate(others), say)
	case len(counting) == 1 && rising(counting[0]):
		for i, n := range counting[0].numbers {
			if from := counting[0].numbers[0]; n != from+i {
				return usage.Errorf("its columns count up from %s but %d is missing before %s, and the place of a column is its label; add it, or name the columns that are wanted, as FILE:A,B,C (FILE:* for all)",
					counting[0].names[0], from+i, counting[0].names[i])
			}
		}
	case len(counting) == 0:
		if a, b := twice(all); a != "" {
			return usage.Errorf("its columns are %s, with %q and %q at the same words, %s", enumerate(all), a, b, say)
		}
	}
	return nil
}

// twice finds two words that names have before or behind the same rests: cat_logit, dog_logit, cat_prob,
// dog_prob.
func twice(names []string) (a, b string) {
	const seps = "_. -/:"
	for _, cut := range []func(s string) (word, rest string){
		func(s string) (string, string) {
			i := strings.IndexAny(s, seps)
			return s[:max(i, 0)], s[max(i, 0):]
		},
		func(s string) (string, string) {
			i := strings.LastIndexAny(s, seps)
			if i < 0 {
				return "", s
			}
			return s[i+1:], s[:i+1]
		},
	} {
		rests := map[string][]string{}
		var words []string
		for _, name := range names {
			word, rest := cut(name)
			if word == "" || rest == "" {
				words = nil
				break
			}
			if rests[word] == nil {
				words = append(words, word)
			}
			rests[word] = append(rests[word], rest)
		}
		if len(words) < 2 || len(words) == len(names) {
			continue
		}
		if !slices.ContainsFunc(words, func(w string) bool { return !slices.Equal(rests[w], rests[words[0]]) }) {
			return words[0], words[1]
		}
	}
	return "", ""
}

// selected finds the columns of a list of names and patterns.
func selected(cols []column, part string) (used []int, left []string, err error) {
	taken := make([]bool, len(cols))
	take := func(i int) error {
		if !cols[i].kind.number() {
			return usage.Errorf("column %s holds %s, not numbers", cols[i].name, cols[i].kind)
		}
		if taken[i] {
			return usage.Errorf("column %s is asked for twice", cols[i].name)
		}
		taken[i] = true
		used = append(used, i)
		return nil
	}
	items := []string{part}
	if !slices.ContainsFunc(cols, func(c column) bool { return c.name == part }) {
		items = names(part)
	}
	patterns := false
	for _, item := range items {
		var found []int
		for i, c := range cols {
			if c.name == item {
				found = append(found, i)
			}
		}
		switch {
		case len(found) > 1:
			return nil, nil, usage.Errorf("%d columns are called %q", len(found), item)
		case len(found) == 1:
			if err := take(found[0]); err != nil {
				return nil, nil, err
			}
			continue
		}
		for i, c := range cols {
			if strings.HasPrefix(c.name, item+".") { // the fields of a struct
				found = append(found, i)
				patterns = true
			} else if strings.ContainsAny(item, "*?") && c.kind.number() && !c.index && match(item, c.name) {
				found = append(found, i)
				patterns = true
			}
		}
		if len(found) == 0 {
			return nil, nil, usage.Errorf("there is no column %q of numbers; there are %s", item, kinds(cols, nil))
		}
		for _, i := range found {
			if err := take(i); err != nil {
				return nil, nil, err
			}
		}
	}
	for _, i := range used {
		if cols[i].list && len(used) > 1 {
			return nil, nil, usage.Errorf("column %s holds lists, which come alone", cols[i].name)
		}
	}
	switch {
	case part == "*":
		err = inOrder(cols, used)
	case patterns:
		err = alike(cols, used)
	}
	return used, nil, err
}

// inOrder refuses columns whose names count, but not upwards: the columns' places are the labels.
func inOrder(cols []column, used []int) error {
	if len(used) < 3 {
		return nil
	}
	prefix, last, ok := numbered(cols[used[0]].name)
	falls := ""
	for _, i := range used[1:] {
		p, n, counts := numbered(cols[i].name)
		if !ok || !counts || p != prefix {
			return nil
		}
		if n < last {
			falls = cols[i].name
		}
		last = n
	}
	if falls == "" {
		return nil
	}
	var list []string
	for _, i := range used {
		list = append(list, cols[i].name)
	}
	return usage.Errorf("its columns do not count upwards (%s comes late), and the place of a column is its label; name them in their order, as FILE:A,B,C: %s", falls, enumerate(list))
}

// kinds lists columns with what they hold, the used ones or all.
func kinds(cols []column, used []int) string {
	by := map[string][]string{}
	var order []string
	for i, c := range cols {
		if used != nil && !slices.Contains(used, i) {
			continue
		}
		what := c.kind.String()
		switch {
		case c.index:
			what = "an index"
		case c.list && c.kind.number():
			what = "lists of numbers"
		}
		if by[what] == nil {
			order = append(order, what)
		}
		name := c.name
		if c.kind == text && c.example != "" && used == nil {
			name = fmt.Sprintf("%s (such as %.40q)", name, c.example)
		}
		by[what] = append(by[what], name)
	}
	var out []string
	for _, what := range order {
		out = append(out, fmt.Sprintf("%s in %s", what, enumerate(by[what])))
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, "; ")
}

// names cuts a list at its commas; a name with commas of its own stands in double quotes.
func names(list string) []string {
	d := dialect{sep: ','}
	var out []string
	for more := true; more; {
		var f []byte
		var rest []byte
		f, rest, more = d.cut([]byte(list))
		out = append(out, unquote(f))
		list = string(rest)
	}
	return out
}

// match tells whether a name is of a pattern, in which * stands for any letters and ? for one.
func match(pattern, name string) bool {
	star, from := -1, 0 // the last *, and where what it stands for ends
	p, n := 0, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, n
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == name[n]):
			p++
			n++
		case star >= 0:
			from++
			p, n = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// numbered splits a name that ends in a number, but for what closes it: logit_3, [,3], ('logit', '3').
func numbered(name string) (prefix string, n int, ok bool) {
	end := len(strings.TrimRight(name, "'\")]}>"))
	at := end
	for at > 0 && name[at-1] >= '0' && name[at-1] <= '9' {
		at--
	}
	n, err := strconv.Atoi(name[at:end])
	return name[:at], n, err == nil
}
