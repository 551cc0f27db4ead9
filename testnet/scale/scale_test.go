package scale_test

import (
	"encoding/xml"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openclaw/edge/testnet/scale"
)

// What a node sends grows no faster than the number of its peers, but for a constant: under one
// load, whatever the size, each peer gets one frame a round, and all nodes agree within two rounds
// and the slowest link. (So it is while a bucket that all take from fits a packet.)
func TestANodeSendsAFrameToEachPeerAndNoMore(t *testing.T) {
	var points []scale.Point
	for _, n := range []int{3, 10} {
		synctest.Test(t, func(t *testing.T) {
			p, err := scale.Run(scale.Config{Nodes: n, Lasts: 5 * time.Second, Seed: 1})
			if err != nil {
				t.Fatal(err)
			}
			points = append(points, p)
		})
	}
	for _, p := range points {
		t.Log(p.Row())
		if ideal := scale.Frames(float64(p.Nodes)); p.Frames < 0.95*ideal || p.Frames > 1.3*ideal {
			t.Errorf("%d nodes: %.1f frames a second and node, want %.0f", p.Nodes, p.Frames, ideal)
		}
		if p.Wire < p.Bytes || p.Bytes < 100*p.Frames {
			t.Errorf("%d nodes: %.0f bytes a second, %.0f of them in %.0f frames", p.Nodes, p.Wire, p.Bytes, p.Frames)
		}
		if late := 2*scale.Round + 120*time.Millisecond; p.Agreed <= 0 || p.Agreed > late {
			t.Errorf("%d nodes agree after %v, want %v at most", p.Nodes, p.Agreed, late)
		}
		if p.Lag <= 0 || p.Lag > time.Second || p.Hot < 0.9 || p.Hot > 1.2 || p.Dropped+p.Repairs > 0 || p.Streams > 1 {
			t.Errorf("unwell: %+v", p)
		}
		if p.CPU <= 0 || p.Memory == 0 {
			t.Errorf("%d nodes cost %v and %d bytes", p.Nodes, p.CPU, p.Memory)
		}
	}
	if of, peers := points[1].Wire/points[0].Wire, 9.0/2; of > 1.5*peers {
		t.Errorf("with %.1f times the peers a node sends %.1f times as much", peers, of)
	}
}

// points is a cluster that obeys k·n^x.
func points(k, x float64, sizes ...int) (list []scale.Point) {
	for _, n := range sizes {
		list = append(list, scale.Point{Nodes: n, Frames: scale.Frames(float64(n)), Wire: k * math.Pow(float64(n), x), Agreed: time.Second, Lag: time.Second})
	}
	return list
}

func TestTheFitFindsThePower(t *testing.T) {
	f, ok := scale.NewFit(points(250, 1.7, 3, 10, 30, 100))
	if want := 250 * math.Pow(1000, 1.7); !ok || math.Abs(f.X-1.7) > 1e-9 || math.Abs(f.Bytes(1000)/want-1) > 1e-9 {
		t.Errorf("250·n^1.7 is taken for %.3f·n^%.3f", f.K, f.X)
	}
	if says := scale.Says(points(250, 1.7, 3, 100), 1000); !strings.Contains(says, "250·n^1.70 bytes") || !strings.Contains(says, "4995 frames and 31 MB") {
		t.Error(says)
	}
	if _, ok := scale.NewFit(points(250, 1.7, 10)); ok || scale.Says(points(250, 1.7, 10, 10), 1000) != "" {
		t.Error("one size is no line")
	}
}

// The picture is well-formed, small, and nothing of it lies outside.
func TestThePlotStaysWithinItsFrame(t *testing.T) {
	svg := scale.SVG(points(250, 1.7, 3, 10, 30, 100))
	if len(svg) > 30_000 {
		t.Errorf("%d bytes", len(svg))
	}
	dots := 0
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		e, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		if e.Name.Local == "circle" {
			dots++
		}
		for _, a := range e.Attr {
			if most := map[string]float64{"x": 960, "cx": 960, "y": 280, "cy": 280}[a.Name.Local]; most > 0 {
				if v := number(t, a.Value); v < 0 || v > most {
					t.Errorf("%s %s=%s", e.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
	}
	if dots != 4*4 {
		t.Errorf("%d dots for four sizes and four curves", dots)
	}
}

func number(t *testing.T, s string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
