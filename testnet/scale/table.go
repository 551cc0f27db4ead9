package scale

import (
	"fmt"
	"time"
)

// TableHead begins a Markdown table of Rows.
const TableHead = `| nodes | frames/s | kB/s | streams/s | all agree after | lag at worst | hot key, admitted/ideal | cluster's CPU, s a second | memory, MB |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
`

// Row is the point's line in the table. Frames, bytes and streams are what one node sends.
func (p *Point) Row() string {
	return fmt.Sprintf("| %d | %.0f | %.0f | %.1f | %s | %s | %.3f | %.2f | %.0f |\n", p.Nodes, p.Frames, p.Wire/1e3, p.Streams,
		seconds(p.Agreed), seconds(p.Lag), p.Hot, p.CPU.Seconds(), float64(p.Memory)/1e6)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// Says is what the points say of a size that was not measured; "" if they are too few to say it.
func Says(points []Point, nodes int) string {
	f, ok := NewFit(points)
	if !ok {
		return ""
	}
	n := float64(nodes)
	return fmt.Sprintf("A node of n sends %.0f·n^%.2f bytes a second. A full mesh of %d would send %.0f frames and %.0f MB a second and node.\n",
		f.K, f.X, nodes, Frames(n), f.Bytes(n)/1e6)
}
