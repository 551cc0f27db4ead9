package local

import (
	"fmt"
	"time"

	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/sim"
	"github.com/openclaw/edge/testnet/world"
)

// step is how finely time passes for the load.
const step = 5 * time.Millisecond

// Run lets d pass, under the flows. A failure that nobody asked for ends it early; it is
// returned once.
func (t *Testnet) Run(d time.Duration, flows []*world.Flow) error {
	asked := make([][]*sim.Machine, len(flows))
	for i, f := range flows {
		if _, ok := t.cluster.Observed.Limits[f.Limit]; !ok {
			return fmt.Errorf("local: a flow takes from %q: there is no such limit", f.Limit)
		}
		for _, name := range f.Nodes {
			m, err := t.machine(name)
			if err != nil {
				return err
			}
			asked[i] = append(asked[i], m)
		}
		if !f.Begun() {
			t.flows++
			f.Begin(t.cfg.Seed+t.flows, t.Now())
		}
	}
	for end := t.Now() + d; ; {
		now := t.Now()
		if now >= end {
			return t.cluster.Failed()
		}
		time.Sleep(min(step, end-now))
		t.watch()
		up := t.cluster.Up()
		for i, f := range flows {
			t.offer(f, asked[i], up)
		}
		if err := t.cluster.Failed(); err != nil {
			return err
		}
	}
}

func (t *Testnet) offer(f *world.Flow, asked, up []*sim.Machine) {
	if len(f.Nodes) == 0 {
		asked = up
	}
	for a := range f.Due(t.Now()) {
		if len(asked) > 0 {
			t.cluster.Ask(asked, a.Turn, judge.ID{Limit: f.Limit, Key: a.Key}, a.Cost)
		}
	}
}

// watch notes what the refill clocks show, and whether the nodes agree again after a heal.
func (t *Testnet) watch() {
	t.cluster.Sample()
	if now := t.Now(); now-t.looked >= judge.LookEvery {
		t.looked = now
		t.cluster.Agree()
	}
}
