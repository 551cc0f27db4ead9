package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/node"
	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/memnet"
)

// Config says what is simulated. Limits is required.
type Config struct {
	Seed   uint64
	Dir    string                   // data directories are made below it; "": nobody keeps anything
	Limits []crdt.Definition        // version 1 of every file
	Logger *slog.Logger             // nil: discarded
	Real   bool                     // in real time: nodes listen, and Close does not wait for memberlist's last probes
	Tune   func(*node.Config) error // has the last word on each start
}

// Cluster is a set of machines on one network. Call everything from one goroutine, inside a
// synctest bubble unless it is Real; nothing but Run, Settle and Close lets time pass.
type Cluster struct {
	Net      *memnet.Network
	Machines []*Machine
	Observed *judge.Observed

	cfg     Config
	began   time.Time
	version uint64
	limits  []crdt.Definition
	samples time.Duration // when the last one was taken
	dirs    int
	started int

	mu     sync.Mutex // guards failed
	failed []error
}

// Machine is where the incarnations of one node run, one after the other.
type Machine struct {
	Name, Region, Addr string
	Node               *node.Node // nil while nobody runs or is to be asked

	life      int // incarnations so far
	writer    string
	dir       string
	transport memberlist.NodeAwareTransport
	stop      context.CancelFunc
	ended     chan struct{} // closed when the incarnation's Run has returned
	zombies   []zombie
	shown     judge.Shown
	fit       bool // was fit for traffic once in this life
}

// zombie is a crashed incarnation, cut off and winding up, with the disk that it still has.
type zombie struct {
	ended chan struct{}
	dir   string
}

// New makes a cluster without machines.
func New(cfg Config) *Cluster {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Cluster{Net: memnet.New(int64(cfg.Seed)), cfg: cfg, began: time.Now(), version: 1, limits: cfg.Limits, Observed: judge.New(cfg.Limits)}
	return c
}

// Now is the virtual time since New.
func (c *Cluster) Now() time.Duration { return time.Since(c.began) }

// Add makes a machine; nothing runs on it yet.
func (c *Cluster) Add(region string) *Machine {
	return c.AddNamed(fmt.Sprintf("n%02d", len(c.Machines)), region)
}

// AddNamed is Add with a name of the caller's. The lowest one has the majority of two halves.
func (c *Cluster) AddNamed(name, region string) *Machine {
	i := len(c.Machines)
	m := &Machine{Name: name, Region: region, Addr: fmt.Sprintf("10.0.%d.%d:7946", i/200, 1+i%200)}
	c.Machines = append(c.Machines, m)
	return m
}

// Start starts a new incarnation on m, with the disk that the last one left. The first start
// of all founds the cluster; every other one has all machines for seeds.
func (c *Cluster) Start(m *Machine) error {
	if m.Node != nil || !m.Ended() {
		return fmt.Errorf("sim: %s runs already", m.Name)
	}
	transport, err := c.Net.Listen(m.Addr)
	if err != nil {
		return err
	}
	m.bury()
	if m.dir == "" && c.cfg.Dir != "" {
		m.dir = c.newDir(m)
	}
	cfg := node.DefaultConfig()
	cfg.Node, cfg.Region, cfg.Cluster = m.Name, m.Region, "sim"
	cfg.Gossip, cfg.DataDir, cfg.NoListen, cfg.Transport = m.Addr, m.dir, !c.cfg.Real, transport
	cfg.Limits, cfg.LimitsVersion, cfg.Logger = c.limits, c.version, c.cfg.Logger
	if c.started++; c.started > 1 {
		for _, o := range c.Machines {
			cfg.Join = append(cfg.Join, o.Addr)
		}
	}
	if c.cfg.Tune != nil {
		if err := c.cfg.Tune(&cfg); err != nil {
			transport.Shutdown()
			return err
		}
	}
	n, err := node.New(cfg)
	if err != nil {
		transport.Shutdown()
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	m.Node, m.transport, m.stop, m.ended, m.writer, m.fit = n, transport, stop, make(chan struct{}), "", false
	m.life++
	ended, life := m.ended, m.life
	go func() {
		defer close(ended)
		if err := n.Run(ctx); err != nil && ctx.Err() == nil {
			c.fail(fmt.Errorf("sim: life %d of %s: %w", life, m.Name, err))
		}
	}()
	return nil
}

// Found starts all machines, the first one as the founder of the cluster, and waits until all
// see all.
func (c *Cluster) Found(within time.Duration) error {
	for i, m := range c.Machines {
		if err := c.Start(m); err != nil {
			return err
		}
		if i == 0 && !c.Settle(within) {
			return errors.New("sim: the first node did not found a cluster")
		}
	}
	if !c.Settle(within) {
		return fmt.Errorf("sim: the cluster is not whole after %v", within)
	}
	return nil
}

// Stop tells the incarnation on m to stop, as SIGTERM does. It is asked nothing any more;
// Ended tells when it is gone.
func (c *Cluster) Stop(m *Machine) {
	if m.Node == nil {
		return
	}
	c.note(m)
	m.Node = nil
	m.stop()
}

// Crash ends the incarnation on m at once, as kill -9 does: nobody hears from it any more,
// and the next start finds the disk as it is now. (Its goroutines wind up within some
// seconds, on a closed transport and a directory that nobody reads.)
func (c *Cluster) Crash(m *Machine) error {
	if m.Node == nil {
		return nil
	}
	c.note(m)
	m.transport.Shutdown()
	dead := zombie{m.ended, m.dir}
	if m.dir != "" {
		dir := c.newDir(m)
		if err := copyFiles(dir, m.dir); err != nil {
			return err
		}
		m.dir = dir
	}
	c.Observed.Crash(judge.Life{Machine: m.Name, Number: m.life}, c.Now())
	m.Node = nil
	m.stop()
	m.zombies = append(m.zombies, dead)
	m.ended = nil
	return nil
}

// bury forgets those crashed incarnations that have wound up, and their disks.
func (m *Machine) bury() {
	m.zombies = slices.DeleteFunc(m.zombies, func(z zombie) bool {
		select {
		case <-z.ended:
			os.RemoveAll(z.dir)
			return true
		default:
			return false
		}
	})
}

// Buried tells whether nothing is left of crashed incarnations.
func (m *Machine) Buried() bool {
	m.bury()
	return len(m.zombies) == 0
}

// Ended tells whether the machine is free for a start.
func (m *Machine) Ended() bool {
	if m.ended == nil {
		return true
	}
	select {
	case <-m.ended:
		return true
	default:
		return false
	}
}

// Fit tells whether a load balancer would send traffic to m: it runs and has had its first
// sync. A node that has lost its majority says that it is not fit; it is asked all the same,
// for that is where mistakes would show.
func (m *Machine) Fit() bool {
	if m.Node == nil {
		return false
	}
	if !m.fit {
		ready, reason := m.Node.Ready()
		m.fit = ready || len(reason) > 2 && reason[:2] == "no" // "no refill authority: …"
	}
	return m.fit
}

// Up is the machines that Fit.
func (c *Cluster) Up() []*Machine {
	var up []*Machine
	for _, m := range c.Machines {
		if m.Fit() {
			up = append(up, m)
		}
	}
	return up
}

// Reload gives every running node, and every later start, a new file. Only the machine via
// reads it now; the others hear of it.
func (c *Cluster) Reload(via *Machine, limits []crdt.Definition) error {
	if err := via.Node.Replace(limits, c.version+1); err != nil {
		return err
	}
	c.version++
	c.limits = limits
	c.Observed.Redefine(limits, c.Now())
	return nil
}

// Limits is those of the newest file.
func (c *Cluster) Limits() []crdt.Definition { return slices.Clone(c.limits) }

// Cut severs all links between two groups, both ways; Heal repairs them.
func (c *Cluster) Cut(a, b []*Machine)  { eachPair(a, b, c.Net.Cut) }
func (c *Cluster) Heal(a, b []*Machine) { eachPair(a, b, c.Net.Heal) }

// CutOneWay severs the links from one group to another.
func (c *Cluster) CutOneWay(from, to []*Machine) { eachPair(from, to, c.Net.CutOneWay) }

func eachPair(a, b []*Machine, do func(a, b string)) {
	for _, x := range a {
		for _, y := range b {
			if x != y {
				do(x.Addr, y.Addr)
			}
		}
	}
}

// Close stops everything and waits until memberlist's last goroutines are gone. It returns
// what went wrong in any Run.
func (c *Cluster) Close() error {
	for _, m := range c.Machines {
		c.Stop(m)
	}
	for _, m := range c.Machines {
		for _, z := range append(m.zombies, zombie{ended: m.ended}) {
			if z.ended != nil {
				<-z.ended
			}
		}
	}
	if !c.cfg.Real {
		time.Sleep(5 * time.Minute)
	}
	return c.Failed()
}

// Failed is what has gone wrong since the last call that nobody asked for.
func (c *Cluster) Failed() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := errors.Join(c.failed...)
	c.failed = nil
	return err
}

// mostFailures bounds those that are kept until Failed is called; the first ones tell most.
const mostFailures = 100

func (c *Cluster) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.failed) < mostFailures {
		c.failed = append(c.failed, err)
	}
}

func (c *Cluster) newDir(m *Machine) string {
	c.dirs++
	return filepath.Join(c.cfg.Dir, fmt.Sprintf("%s-%d", m.Name, c.dirs))
}

// copyFiles copies a data directory as it is found, half-written files included. The lock
// stays behind: it belongs to the process.
func copyFiles(to, from string) error {
	entries, err := os.ReadDir(from)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() || e.Name() == "lock" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(from, e.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue // renamed meanwhile
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, e.Name()), b, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
