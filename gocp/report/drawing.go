package report

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"regexp"
	"strings"

	"golang.org/x/image/font/sfnt"
	"golang.org/x/image/math/fixed"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgpdf"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/gocp/gocp/gocp/result"
	"github.com/gocp/gocp/gocp/usage"
)

// Widths of drawings, in points: half a page and a whole page.
const (
	half = 520
	full = 1064
)

// drawing is a figure that can be rendered in several ways.
type drawing struct {
	name  string // of its file
	label string // for those who cannot see it
	w, h  vg.Length
	paint func(draw.Canvas)
}

// hand measures texts by Liberation Sans. It tells the canvas where a text is held, in the
// variant of the font: an SVG is read with other fonts, in which the text is as long as it is.
var hand = anchored{text.Plain{Fonts: font.DefaultCache}}

type anchored struct{ text.Plain }

func (h anchored) Draw(c vg.Canvas, s string, sty text.Style, pt vg.Point) {
	switch sty.XAlign {
	case draw.XCenter:
		c = held{c, "middle"}
	case draw.XRight:
		c = held{c, "end"}
	}
	h.Plain.Draw(c, s, sty, pt)
}

// Box leaves room for fonts that run wider.
func (h anchored) Box(s string, f font.Font) (width, height, depth vg.Length) {
	width, height, depth = h.Plain.Box(s, f)
	return width * 1.12, height, depth
}

type held struct {
	vg.Canvas
	anchor font.Variant
}

func (h held) FillString(f font.Face, pt vg.Point, s string) {
	f.Font.Variant = h.anchor
	h.Canvas.FillString(f, pt, s)
}

type svgCanvas struct{ *vgsvg.Canvas }

func (c svgCanvas) FillString(f font.Face, pt vg.Point, s string) {
	switch f.Font.Variant {
	case "middle":
		pt.X += f.Width(s) / 2
	case "end":
		pt.X += f.Width(s)
	}
	c.Canvas.FillString(f, pt, s)
}

var (
	styles    = regexp.MustCompile(`style="[^"]*"`) // in no text, where quotes are escaped
	fonts     = regexp.MustCompile(`font-family:Liberation Sans;font-variant:(\w+);(font-weight:\w+);font-style:normal`)
	hexColors = regexp.MustCompile(`#[0-9A-F]{6}`)
)

// svg is the drawing with style applied to the style attributes.
func (d drawing) svg(head string, style func(string) string) string {
	c := svgCanvas{vgsvg.New(d.w, d.h)}
	d.paint(draw.New(c))
	var b strings.Builder
	c.WriteTo(&b) // a Builder takes everything
	_, body, _ := strings.Cut(b.String(), "<svg ")
	_, body, _ = strings.Cut(body, ">")
	return fmt.Sprintf(`<svg %sviewBox="0 0 %g %g" role="img" aria-label="%s">`, head, d.w, d.h, template.HTMLEscapeString(d.label)) +
		styles.ReplaceAllStringFunc(body, style)
}

// html is the drawing as a part of a page: fonts are the page's, and colours its CSS properties,
// so that one drawing serves light, dark and print.
func (d drawing) html() template.HTML {
	return template.HTML(d.svg("", func(s string) string {
		s = strings.Replace(fonts.ReplaceAllString(s, "text-anchor:$1;$2"), "text-anchor:normal;", "", 1)
		s = strings.Replace(s, "font-weight:normal;", "", 1)
		return hexColors.ReplaceAllStringFunc(s, property)
	}))
}

// property is the CSS property of a colour as vgsvg writes it, which may be off by one.
func property(hex string) string {
	var c color.NRGBA
	fmt.Sscanf(hex, "#%02X%02X%02X", &c.R, &c.G, &c.B) // the pattern it was found by is this one
	near := func(a, b uint8) bool { return max(a, b)-min(a, b) <= 2 }
	for name, t := range theme {
		if near(c.R, t.R) && near(c.G, t.G) && near(c.B, t.B) {
			return "var(--" + name + ")"
		}
	}
	return hex
}

func (d drawing) svgFile() ([]byte, error) {
	head := fmt.Sprintf(`xmlns="http://www.w3.org/2000/svg" width="%gpt" height="%gpt" `, d.w, d.h)
	return []byte(d.svg(head, func(s string) string {
		return strings.Replace(fonts.ReplaceAllString(s, "font-family:'Liberation Sans',Arial,Helvetica,sans-serif;text-anchor:$1;$2"), "text-anchor:normal;", "", 1)
	})), nil
}

// pngFile has three pixels a point.
func (d drawing) pngFile() ([]byte, error) {
	c := vgimg.NewWith(vgimg.UseWH(d.w, d.h), vgimg.UseDPI(216))
	d.paint(draw.New(c))
	var b bytes.Buffer
	_, err := vgimg.PngCanvas{Canvas: c}.WriteTo(&b)
	return b.Bytes(), err
}

var pdfDates = regexp.MustCompile(`\(D:\d{14}`)

func (d drawing) pdfFile() ([]byte, error) {
	c := outlined{vgpdf.New(d.w, d.h)}
	d.paint(draw.New(c))
	var b bytes.Buffer
	_, err := c.WriteTo(&b)
	return pdfDates.ReplaceAll(b.Bytes(), []byte("(D:20000101000000")), err // the same bytes at any time
}

// outlined draws texts as shapes: vgpdf's fonts hold the letters of code page 1252 alone, and
// figures have Greek ones.
type outlined struct{ *vgpdf.Canvas }

// SetColor undoes the premultiplication that vgpdf forgets, or faded colours were dark ones.
func (o outlined) SetColor(c color.Color) {
	if n, ok := c.(color.NRGBA); ok {
		c = straight(n)
	}
	o.Canvas.SetColor(c)
}

type straight color.NRGBA

func (s straight) RGBA() (r, g, b, a uint32) {
	return uint32(s.R) * 0x101, uint32(s.G) * 0x101, uint32(s.B) * 0x101, uint32(s.A) * 0x101
}

func (o outlined) FillString(f font.Face, pt vg.Point, s string) {
	var (
		buf   sfnt.Buffer
		path  vg.Path
		at    vg.Point
		em    = fixed.Int26_6(f.Face.UnitsPerEm())
		scale = f.Font.Size / vg.Length(em)
	)
	for i, r := range s {
		g, _ := f.Face.GlyphIndex(&buf, r)
		shape, err := f.Face.LoadGlyph(&buf, g, em, nil)
		if err != nil {
			continue
		}
		origin := vg.Point{X: pt.X + f.Width(s[:i]), Y: pt.Y}
		point := func(p fixed.Point26_6) vg.Point {
			return origin.Add(vg.Point{X: vg.Length(p.X) * scale, Y: -vg.Length(p.Y) * scale})
		}
		for _, seg := range shape {
			end := point(seg.Args[0])
			switch seg.Op {
			case sfnt.SegmentOpMoveTo:
				path.Move(end)
			case sfnt.SegmentOpLineTo:
				path.Line(end)
			case sfnt.SegmentOpQuadTo: // as a cubic: fpdf's quadratic curves are none
				q := end
				end = point(seg.Args[1])
				path.CubeTo(at.Add(q.Sub(at).Scale(2./3)), end.Add(q.Sub(end).Scale(2./3)), end)
			case sfnt.SegmentOpCubeTo:
				end = point(seg.Args[2])
				path.CubeTo(point(seg.Args[0]), point(seg.Args[1]), end)
			}
			at = end
		}
	}
	if len(path) > 0 {
		o.Fill(path)
	}
}

// Figure is a figure of a report as a file.
type Figure struct {
	Name    string // with the format's extension
	Content []byte
}

var formats = map[string]func(drawing) ([]byte, error){"pdf": drawing.pdfFile, "png": drawing.pngFile, "svg": drawing.svgFile}

// Formats are the formats of [Figures].
func Formats() []string { return []string{"pdf", "png", "svg"} }

// Figures are the figures of the report on r as files, the same bytes for the same result.
func Figures(r *result.Result, format string) ([]Figure, error) {
	render := formats[format]
	if render == nil {
		return nil, usage.Errorf("%q is no format of figures; the known ones are %s", format, strings.Join(Formats(), ", "))
	}
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	v, err := newView(r, nil)
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	var list []Figure
	for _, d := range v.drawings() {
		content, err := render(d)
		if err != nil {
			return nil, fmt.Errorf("report: %s: %w", d.name, err)
		}
		list = append(list, Figure{d.name + "." + format, content})
	}
	return list, nil
}
