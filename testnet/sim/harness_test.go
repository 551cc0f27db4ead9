package sim_test

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/node"
	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/memnet"
	"github.com/openclaw/edge/testnet/sim"
)

var logging = flag.Bool("simlog", false, "print the nodes' logs")

// play runs a story in a bubble of virtual time, and closes its cluster.
func play(t *testing.T, cfg sim.Config, story func(t *testing.T, c *sim.Cluster)) {
	t.Helper()
	if *logging {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	synctest.Test(t, func(t *testing.T) {
		c := sim.New(cfg)
		defer func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}()
		story(t, c)
	})
}

// limit is a definition in whole tokens.
func limit(name string, capacity int64, rate string) crdt.Definition {
	r, err := crdt.ParseRate(rate)
	if err != nil {
		panic(err)
	}
	return crdt.Definition{Name: name, Capacity: crdt.Milli(capacity) * crdt.Token, Rate: r, MaxBuckets: 100_000}
}

// whole starts a machine in each region and waits until all see all.
func whole(t *testing.T, c *sim.Cluster, regions ...string) {
	t.Helper()
	for _, r := range regions {
		c.Add(r)
	}
	if err := c.Found(time.Minute); err != nil {
		t.Fatal(err, standing(c))
	}
}

// inside may be set, while hunting a bug, to what a node hides.
var inside = func(*node.Node) string { return "" }

// standing is who sees whom.
func standing(c *sim.Cluster) (lines []string) {
	for _, m := range c.Machines {
		if m.Node == nil {
			lines = append(lines, m.Name+" down")
			continue
		}
		s := m.Node.Cluster()
		_, why := m.Node.Ready()
		lines = append(lines, fmt.Sprintf("%s sees %d, reaches %d, quorum at %.2f, own %.1f s. %s", m.Name, s.ExpectedMembers, s.ReachableMembers,
			s.Policies["quorum"].Speed, s.Policies["quorum"].OwnMS/1000, why+inside(m.Node)))
	}
	return lines
}

func delay(d time.Duration) memnet.Link { return memnet.Link{Delay: d} }

// obey reports every breach, and returns the verdict for its figures.
func obey(t *testing.T, c *sim.Cluster, laws judge.Laws) *judge.Verdict {
	t.Helper()
	v := judge.Of(c.Observed, laws)
	for _, b := range v.Breaches {
		t.Error(b)
	}
	return v
}

// share is what was admitted of what the limit grants in total: capacity + rate · time.
func share(c *sim.Cluster, id judge.ID, since, until time.Duration) float64 {
	var admitted int64
	for _, take := range c.Observed.Takes[id] {
		if take.Admitted && !take.Backup && take.At >= since && take.At <= until {
			admitted += take.Cost
		}
	}
	l := c.Observed.Limits[id.Limit]
	return float64(admitted) / (float64(l.Capacity) + l.Rate*(until-since).Seconds())
}
