package scale

import (
	"fmt"
	"math"
	"strings"
)

// SVG draws the points over the number of nodes, on logarithmic axes: what one node sends, and how
// late the nodes know of each other's takes. Dashed is what the fit says, up to 1,000 nodes. It has
// its own colours for dark pages.
func SVG(points []Point) string {
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" font-size="12" role="img" aria-label="frames, bytes and delay over the number of nodes">
<style>
.p { fill: #fff } .t { fill: #1b1f24 } .d { fill: #5b6470 } .g { stroke: #d9dee4 } .a, .b { fill: none; stroke-width: 2 }
.a { stroke: #0067b1 } .b { stroke: #b45309 } circle.a, text.a { fill: #0067b1 } circle.b, text.b { fill: #b45309 } text.a, text.b { stroke: none } .e { stroke-dasharray: 5 4; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) { .p { fill: #14181d } .t { fill: #e6e9ed } .d { fill: #9aa4b0 } .g { stroke: #313943 }
.a { stroke: #5ab0f2 } .b { stroke: #f0a452 } circle.a, text.a { fill: #5ab0f2 } circle.b, text.b { fill: #f0a452 } }
</style>
<rect class="p" width="100%%" height="100%%"/>
`, 3*panelWidth, panelHeight)
	fit, fitted := NewFit(points)
	frames := curve{class: "a", of: func(p *Point) float64 { return p.Frames }, fit: Frames}
	bytes := curve{class: "a", of: func(p *Point) float64 { return p.Wire / 1e3 }}
	if fitted {
		bytes.fit = func(n float64) float64 { return fit.Bytes(n) / 1e3 }
	}
	agreed := curve{class: "a", name: "all agree", of: func(p *Point) float64 { return p.Agreed.Seconds() }}
	lag := curve{class: "b", name: "lag at worst", of: func(p *Point) float64 { return p.Lag.Seconds() }}
	for i, p := range []panel{
		{title: "frames a second, sent by each node", low: 1, curves: []curve{frames}},
		{title: "kB a second, sent by each node", low: 1, curves: []curve{bytes}},
		{title: "seconds until the others know", low: 0.1, high: 10, curves: []curve{lag, agreed}},
	} {
		p.left = float64(i * panelWidth)
		p.draw(&s, points)
	}
	s.WriteString("</svg>\n")
	return s.String()
}

// A panel's place in the picture, in its units.
const (
	panelWidth  = 320
	panelHeight = 280
	marginLeft  = 52
	marginRight = 24
	marginTop   = 34
	marginFoot  = 40
	mostNodes   = 1000.0 // right end of the axis
	leastNodes  = 2.0
)

type panel struct {
	title     string
	low, high float64 // ends of the axis: powers of ten; high is at least
	left      float64
	curves    []curve
}

type curve struct {
	class, name string
	of          func(*Point) float64
	fit         func(n float64) float64 // nil: none
}

func (p *panel) draw(s *strings.Builder, points []Point) {
	p.high = max(p.high, 10*p.low)
	for _, c := range p.curves {
		for i := range points {
			p.reach(c.of(&points[i]))
		}
		if c.fit != nil {
			p.reach(c.fit(mostNodes))
		}
	}
	fmt.Fprintf(s, `<text class="t" x="%.0f" y="20" font-weight="600">%s</text>`+"\n", p.left+marginLeft, p.title)
	for _, n := range []float64{3, 10, 30, 100, 300, 1000} {
		fmt.Fprintf(s, `<path class="g" d="M%.1f %dV%d"/><text class="d" x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			p.x(n), marginTop, panelHeight-marginFoot, p.x(n), panelHeight-marginFoot+17, thousands(n))
	}
	fmt.Fprintf(s, `<text class="d" x="%.0f" y="%d" text-anchor="middle">nodes</text>`+"\n", p.left+(marginLeft+panelWidth-marginRight)/2, panelHeight-6)
	for v := p.low; v < p.high*1.01; v *= 10 {
		fmt.Fprintf(s, `<path class="g" d="M%.0f %.1fH%.0f"/><text class="d" x="%.0f" y="%.1f" text-anchor="end">%s</text>`+"\n",
			p.left+marginLeft, p.y(v), p.left+panelWidth-marginRight, p.left+marginLeft-6, p.y(v)+4, thousands(v))
	}
	for i := range p.curves {
		p.trace(s, &p.curves[i], points, i)
	}
}

// reach makes the axis long enough for v.
func (p *panel) reach(v float64) {
	for p.high < v {
		p.high *= 10
	}
}

func (p *panel) x(n float64) float64 {
	return p.left + marginLeft + (panelWidth-marginLeft-marginRight)*math.Log(n/leastNodes)/math.Log(mostNodes/leastNodes)
}

func (p *panel) y(v float64) float64 {
	return marginTop + (panelHeight-marginTop-marginFoot)*(1-math.Log(max(v, p.low)/p.low)/math.Log(p.high/p.low))
}

// trace draws a curve: what was measured as dots with a line, the fit dashed; and its name.
func (p *panel) trace(s *strings.Builder, c *curve, points []Point, i int) {
	var line, dots strings.Builder
	for k := range points {
		n, v := float64(points[k].Nodes), c.of(&points[k])
		fmt.Fprintf(&line, "%s%.1f %.1f", letter(k), p.x(n), p.y(v))
		fmt.Fprintf(&dots, `<circle class="%s" cx="%.1f" cy="%.1f" r="3.5"><title>%d nodes: %.4g</title></circle>`, c.class, p.x(n), p.y(v), points[k].Nodes, v)
	}
	if c.fit != nil {
		var dashed strings.Builder
		for k, n := 0, leastNodes; n <= mostNodes*1.001; k, n = k+1, n*1.1234 { // 53 steps to 1,000
			fmt.Fprintf(&dashed, "%s%.1f %.1f", letter(k), p.x(n), p.y(c.fit(n)))
		}
		fmt.Fprintf(s, `<path class="%s e" d="%s"/>`+"\n", c.class, dashed.String())
		fmt.Fprintf(s, `<text class="%s" x="%.1f" y="%.1f" text-anchor="end">%s</text>`+"\n", c.class, p.x(mostNodes)-4, p.y(c.fit(mostNodes))+38, thousands(c.fit(mostNodes)))
	} else {
		fmt.Fprintf(s, `<path class="%s" d="%s"/>`+"\n", c.class, line.String())
	}
	s.WriteString(dots.String() + "\n")
	if c.name != "" {
		fmt.Fprintf(s, `<text class="%s" x="%.0f" y="%d">● %s</text>`+"\n", c.class, p.left+marginLeft+10, marginTop+18+17*i, c.name)
	}
}

// letter is the path's command for its k-th point.
func letter(k int) string {
	if k == 0 {
		return "M"
	}
	return "L"
}

// thousands writes a number in two digits or whole, with commas.
func thousands(v float64) string {
	if v < 10 {
		return fmt.Sprintf("%.2g", v)
	}
	text := fmt.Sprintf("%.0f", v)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
