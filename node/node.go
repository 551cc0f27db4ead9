package node

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/gossip"
)

// Node is one node of the cluster. Make it with New, start it with Run; Take, TakeAll,
// Credit, Reserve, Settle and Look answer from memory and may be called from any goroutine at any time, also
// before and after Run (time stands still then).
type Node struct {
	cfg    Config
	log    *slog.Logger
	writer crdt.Writer
	serial atomic.Uint32 // of new slots; see retire

	table        *table
	ratings      ratings
	reservations reservations
	force        atomic.Pointer[inForce]
	refill       refill
	gossip       *gossip.Gossip

	wholeSince  atomic.Int64 // n.refill.local; 0: it is not whole; see mayRegenerate
	failover    atomic.Bool
	failoverEnd atomic.Int64  // of n.refill.local, when it switches itself off
	settled     atomic.Bool   // first sync done, clock known: the file may succeed the cluster's set
	setDirty    atomic.Bool   // the set of limits is to be sent
	agreed      atomic.Bool   // the limits that hold are the cluster's: see agree
	impossible  atomic.Uint64 // buckets of peers refused as impossible
	unkept      atomic.Uint64 // buckets of peers for which there was no memory
	changed     changes       // bucket segments, for the snapshots

	limitsMu   sync.Mutex // guards what follows; not needed to read force
	file       *crdt.Set  // this node's own limits
	fileLimits []crdt.Definition
	pending    *crdt.Set // will hold from its From on
	proposeAt  int64     // of n.refill.local, when the file is to be proposed; 0: it is not
	indices    map[string]int
	counts     []*atomic.Int64 // buckets held, by Limit.Index
	members    membership
	heritage   *crdt.Set // in force when an earlier run ended, as disk or stores say; nil: not known
	heirs      int       // members with a vote that the newest snapshot knew

	savedLimits *crdt.Set // on disk; the refill loop's

	over   chan struct{} // closed when settled and agreed
	stores storeMetrics
	keeper atomic.Pointer[keeper] // nil: nothing is persisted, or Run has not begun
}

// membership is what limits depend on of the cluster.
type membership struct {
	count       int
	unreachable bool
}

// New makes a node from its configuration. It opens and starts nothing.
func New(cfg Config) (*Node, error) {
	if err := cfg.Check(); err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	n := &Node{cfg: cfg, log: cfg.Logger.With("node", cfg.Node), table: newTable(), indices: make(map[string]int),
		over: make(chan struct{}), stores: newStoreMetrics()}
	var random [4]byte
	rand.Read(random[:]) // never fails
	n.writer = crdt.NewWriter(cfg.Node, binary.BigEndian.Uint32(random[:]))
	n.serial.Store(1)
	n.ratings.init(n.table.seed)
	n.reservations.init()
	n.members = membership{count: 1}
	n.refill.init(knowledge{Clock: make(crdt.Clock)})
	if err := n.Replace(cfg.Limits, cfg.LimitsVersion); err != nil {
		return nil, err
	}
	g, err := gossip.New(gossip.Config{
		Cluster: cfg.Cluster, Node: cfg.Node, Region: cfg.Region, Writer: uint64(n.writer),
		Bind: cfg.Gossip, Advertise: cfg.Advertise, Seeds: cfg.Join, Keys: cfg.GossipKeys,
		RosterFile: cfg.dataFile("roster"), RoundRegion: cfg.RoundRegion, RoundWAN: cfg.RoundWAN, Lease: cfg.Lease, WallAhead: cfg.WallAhead,
		Transport: cfg.Transport, Logger: n.log, State: &replica{n: n},
	})
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	n.gossip = g
	return n, nil
}

func (c *Config) dataFile(name string) string {
	if c.DataDir == "" {
		return ""
	}
	return filepath.Join(c.DataDir, name)
}

// Run runs the node until ctx ends; then it stops serving, stops adding to the refill clock,
// tells its peers the last changes, leaves the cluster and returns. Nothing that it started
// is alive afterwards.
//
//	part     owns                                    leaves
//	serve    HTTP and metrics listeners, file watch  first, when ctx ends
//	refill   the refill clocks, the limits' timing   when gossip has left
//	sweep    evictions, a shard at a time            when gossip has left
//	gossip   peers, roster, frames                   after serve, with a last flush
//	persist  restore, then snapshots to the stores   when gossip has left, with a last snapshot
//
// A part that fails stops the others; its error is returned.
func (n *Node) Run(ctx context.Context) error {
	unlock, err := lockDataDir(n.cfg.DataDir)
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	defer unlock()
	k, ok := n.readClock()
	if ok {
		n.refill.init(k)
	}
	if set := n.readLimits(); set != nil {
		n.heirs = len(k.Confirmed)
		n.inheritLimits(set)
		n.savedLimits = set
	}
	keep, err := n.openKeeper()
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	defer keep.close()

	all, failed := context.WithCancelCause(ctx)
	defer failed(nil)
	quiet, silence := context.WithCancel(context.WithoutCancel(ctx)) // gossip: until serve has ended
	defer silence()
	inner, stopInner := context.WithCancel(context.WithoutCancel(ctx)) // refill, sweep: until gossip has ended
	defer stopInner()

	var g errgroup.Group
	part := func(run func() error, after func()) {
		g.Go(func() error {
			defer after()
			err := run()
			if err != nil {
				err = fmt.Errorf("node: %w", err) // it says itself of which part it is
				failed(err)
			}
			return err
		})
	}
	part(func() error {
		err := n.gossip.Run(quiet)
		keep.left(errors.Is(err, gossip.ErrForgotten))
		return err
	}, func() { failed(nil); stopInner() })
	part(func() error {
		select {
		case <-n.gossip.Started():
			return n.serve(all)
		case <-all.Done():
			return nil
		}
	}, func() { n.refill.stop(); failed(nil); silence() })
	part(func() error { n.refillLoop(inner); return nil }, func() {})
	part(func() error { n.sweepLoop(inner); return nil }, func() {})
	part(func() error { keep.run(inner); return nil }, func() {})
	err = g.Wait()
	if errors.Is(err, gossip.ErrForgotten) {
		keep.close()
		return n.forgotten()
	}
	n.writeClock()
	n.writeLimits()
	return err
}

// forgotten puts this node's past aside, as the cluster has forgotten it: the next start is
// that of a newcomer.
func (n *Node) forgotten() error {
	if n.cfg.DataDir == "" {
		return errors.New("node: the cluster has forgotten this node (POST /-/forget); start it again and it joins empty")
	}
	for _, name := range []string{"roster", "clock", "limits", snapshotFile} {
		path := n.cfg.dataFile(name)
		if failed := os.Rename(path, path+".forgotten"); failed != nil && !errors.Is(failed, fs.ErrNotExist) {
			n.log.Error("not put aside", "file", path, "err", failed)
		}
	}
	return errors.New("node: the cluster has forgotten this node (POST /-/forget); its past is put aside in the data directory, start it again and it joins empty")
}

// refillLoop is the refill daemon.
func (n *Node) refillLoop(ctx context.Context) {
	step := n.step()
	tick := time.NewTicker(step)
	defer tick.Stop()
	save := time.NewTicker(clockEvery)
	defer save.Stop()
	for {
		select {
		case <-tick.C:
			n.tick(time.Now())
			if now := n.step(); now != step {
				step = now
				tick.Reset(step)
			}
		case <-save.C:
			n.writeClock()
			n.writeLimits()
		case <-ctx.Done():
			return
		}
	}
}

// tick is one step of the daemon.
func (n *Node) tick(now time.Time) {
	v := n.gossip.View()
	if n.refill.tick(now, v, n.cfg.Lease, n.cfg.Doubt) {
		n.logAuthority(len(v.Members))
	}
	if end := n.failoverEnd.Load(); end > 0 && n.refill.local.Load() > end {
		n.SetFailover(false)
	}
	if v.Phase == gossip.Synced && n.refill.informed() && n.keeper.Load().hasRestored() {
		n.found(v)
		n.settle()
	}
	n.proposeLate()
	n.mature()
	n.tickReservations()
	a := n.refill.state.Load()
	m := membership{count: max(1, len(v.Members)), unreachable: a.reachable < len(v.Members)}
	n.noteWhole(v, a)
	n.limitsMu.Lock()
	if m != n.members {
		n.members = m
		n.remake(n.bound)
	}
	n.limitsMu.Unlock()
}

// logAuthority says what this node adds to the refill clocks from now on.
func (n *Node) logAuthority(members int) {
	a := n.refill.state.Load()
	n.log.Info("refill authority", "quorum", a.grants[crdt.Quorum].String(), "share", a.grants[crdt.Share].String(),
		"open", a.grants[crdt.Open].String(), "reachable", a.reachable, "members", members, "majority", a.majority,
		"shown", a.shown, "covers", a.covers.len())
}

// sweepEvery paces the sweep: all shards in some 13 s.
const sweepEvery = 200 * time.Millisecond

func (n *Node) sweepLoop(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for i := 0; ; i = (i + 1) % shards {
		select {
		case <-tick.C:
			n.sweep(i)
		case <-ctx.Done():
			return
		}
	}
}
