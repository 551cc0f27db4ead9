package scale

import (
	"cmp"
	"fmt"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/node"
	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/local"
	"github.com/openclaw/edge/testnet/sim"
	"github.com/openclaw/edge/testnet/world"
)

// Round is how often a node sends every other one a frame, in its region and to others alike.
const Round = 200 * time.Millisecond

// Config says what to measure. Nodes is required.
type Config struct {
	Nodes int
	Lasts time.Duration          // of the load, as measured; 0: a minute
	Seed  uint64                 // of load and links
	Watch func(at time.Duration) // told now and then how far it is; nil: nobody
}

// The load, of the whole cluster together.
const (
	hotPerSecond  = 100 // takes of one key, twice what it is granted
	manyPerSecond = 200
	manyKeys      = 1000
	hotKey        = "everybody"
)

const (
	step       = 5 * time.Millisecond // how finely time passes for the load
	warmUp     = 5 * time.Second      // under load, before anything is counted: the nodes learn the keys
	foundsIn   = 2 * time.Minute
	agreeIn    = time.Minute
	lookEvery  = 250 * time.Millisecond
	tick       = 50 * time.Millisecond // of the refill daemon: 2.5 tokens of the hot key
	seeds      = 3                     // each node joins by
	maxBuckets = 10_000
)

var regions = []string{"eu", "us", "ap"}

// Run measures one cluster. Call it inside a synctest bubble of its own. An error says what is
// wrong with the cluster, and then there are no figures.
func Run(cfg Config) (_ Point, err error) {
	r := &run{cfg: cfg, cluster: sim.New(sim.Config{Seed: cfg.Seed, Limits: limits(), Tune: tune})}
	r.cfg.Lasts = cmp.Or(cfg.Lasts, time.Minute)
	defer func() {
		if closed := r.cluster.Close(); err == nil {
			err = closed
		}
	}()
	return r.measure()
}

type run struct {
	cfg     Config
	cluster *sim.Cluster
	flows   []*world.Flow
	point   Point
}

func limits() []crdt.Definition {
	limit := func(name string, capacity int64, rate string) crdt.Definition {
		r, err := crdt.ParseRate(rate)
		if err != nil {
			panic(err) // a constant of this function
		}
		return crdt.Definition{Name: name, Capacity: crdt.Milli(capacity) * crdt.Token, Rate: r, MaxBuckets: maxBuckets}
	}
	return []crdt.Definition{limit("hot", 100, "50"), limit("many", 100, "10")}
}

func tune(c *node.Config) error {
	c.RoundRegion, c.RoundWAN, c.Tick = Round, Round, tick
	c.Join = c.Join[:min(seeds, len(c.Join))]
	return nil
}

// measure founds the cluster, lets the load pass, and waits until all nodes agree.
func (r *run) measure() (Point, error) {
	r.populate()
	if err := r.cluster.Found(foundsIn); err != nil {
		return Point{}, fmt.Errorf("scale: %d nodes: %w", r.cfg.Nodes, err)
	}
	r.flows = []*world.Flow{
		{Limit: "hot", PerSecond: hotPerSecond, Keys: world.Keys{Name: hotKey}},
		{Limit: "many", PerSecond: manyPerSecond, Keys: world.Keys{Name: "user-", N: manyKeys, Zipf: 1.1}},
	}
	for i, f := range r.flows {
		f.Begin(r.cfg.Seed+uint64(i), r.cluster.Now())
	}
	r.load(warmUp)
	r.point.Lag = 0 // new keys' first
	before, err := r.count()
	if err != nil {
		return Point{}, err
	}
	r.load(r.cfg.Lasts)
	after, err := r.count()
	if err != nil {
		return Point{}, err
	}
	r.point.rates(before, after, r.cfg.Nodes, r.cfg.Lasts)
	if r.point.Agreed, err = r.agree(); err != nil {
		return Point{}, err
	}
	hot := judge.Measure(r.cluster.Observed, 0).Limits[0] // "hot" is before "many"
	r.point.Hot = hot.Ratio()
	return r.point, r.cluster.Failed()
}

// populate makes the machines, region by region in turn, and the links between them.
func (r *run) populate() {
	var delays local.Config
	for i := range r.cfg.Nodes {
		r.cluster.AddNamed(fmt.Sprintf("%s-%02d", regions[i%len(regions)], i/len(regions)+1), regions[i%len(regions)])
	}
	for _, a := range r.cluster.Machines {
		for _, b := range r.cluster.Machines {
			r.cluster.Net.Link(a.Addr, b.Addr, delays.Between(a.Region, b.Region))
		}
	}
}
