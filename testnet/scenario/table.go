package scenario

import (
	"fmt"
	"time"

	"github.com/openclaw/edge/testnet/judge"
)

// Figures is a play in one line: times in seconds, the worst of each.
type Figures struct {
	Converged float64 `json:"converged"` // after the slowest heal; 0: nothing was healed; -1: not seen
	Shown     float64 `json:"shown"`     // after a cut, on the last node whose refill fell under a fifth; 0: no refill fell
	Back      float64 `json:"back"`      // after a heal, until all refill was back over four fifths; as Converged
	Settled   float64 `json:"settled"`   // after the load, when all laws held
	Growth    float64 `json:"growth"`    // of all sides' refill clocks together, against real time, in the worst five seconds
}

func (r *Result) figures() Figures {
	f := Figures{Settled: r.Settled.Seconds(), Growth: r.Figures.Growth.Share}
	for _, c := range r.Figures.Cuts {
		if c.All != judge.Never {
			f.Shown = max(f.Shown, c.All.Seconds())
		}
	}
	for _, h := range r.Figures.Heals {
		f.Converged, f.Back = slower(f.Converged, h.Agreed), slower(f.Back, h.Back)
	}
	return f
}

// slower is the longer of two times; what was not seen, -1, is longer than any.
func slower(seconds float64, d time.Duration) float64 {
	if seconds < 0 || d == judge.Never {
		return -1
	}
	return max(seconds, d.Seconds())
}

// Tile is a figure with its name.
type Tile struct{ Name, Value string }

// Tiles is the figures that stand on top of the report; those of a limit are the first one's:
// scenarios begin with the one that their story is about.
func (r *Report) Tiles() []Tile {
	l, f := r.Limits[0], r.Figures
	return []Tile{
		{"admitted/ideal, " + l.Limit, fmt.Sprintf("%.3f", l.Ratio)},
		{"worst 5 s, tokens of " + l.Limit, l.window()},
		{"cut shown by the metric", since(f.Shown)},
		{"refill back after heal", since(f.Back)},
		{"converged after heal", since(f.Converged)},
		{"all sides' refill, worst 5 s", fmt.Sprintf("%.2f %%", 100*f.Growth)},
	}
}

// TableHead and Row make a Markdown table of reports.
const TableHead = "| scenario | admitted/ideal | worst 5 s, tokens | cut shown by the metric after | refill back after | converged after |\n" +
	"| --- | ---: | ---: | ---: | ---: | ---: |\n"

// Row is the report's line of the table.
func (r *Report) Row() string {
	l, f := r.Limits[0], r.Figures
	return fmt.Sprintf("| %s | %.3f | %s | %s | %s | %s |\n", r.Name, l.Ratio, l.window(), since(f.Shown), since(f.Back), since(f.Converged))
}

// window is the longest worst window.
func (l *LimitReport) window() string {
	if len(l.Windows) == 0 {
		return "–"
	}
	w := l.Windows[len(l.Windows)-1]
	return fmt.Sprintf("+%d −%d", w.Above, w.Below)
}

// since writes how long something took, that may not have happened.
func since(seconds float64) string {
	switch {
	case seconds < 0:
		return "not seen"
	case seconds == 0:
		return "–"
	}
	return fmt.Sprintf("%.2f s", seconds)
}
