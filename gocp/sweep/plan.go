package sweep

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/gocp/gocp/gocp/usage"
)

// mostPoints is how many points a plan can have: a digit too many is noticed.
const mostPoints = 1 << 14

// A Field is a flag and its value as a plan writes it.
type Field struct {
	Name, Value string
	Line        int
}

func (f Field) String() string { return f.Name + "=" + f.Value }

// A Point is one audit.
type Point struct {
	Fields []Field // of the base, then its own
	Own    int     // where its own begin
}

// Name is what tells it from others of its plan, "base" for the only one.
func (p Point) Name() string {
	if p.Own == len(p.Fields) {
		return "base"
	}
	var words []string
	for _, f := range p.Fields[p.Own:] {
		words = append(words, f.String())
	}
	return strings.Join(words, ",")
}

// Line is where in the plan it stands.
func (p Point) Line() int {
	switch {
	case p.Own < len(p.Fields):
		return p.Fields[p.Own].Line
	case len(p.Fields) > 0:
		return p.Fields[0].Line
	}
	return 1
}

// A Plan is a sweep.
type Plan struct {
	File   string
	Axes   []string // names of the fields in which points differ, in the plan's order
	Points []Point
}

// Read reads a plan whose fields are among known. What is wrong with it is a usage error that names the
// line.
func Read(file string, known []string) (*Plan, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, usage.Errorf("plan: %w", err)
	}
	return Parse(file, b, known)
}

// Parse is Read of what a file holds.
func Parse(file string, b []byte, known []string) (*Plan, error) {
	p := &parser{file: file, known: known}
	var doc, more yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, p.errorf(1, "the plan is empty")
	} else if err != nil {
		return nil, usage.Errorf("%s: %s", file, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, p.errorf(max(more.Line, 1), "there is a second document; a plan is one")
	}
	return p.plan(doc.Content[0])
}

type parser struct {
	file  string
	known []string
}

func (p *parser) errorf(line int, format string, args ...any) error {
	return usage.Errorf("%s:%d: %s", p.file, line, fmt.Sprintf(format, args...))
}

// pair is an entry of a mapping.
type pair struct {
	key   string
	line  int
	value *yaml.Node
}

// pairs are the entries of a mapping, each key once.
func (p *parser) pairs(n *yaml.Node, what string) ([]pair, error) {
	if n.Kind != yaml.MappingNode {
		return nil, p.errorf(n.Line, "%s is no mapping of names to values", what)
	}
	var out []pair
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode {
			return nil, p.errorf(k.Line, "%s: a name is a word", what)
		}
		for _, o := range out {
			if o.key == k.Value {
				return nil, p.errorf(k.Line, "%s: %s is there twice, first in line %d", what, k.Value, o.line)
			}
		}
		out = append(out, pair{k.Value, k.Line, v})
	}
	return out, nil
}

func (p *parser) plan(root *yaml.Node) (*Plan, error) {
	sections, err := p.pairs(root, "the plan")
	if err != nil {
		return nil, err
	}
	var base []Field
	var axes [][]Field
	var single, exclude [][]Field
	var grid pair
	for _, s := range sections {
		switch s.key {
		case "base":
			base, err = p.fields(s.value, "base")
		case "axes":
			grid = s
			axes, err = p.axes(s.value)
		case "points":
			single, err = p.list(s.value, "points")
		case "exclude":
			exclude, err = p.list(s.value, "exclude")
		default:
			err = p.errorf(s.line, "a plan has no %q; it has base, axes, points and exclude", s.key)
		}
		if err != nil {
			return nil, err
		}
	}
	out := &Plan{File: p.file}
	name := func(f Field) error {
		for _, b := range base {
			if b.Name == f.Name {
				return p.errorf(f.Line, "%s is in the base already, in line %d; take it out there", f.Name, b.Line)
			}
		}
		if !slices.Contains(out.Axes, f.Name) {
			out.Axes = append(out.Axes, f.Name)
		}
		return nil
	}
	combinations := [][]Field{{}}
	if axes == nil && single != nil {
		combinations = nil
	}
	for _, axis := range axes {
		if err := name(axis[0]); err != nil {
			return nil, err
		}
		if len(combinations)*len(axis) > mostPoints {
			return nil, p.errorf(grid.line, "the axes have more than %d combinations", mostPoints)
		}
		var next [][]Field
		for _, c := range combinations {
			for _, f := range axis {
				next = append(next, append(slices.Clone(c), f))
			}
		}
		combinations = next
	}
	for _, own := range single {
		for _, f := range own {
			if err := name(f); err != nil {
				return nil, err
			}
		}
	}
	used := make([]bool, len(exclude))
	seen := map[string]int{}
	for _, own := range append(combinations, single...) {
		if excluded(own, exclude, used) {
			continue
		}
		pt := Point{Fields: append(slices.Clone(base), own...), Own: len(base)}
		sorted := strings.Split(pt.Name(), ",")
		slices.Sort(sorted)
		key := strings.Join(sorted, ",")
		if line, again := seen[key]; again {
			return nil, p.errorf(pt.Line(), "the point %s is there twice, first by line %d", pt.Name(), line)
		}
		seen[key] = pt.Line()
		out.Points = append(out.Points, pt)
	}
	for i, u := range used {
		if !u {
			return nil, p.errorf(exclude[i][0].Line, "exclude: no point is like that")
		}
	}
	if len(out.Points) == 0 {
		return nil, p.errorf(1, "no point is left")
	}
	return out, nil
}

// excluded tells whether a point has all the fields of one of the exclusions.
func excluded(own []Field, exclude [][]Field, used []bool) (out bool) {
	for i, x := range exclude {
		all := true
		for _, f := range x {
			all = all && slices.ContainsFunc(own, func(g Field) bool { return g.Name == f.Name && g.Value == f.Value })
		}
		used[i] = used[i] || all
		out = out || all
	}
	return out
}

// fields reads a mapping of fields to single values.
func (p *parser) fields(n *yaml.Node, what string) ([]Field, error) {
	list, err := p.pairs(n, what)
	if err != nil {
		return nil, err
	}
	var out []Field
	for _, e := range list {
		if err := p.knows(e); err != nil {
			return nil, err
		}
		v, err := p.value(e.key, e.value)
		if err != nil {
			return nil, err
		}
		out = append(out, Field{e.key, v, e.line})
	}
	return out, nil
}

func (p *parser) knows(e pair) error {
	if !slices.Contains(p.known, e.key) {
		return p.errorf(e.line, "there is no field %q; known: %s", e.key, strings.Join(p.known, ", "))
	}
	return nil
}

// value is a scalar as it was written; a list of scalars is one value with commas.
func (p *parser) value(field string, n *yaml.Node) (string, error) {
	switch {
	case n.Kind == yaml.ScalarNode && n.Value != "" && n.ShortTag() != "!!null":
		return n.Value, nil
	case n.Kind == yaml.SequenceNode && len(n.Content) > 0:
		var words []string
		for _, c := range n.Content {
			if c.Kind != yaml.ScalarNode {
				return "", p.errorf(c.Line, "%s: this is no single value", field)
			}
			v, err := p.value(field, c)
			if err != nil {
				return "", err
			}
			words = append(words, v)
		}
		return strings.Join(words, ","), nil
	case n.Kind == yaml.AliasNode:
		return "", p.errorf(n.Line, "%s: plans have no aliases; write the value", field)
	case n.Kind == yaml.MappingNode:
		return "", p.errorf(n.Line, "%s: this is no single value", field)
	}
	return "", p.errorf(n.Line, "%s has no value", field)
}

// axes reads a mapping of fields to lists of values.
func (p *parser) axes(n *yaml.Node) ([][]Field, error) {
	list, err := p.pairs(n, "axes")
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, p.errorf(n.Line, "axes has no field")
	}
	var out [][]Field
	for _, e := range list {
		if err := p.knows(e); err != nil {
			return nil, err
		}
		if e.value.Kind != yaml.SequenceNode {
			return nil, p.errorf(e.line, "the axis %s is no list, such as [0.01, 0.02]", e.key)
		}
		if len(e.value.Content) == 0 {
			return nil, p.errorf(e.line, "the axis %s is empty", e.key)
		}
		var axis []Field
		for _, c := range e.value.Content {
			v, err := p.value(e.key, c)
			if err != nil {
				return nil, err
			}
			if slices.ContainsFunc(axis, func(f Field) bool { return f.Value == v }) {
				return nil, p.errorf(c.Line, "the axis %s has %s twice", e.key, v)
			}
			axis = append(axis, Field{e.key, v, c.Line})
		}
		out = append(out, axis)
	}
	return out, nil
}

// list reads a list of mappings of fields to single values.
func (p *parser) list(n *yaml.Node, what string) ([][]Field, error) {
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		return nil, p.errorf(n.Line, "%s is no list such as [{budget: 0.01, score: aps}]", what)
	}
	var out [][]Field
	for _, c := range n.Content {
		f, err := p.fields(c, what)
		if err != nil {
			return nil, err
		}
		if len(f) == 0 {
			return nil, p.errorf(c.Line, "%s: an entry has no field", what)
		}
		out = append(out, f)
	}
	return out, nil
}
