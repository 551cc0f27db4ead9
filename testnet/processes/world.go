package processes

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/netns"
	"github.com/openclaw/edge/testnet/process"
	"github.com/openclaw/edge/testnet/world"
)

// World is a testnet of real processes. One goroutine calls it, as world.World says.
//
// Its goroutines: one a node's life, which ends with the process (machine.go); one a relay
// (links.go) and one of the KV stand-in (stores.go), which end with Close; those of Run, which
// end with it (run.go).
type World struct {
	cfg      Config
	ctx      context.Context // of whoever asked for it; Run ends early with it
	began    time.Time
	net      *netns.Network
	links    *links
	stores   *stores
	machines []*machine
	token    string // of the operator's calls
	version  uint64 // of the limits
	limits   []crdt.Definition
	closed   bool
	clocks   clocks
	pulses   []pulse       // each is its goroutine's, during Run
	begun    uint64        // flows so far
	broken   chan struct{} // has one while there is a failure

	mu       sync.Mutex // guards what follows, which Run's goroutines share
	observed *judge.Observed
	failed   []error // not yet returned
}

var _ world.World = (*World)(nil)

// New starts a testnet and returns when all nodes see all. Close is the caller's, whatever
// becomes of ctx; when that is done New and Run end early.
func New(ctx context.Context, cfg Config) (*World, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	w := &World{
		cfg: cfg, ctx: ctx, began: time.Now(), token: rand.Text(), version: 1, limits: cfg.Limits,
		observed: judge.New(cfg.Limits), broken: make(chan struct{}, 1),
	}
	w.pulses = []pulse{{every: judge.SampleEvery, do: w.sample}, {every: judge.LookEvery, do: w.agree}}
	if cfg.Endless {
		w.observed.Endless()
	}
	if err := w.build(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	if err := w.found(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	w.began = time.Now()
	return w, nil
}

// build makes everything but running nodes.
func (w *World) build() (err error) {
	nodes := 0
	for _, r := range w.cfg.Regions {
		nodes += r.Nodes
	}
	if w.net, err = netns.New(nodes); err != nil {
		return err
	}
	dir, err := w.net.Dir()
	if err != nil {
		return err
	}
	if w.cfg.Binary == "" {
		w.cfg.Logger.Info("building openclaw-edge")
		if w.cfg.Binary, err = process.Build(w.ctx, dir, "openclaw-edge"); err != nil {
			return err
		}
	}
	if w.stores, err = openStores(w.net.Host(), dir); err != nil {
		return err
	}
	for _, region := range w.cfg.Regions {
		for i := range region.Nodes {
			if err := w.add(fmt.Sprintf("%s-%d", region.Name, i+1), region.Name, dir); err != nil {
				return err
			}
		}
	}
	w.links, err = openLinks(w)
	return err
}

// How long a start may take: a node waits up to ten seconds for those that it is to join.
const startWithin = 40 * time.Second

// found starts the first node, which founds the cluster, and then the others.
func (w *World) found() error {
	for i, m := range w.machines {
		if err := w.start(m); err != nil {
			return err
		}
		if i == 0 {
			if err := w.await(w.machines[:1]); err != nil {
				return err
			}
		}
	}
	return w.await(w.machines)
}

// await waits until nodes are fit and see each other.
func (w *World) await(nodes []*machine) error {
	for deadline := time.Now().Add(startWithin); ; {
		missing := slices.IndexFunc(nodes, func(m *machine) bool {
			c, ok := m.cluster()
			return !m.fit.Load() || !ok || c.ReachableMembers < len(nodes) || c.ExpectedMembers != len(nodes)
		})
		if missing < 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes: %s does not see all nodes within %v\n%s", nodes[missing].Name, startWithin, nodes[missing].proc.Logs())
		}
		if err := w.pause(50 * time.Millisecond); err != nil {
			return err
		}
	}
}

// pause lets d pass, unless something fails or nobody wants to go on.
func (w *World) pause(d time.Duration) error {
	select {
	case <-w.ctx.Done():
		return w.ctx.Err()
	case <-w.broken:
		return w.failure()
	case <-time.After(max(0, d)):
		return nil
	}
}

// mostFailures bounds those that are kept until they are returned; the first ones tell most.
const mostFailures = 10

// fail notes what nobody asked for.
func (w *World) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.failed) < mostFailures {
		w.failed = append(w.failed, err)
	}
	select {
	case w.broken <- struct{}{}:
	default:
	}
}

// failure is what went wrong since it was last asked; nil: nothing.
func (w *World) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.broken:
	default:
	}
	err := errors.Join(w.failed...)
	w.failed = nil
	return err
}

// note notes what was done.
func (w *World) note(kind judge.Kind, detail string, from []string, to ...string) {
	w.observed.Happened(judge.Event{At: w.Now(), Kind: kind, From: from, To: to, Detail: detail})
}

// Machines is the nodes, region by region.
func (w *World) Machines() (all []world.Machine) {
	for _, m := range w.machines {
		all = append(all, m.Machine)
	}
	return all
}

// Limits is what the newest file says.
func (w *World) Limits() []crdt.Definition { return slices.Clone(w.limits) }

// Now is the real time since New returned.
func (w *World) Now() time.Duration { return time.Since(w.began) }

// Observed is what was seen so far; not to be read during Run.
func (w *World) Observed() *judge.Observed { return w.observed }

// Close ends all processes and removes what was made for them. It may be called again.
func (w *World) Close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	for _, m := range w.machines {
		m.end()
	}
	var errs []error
	if w.links != nil {
		errs = append(errs, w.links.close())
	}
	if w.stores != nil {
		errs = append(errs, w.stores.close())
	}
	if w.net != nil {
		errs = append(errs, w.net.Close())
	}
	return errors.Join(errs...)
}
