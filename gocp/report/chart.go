package report

import (
	"image/color"
	"math"
	"slices"

	xfont "golang.org/x/image/font"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/gocp/gocp/gocp/result"
)

// theme is the colours of figures, safe for the colour-blind. In files they are what is seen; in
// a page each stands for the CSS property of its name (see drawing.html). They lie far enough
// apart to be told by their values alone.
var theme = map[string]color.NRGBA{
	"ink":    {0x1b, 0x1a, 0x18, 0xff},
	"mute":   {0x69, 0x64, 0x5f, 0xff},
	"line":   {0xd6, 0xd3, 0xcf, 0xff},
	"grid":   {0xef, 0xed, 0xea, 0xff},
	"card":   {0xff, 0xff, 0xff, 0xff},
	"attack": {0xcf, 0x2f, 0x5c, 0xff},
	"randun": {0x27, 0x66, 0xcf, 0xff},
	"randga": {0x0b, 0x85, 0x73, 0xff},
	"clean":  {0x83, 0x7e, 0x78, 0xff},
	"benign": {0x2e, 0x30, 0x38, 0xff},
}

// benign stands for the reference models where a condition is drawn.
const benign result.Condition = "benign"

// ink is the colour of a condition; there is one of the two noises that attacks are held against.
func ink(c result.Condition) string {
	if c == result.RandLabel {
		c = result.RandUn
	}
	return string(c)
}

func faded(name string, alpha float64) color.NRGBA {
	c := theme[name]
	c.A = uint8(255 * alpha)
	return c
}

// polygonGlyph is a filled polygon, in units of the radius.
type polygonGlyph []vg.Point

func (g polygonGlyph) DrawGlyph(c *draw.Canvas, sty draw.GlyphStyle, pt vg.Point) {
	corners := make([]vg.Point, len(g))
	for i, q := range g {
		corners[i] = pt.Add(q.Scale(sty.Radius))
	}
	c.FillPolygon(sty.Color, corners)
}

var (
	diamond  = polygonGlyph{{Y: 1.25}, {X: 1.25}, {Y: -1.25}, {X: -1.25}}
	upright  = polygonGlyph{{X: -0.4, Y: -1.35}, {X: 0.4, Y: -1.35}, {X: 0.4, Y: 1.35}, {X: -0.4, Y: 1.35}}
	meanTick = polygonGlyph{{X: -1.25, Y: -1}, {X: 1.25, Y: -1}, {X: 1.25, Y: -6}, {X: -1.25, Y: -6}}
)

// haloed sets a glyph off from what lies below it.
type haloed struct{ draw.GlyphDrawer }

func (h haloed) DrawGlyph(c *draw.Canvas, sty draw.GlyphStyle, pt vg.Point) {
	back := sty
	back.Color, back.Radius = theme["card"], sty.Radius+1.2
	for _, s := range []draw.GlyphStyle{back, sty} {
		c.SetColor(s.Color)
		h.GlyphDrawer.DrawGlyph(c, s, pt)
	}
}

// mark is the symbol of a condition: shape and colour both tell them apart.
func mark(c result.Condition, radius vg.Length) draw.GlyphStyle {
	g := draw.GlyphStyle{Color: theme[ink(c)], Radius: radius, Shape: draw.CircleGlyph{}}
	switch c {
	case result.RandUn, result.RandLabel:
		g.Shape = draw.BoxGlyph{}
	case result.RandGa:
		g.Shape = diamond
	case result.Clean:
		g.Shape = draw.PyramidGlyph{}
	case benign:
		g.Shape = upright
	}
	return g
}

func lettering(name string, size vg.Length, align draw.XAlignment) text.Style {
	return text.Style{Color: theme[name], Font: font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}, XAlign: align, YAlign: draw.YCenter, Handler: hand}
}

func bold(s text.Style) text.Style {
	s.Font.Weight = xfont.WeightBold
	return s
}

func stroke(c color.Color, width vg.Length) draw.LineStyle {
	return draw.LineStyle{Color: c, Width: width}
}

func dashed() draw.LineStyle {
	return draw.LineStyle{Color: theme["mute"], Width: 1, Dashes: []vg.Length{3, 3}}
}

// chart is a plot with the look of the page: quiet axes, no frame, labels where the data are.
type chart struct {
	*plot.Plot
	infinite int // values that were to be drawn and cannot
}

func newChart(axis string) *chart {
	p := plot.New()
	p.BackgroundColor = nil
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.LineStyle, a.Padding, a.Tick.Marker = stroke(theme["line"], 1.2), 0, ticker{}
		a.Tick.LineStyle, a.Tick.Length = stroke(theme["grid"], 1), 4
		for _, s := range []*text.Style{&a.Tick.Label, &a.Label.TextStyle} {
			s.Color, s.Font, s.Handler = theme["mute"], font.Font{Typeface: "Liberation", Variant: "Sans", Size: 12}, hand
		}
		a.Label.Padding = 5
	}
	p.X.Label.Text = axis
	p.Y.Width, p.Y.Tick.Width = 0, 0
	return &chart{Plot: p}
}

// newRows is a chart of n rows, at y = 0, −1, …, over a common axis.
func newRows(n int, axis string) *chart {
	c := newChart(axis)
	c.HideY()
	c.Y.Min, c.Y.Max = 0.5-float64(n), 0.5
	c.Add(&plotter.Grid{Vertical: stroke(theme["grid"], 1)})
	return c
}

// known leaves out, in a list of its own, what is not finite, and counts what is infinite. Not a number
// is what there is no value of.
func (c *chart) known(pts []plotter.XY) []plotter.XY {
	return slices.DeleteFunc(slices.Clone(pts), func(p plotter.XY) bool {
		out := !finite(p.X, p.Y)
		if out && !math.IsNaN(p.X) && !math.IsNaN(p.Y) {
			c.infinite++
		}
		return out
	})
}

// tell says below the axis how many values could not be drawn.
func (c *chart) tell() {
	if c.infinite > 0 {
		c.X.Label.Text += " (" + plural(c.infinite, "infinite value") + " left out)"
	}
}

// line adds a line through those points that are finite.
func (c *chart) line(s draw.LineStyle, pts ...plotter.XY) {
	if pts = c.known(pts); len(pts) > 0 {
		c.Add(&plotter.Line{XYs: pts, LineStyle: s})
	}
}

// marks adds a glyph at those points that are finite.
func (c *chart) marks(g draw.GlyphStyle, pts ...plotter.XY) {
	if pts = c.known(pts); len(pts) > 0 {
		c.Add(&plotter.Scatter{XYs: pts, GlyphStyle: g})
	}
}

// interval adds an estimate.
func (c *chart) interval(m interval, radius vg.Length, y float64) {
	if finite(m.at, m.low, m.high) && m.low < m.high {
		c.Add(&plotter.XErrorBars{XYs: plotter.XYs{{X: m.at, Y: y}}, XErrors: plotter.XErrors{{Low: m.at - m.low, High: m.high - m.at}}, LineStyle: stroke(faded(ink(m.cond), 0.55), radius/2)})
	}
	g := mark(m.cond, radius)
	g.Shape = haloed{g.Shape}
	c.marks(g, plotter.XY{X: m.at, Y: y})
}

// reference adds an upright line over all rows, with its text above.
func (c *chart) reference(x float64, label string) {
	c.line(dashed(), plotter.XY{X: x, Y: c.Y.Min}, plotter.XY{X: x, Y: c.Y.Max})
	above := lettering("mute", 12, draw.XCenter)
	above.YAlign = draw.YBottom
	c.write(x, c.Y.Max, label, above, 0, 4)
}

// band shades an interval of the axis.
func (c *chart) band(low, high float64) {
	if !finite(low, high) {
		return
	}
	c.Add(&plotter.Polygon{XYs: []plotter.XYs{{{X: low, Y: c.Y.Min}, {X: high, Y: c.Y.Min}, {X: high, Y: c.Y.Max}, {X: low, Y: c.Y.Max}}}, Color: faded("randun", 0.09)})
}

// write puts a text beside a point. The plot makes room for it, if its point is in the plot.
func (c *chart) write(x, y float64, s string, style text.Style, dx, dy vg.Length) {
	if s == "" || !finite(x, y) {
		return
	}
	if style.YAlign == draw.YCenter {
		dy += style.Font.Size / 10 // from the middle of the line to the middle of the digits
	}
	c.Add(&plotter.Labels{XYs: plotter.XYs{{X: x, Y: y}}, Labels: []string{s}, TextStyle: []text.Style{style}, Offset: vg.Point{X: dx, Y: dy}})
}

// drawBelow draws the chart below a legend on one line.
func (c *chart) drawBelow(legend []interval, to draw.Canvas) {
	below := draw.Crop(to, 0, 0, 0, -22)
	at := c.DataCanvas(below).Min.X - to.Min.X
	for _, m := range legend {
		l := plot.NewLegend()
		l.TextStyle, l.ThumbnailWidth, l.Top, l.Left, l.XOffs = lettering("mute", 12, draw.XLeft), 12, true, true, at
		l.TextStyle.YAlign = draw.YBottom
		l.Add(conditionName(m.cond), &plotter.Scatter{GlyphStyle: mark(m.cond, 5)})
		l.Draw(to)
		at += l.ThumbnailWidth + l.TextStyle.Width(" "+conditionName(m.cond)) + 20
	}
	c.Draw(below)
}
