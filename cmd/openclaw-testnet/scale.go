package main

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"

	"github.com/openclaw/edge/testnet/scale"
	"github.com/openclaw/edge/testnet/scenario"
)

// scaleCmd measures clusters of several sizes in virtual time.
type scaleCmd struct {
	Nodes  []int         `default:"3,10,30" help:"How many nodes, in three regions (default ${default}); 100 take a quarter of an hour of two processors, or more."`
	For    time.Duration `default:"1m" help:"How long the load lasts, in the cluster's time (default ${default})."`
	Report string        `placeholder:"FILE.svg" help:"Where a plot goes; none without it."`
	Seed   uint64        `default:"1" help:"Of the load and the links (default ${default})."`
}

// What can be asked for. A roster has room for 1,024, but no machine for so many nodes.
const (
	mostScale  = 200
	leastScale = time.Second
	mostFor    = time.Hour
	sayFor     = 1000 // nodes that a full mesh is worked out for
)

// Run measures. It does not return: package testing ends the process.
func (c *scaleCmd) Run() error {
	if err := c.check(); err != nil {
		return err
	}
	out := os.Stdout
	inVirtualTime(func(bubble func(func())) error { return c.measure(out, bubble) })
	return nil
}

func (c *scaleCmd) check() error {
	for _, n := range c.Nodes {
		if n < 2 || n > mostScale {
			return fmt.Errorf("--nodes=%d: choose sizes from 2 to %d, as in --nodes=3,10,30", n, mostScale)
		}
	}
	if c.For < leastScale || c.For > mostFor {
		return fmt.Errorf("--for=%v: choose %v to %v", c.For, leastScale, mostFor)
	}
	return nil
}

// measure measures each size in a bubble of its own, and tells of it once it is done.
func (c *scaleCmd) measure(out io.Writer, bubble func(func())) error {
	var points []scale.Point
	rows := scale.TableHead
	for _, n := range c.Nodes {
		bar := newBar(os.Stderr, c.For)
		var p scale.Point
		var err error
		bubble(func() {
			p, err = scale.Run(scale.Config{Nodes: n, Lasts: c.For, Seed: c.Seed, Watch: func(at time.Duration) {
				bar.watch(scenario.Progress{At: at})
			}})
		})
		bar.close()
		if err != nil {
			return err
		}
		points = append(points, p)
		fmt.Fprint(out, rows, p.Row())
		rows = ""
		debug.FreeOSMemory() // what one size leaves is no cost of the next
	}
	fmt.Fprint(out, "\n", scale.Says(points, sayFor))
	if c.Report == "" {
		return nil
	}
	return os.WriteFile(c.Report, []byte(scale.SVG(points)), 0o644)
}
