package local

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/node"
	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/memnet"
	"github.com/openclaw/edge/testnet/sim"
	"github.com/openclaw/edge/testnet/world"
)

// Config says what testnet to make. The zero value is six nodes in three regions, in real time,
// with stores.
type Config struct {
	Regions []world.Region              // nil: eu, us and ap with two nodes each
	Delay   map[[2]string]time.Duration // one way, between two regions in either order; absent: see Delay
	Limits  []crdt.Definition           // nil: Limits
	Seed    uint64                      // of loads and links
	Logger  *slog.Logger                // of the nodes; nil: discarded
	Tune    func(c *node.Config)        // has the last word on each start of a node; nil: none

	Virtual  bool // made inside a synctest bubble
	NoStores bool // no KV and no Redis; so it is in virtual time
	Embedded bool // the embedded Redis, also where redis-server is installed
	Endless  bool // for a run without end: Observed keeps running figures in the place of every take
}

// One-way delays: what is usual between three continents, some of a continent's, and a jitter of
// a tenth on both.
const (
	farDelay  = 80 * time.Millisecond
	nearDelay = 2 * time.Millisecond
)

var usualDelays = map[[2]string]time.Duration{
	{"eu", "us"}: 40 * time.Millisecond, {"us", "ap"}: 80 * time.Millisecond, {"eu", "ap"}: 110 * time.Millisecond,
}

// Delay is one way between two regions: 40 ms from eu to us, 80 from us to ap, 110 from eu to ap, 2
// within one, 80 between others.
func (c *Config) delay(a, b string) time.Duration {
	if a == b {
		return nearDelay
	}
	return cmp.Or(c.Delay[[2]string{a, b}], c.Delay[[2]string{b, a}], usualDelays[[2]string{a, b}], usualDelays[[2]string{b, a}], farDelay)
}

// Limits is one of each policy, and one of a single key that everybody asks for.
func Limits() []crdt.Definition {
	limit := func(name string, capacity int64, rate string, p crdt.Policy) crdt.Definition {
		r, err := crdt.ParseRate(rate)
		if err != nil {
			panic(err) // a constant of this function
		}
		return crdt.Definition{Name: name, Capacity: crdt.Milli(capacity) * crdt.Token, Rate: r, Policy: p, MaxBuckets: 100_000}
	}
	user := limit("per-user", 100, "10", crdt.Quorum)
	user.Backup = &crdt.Backup{Capacity: 10 * crdt.Token, Rate: limit("", 1, "1", 0).Rate}
	return []crdt.Definition{user, limit("per-tenant", 500, "100", crdt.Share), limit("per-ip", 300, "30", crdt.Open), limit("global", 1000, "300", crdt.Quorum)}
}

// Testnet is a world.World. One goroutine calls it.
type Testnet struct {
	cfg     Config
	cluster *sim.Cluster
	stores  *stores // nil: none that are shared
	dir     string
	byName  map[string]*sim.Machine
	skew    map[string]time.Duration
	cut     map[[2]string]bool // from and to
	flows   uint64             // begun so far
	looked  time.Duration
	closed  bool

	mu    sync.Mutex // guards what nodes say when they start
	bound map[string]node.Addresses
}

var _ world.World = (*Testnet)(nil)

// wholeWithin is how long the nodes have to become a cluster.
const wholeWithin = 30 * time.Second

// New makes a testnet and waits until all of its nodes are ready and see each other.
func New(cfg Config) (_ *Testnet, err error) {
	if cfg.Regions == nil {
		cfg.Regions = []world.Region{{Name: "eu", Nodes: 2}, {Name: "us", Nodes: 2}, {Name: "ap", Nodes: 2}}
	}
	if cfg.Limits == nil {
		cfg.Limits = Limits()
	}
	if _, err := crdt.NewSet(1, cfg.Limits, nil, crdt.Components{}); err != nil {
		return nil, fmt.Errorf("local: %w", err)
	}
	t := &Testnet{cfg: cfg, byName: make(map[string]*sim.Machine), skew: make(map[string]time.Duration),
		cut: make(map[[2]string]bool), bound: make(map[string]node.Addresses)}
	defer func() {
		if err != nil {
			t.Close()
		}
	}()
	if t.dir, err = os.MkdirTemp("", "openclaw-testnet-*"); err != nil {
		return nil, fmt.Errorf("local: %w", err)
	}
	if !cfg.Virtual && !cfg.NoStores {
		if t.stores, err = openStores(t.dir, cfg.Embedded); err != nil {
			return nil, err
		}
	}
	t.cluster = sim.New(sim.Config{Seed: cfg.Seed, Dir: t.dir, Limits: cfg.Limits, Logger: cfg.Logger, Real: !cfg.Virtual, Tune: t.tune})
	if cfg.Endless {
		t.cluster.Observed.Endless()
	}
	for _, r := range cfg.Regions {
		for i := range r.Nodes {
			m := t.cluster.AddNamed(fmt.Sprintf("%s-%d", r.Name, i+1), r.Name)
			t.byName[m.Name] = m
		}
	}
	if len(t.byName) != len(t.cluster.Machines) || len(t.byName) == 0 {
		return nil, errors.New("local: give each region a name of its own, and at least one of them a node")
	}
	for _, a := range t.cluster.Machines {
		for _, b := range t.cluster.Machines {
			t.cluster.Net.Link(a.Addr, b.Addr, t.usual(a, b))
		}
	}
	if err := t.cluster.Found(wholeWithin); err != nil {
		return nil, errors.Join(err, t.cluster.Failed())
	}
	return t, nil
}

// usual is the link from one machine to another that nothing was done to.
func (t *Testnet) usual(from, to *sim.Machine) memnet.Link {
	return t.cfg.Between(from.Region, to.Region)
}

// virtualTick is coarser than the default: a simulated minute takes a third of the time.
const virtualTick = 20 * time.Millisecond

// tune makes a start's configuration what this testnet needs.
func (t *Testnet) tune(c *node.Config) error {
	c.Cluster, c.WallAhead = "testnet", t.skew[c.Node]
	if t.cfg.Virtual {
		c.Tick = virtualTick
	} else {
		c.HTTP, c.MetricsPort = t.ports(c.Node)
		c.GRPC = "127.0.0.1:0"
		c.Started = func(a node.Addresses) {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.bound[c.Node] = a
		}
	}
	if t.stores != nil {
		if err := t.stores.connect(c); err != nil {
			return err
		}
	}
	if t.cfg.Tune != nil {
		t.cfg.Tune(c)
	}
	return nil
}

// Stores says what plays KV and Redis.
func (t *Testnet) Stores() string {
	if t.stores == nil {
		return "none that are shared: every node keeps its snapshots on its own disk"
	}
	return t.stores.String()
}

// Machines is all of them, by region.
func (t *Testnet) Machines() (list []world.Machine) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.cluster.Machines {
		a := t.bound[m.Name]
		list = append(list, world.Machine{Name: m.Name, Region: m.Region, HTTP: a.HTTP, Metrics: a.Metrics})
	}
	return list
}

// Limits is those of the newest file.
func (t *Testnet) Limits() []crdt.Definition { return t.cluster.Limits() }

// Now is the time since New began.
func (t *Testnet) Now() time.Duration { return t.cluster.Now() }

// Observed is what has been noted; it goes on changing during Run.
func (t *Testnet) Observed() *judge.Observed { return t.cluster.Observed }

// Look notes how every node shows every bucket.
func (t *Testnet) Look() { t.cluster.Look() }

// machine finds one by its name.
func (t *Testnet) machine(name string) (*sim.Machine, error) {
	if m := t.byName[name]; m != nil {
		return m, nil
	}
	var names []string
	for _, m := range t.cluster.Machines {
		names = append(names, m.Name)
	}
	return nil, fmt.Errorf("local: no node is called %q; there are %s", name, strings.Join(names, ", "))
}

// Close heals everything, stops it, and leaves nothing behind. What went wrong in any node is its
// error, as far as Run has not returned it.
func (t *Testnet) Close() error {
	if t.closed {
		return nil
	}
	t.closed = true
	var errs []error
	if t.stores != nil {
		errs = append(errs, t.stores.heal()) // else last snapshots wait for their timeouts
	}
	if t.cluster != nil {
		t.cluster.Net.HealAll()
		errs = append(errs, t.cluster.Close())
	}
	if t.stores != nil {
		errs = append(errs, t.stores.close())
	}
	return errors.Join(append(errs, os.RemoveAll(t.dir))...)
}
