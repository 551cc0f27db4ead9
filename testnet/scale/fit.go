package scale

import "math"

// Frames is how many frames a node of n sends in a second if each peer gets one a round, as a full
// mesh wants it.
func Frames(n float64) float64 { return (n - 1) / Round.Seconds() }

// Fit is what a node of n sends in a second, K·n^X bytes: a straight line on logarithmic axes. X is 1
// if the frames are as long in every cluster, 2 if each says something of every node.
type Fit struct{ K, X float64 }

// Bytes is what a node of n sends in a second.
func (f Fit) Bytes(n float64) float64 { return f.K * math.Pow(n, f.X) }

// NewFit fits Point.Wire by least squares of the logarithms. It takes two sizes at least: ok tells
// whether there were as many.
func NewFit(points []Point) (f Fit, ok bool) {
	var x, y, xx, xy, k float64
	for _, p := range points {
		u, v := math.Log(float64(p.Nodes)), math.Log(p.Wire)
		x, y, xx, xy, k = x+u, y+v, xx+u*u, xy+u*v, k+1
	}
	if spread := k*xx - x*x; spread > 1e-9 {
		f.X = (k*xy - x*y) / spread
		f.K = math.Exp((y - f.X*x) / k)
		return f, true
	}
	return f, false
}
