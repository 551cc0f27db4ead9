package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openclaw/edge/persist"
)

// keeper keeps the node's segments in its stores. Its life is the part "persist" of Run:
//
//	restore ─▶ wait for the first sync ─▶ conclude ─▶ rounds and reconciles ─▶ last snapshot
//
// Until it has restored the node is not ready, and does not count itself settled: what peers
// and stores know comes before what the file says. All methods also do for a nil keeper,
// which keeps nothing.
type keeper struct {
	n         *Node
	segments  *segments
	hybrid    *persist.Hybrid
	stores    stores
	restored  atomic.Bool
	rounds    atomic.Bool   // what was restored is settled: there is something to snapshot
	begun     chan struct{} // closed when rounds is set
	forgotten atomic.Bool   // by the cluster: the past ends here
	closing   sync.Once
}

// stores are what openStores has opened. Primary may be nil: nothing is persisted.
type stores struct {
	primary, fallback, disk persist.Store
	shared                  bool
}

const (
	snapshotFile    = "snapshot.db" // under the data directory
	callsFile       = "kv-calls"    // beside it: see persist's budget
	restoreLimit    = 30 * time.Second
	lastSnapshot    = 5 * time.Second
	snapshotTimeout = 20 * time.Second // of one that an operator asks for
)

// openKeeper opens the stores, which calls nobody but the disk. It returns nil when the
// configuration has none.
func (n *Node) openKeeper() (*keeper, error) {
	open, err := n.openStores()
	if err != nil {
		open.close()
		return nil, err
	}
	if open.primary == nil {
		n.log.Warn("nothing is persisted: what this node holds lives in memory and in its peers", "backend", n.cfg.Persist.Backend, "data_dir", n.cfg.DataDir)
		return nil, nil
	}
	k := &keeper{n: n, segments: &segments{n: n}, stores: open, begun: make(chan struct{})}
	k.hybrid, err = persist.New(persist.Config{
		Cluster: n.cfg.Cluster, Node: n.cfg.Node, Incarnation: uint64(n.writer), Segments: segmentSpecs(),
		Primary: open.primary, Shared: open.shared, Fallback: open.fallback, Disk: open.disk,
		Every: n.cfg.Persist.SnapshotEvery, ReconcileEvery: n.cfg.Persist.ReconcileEvery,
		WallAhead: n.cfg.WallAhead, State: k.segments, Current: n.mayWrite, Heard: n.hears, Observe: n.stores.observe, SetAside: n.keepAside,
		Logger: n.log.With("part", "persist"),
	})
	if err != nil {
		open.close()
		return nil, err
	}
	n.stores.expect(open)
	n.keeper.Store(k)
	return k, nil
}

// openStores opens what the configuration names.
func (n *Node) openStores() (s stores, err error) {
	c := &n.cfg.Persist
	if n.cfg.stores != nil {
		return *n.cfg.stores, nil
	}
	if c.RedisURL != "" {
		r, err := persist.NewRedis(persist.RedisConfig{URL: string(c.RedisURL), Cluster: c.RedisCluster})
		if err != nil {
			return s, err
		}
		s.fallback = r
	}
	switch c.Backend {
	case BackendCloudflare:
		cf, err := persist.NewCloudflare(persist.CloudflareConfig{
			AccountID: c.AccountID, NamespaceID: c.NamespaceID, Token: c.token(), BaseURL: c.BaseURL,
			Members: func() int { return len(n.gossip.View().Members) }, Ledger: n.cfg.dataFile(callsFile), HTTPClient: n.cfg.kvClient,
		})
		if err != nil {
			return s, err
		}
		s.primary, s.shared = cf, true
	case BackendLocal:
		s.primary, err = n.openSnapshotFile("kv")
	}
	if err != nil {
		return s, err
	}
	if s.primary == nil && s.fallback != nil {
		s.primary, s.fallback, s.shared = s.fallback, nil, true
	}
	if s.shared {
		s.disk, err = n.openSnapshotFile("disk")
	}
	return s, err
}

// openSnapshotFile opens the embedded store under the data directory; nil without one.
func (n *Node) openSnapshotFile(name string) (persist.Store, error) {
	path := n.cfg.dataFile(snapshotFile)
	if path == "" {
		return nil, nil
	}
	b, err := persist.OpenBolt(path, persist.BoltConfig{Name: name})
	if err != nil {
		return nil, err
	}
	if why := b.Damaged(); why != "" {
		n.log.Error("snapshot file damaged: moved aside, and a new one begun; peers and other stores may know what was in it", "moved", why)
	}
	return b, nil
}

func (s *stores) close() {
	for _, store := range []persist.Store{s.primary, s.fallback, s.disk} {
		if store != nil {
			store.Close() // nothing is under way any more: what was acknowledged is safe
		}
	}
}

func (k *keeper) close() {
	if k != nil {
		k.closing.Do(k.stores.close)
	}
}

// left is told that the node has left the cluster, before run's context ends.
func (k *keeper) left(forgotten bool) {
	if k != nil {
		k.forgotten.Store(forgotten)
	}
}

// run is the keeper's life; a store that fails never ends it.
func (k *keeper) run(ctx context.Context) {
	if k == nil {
		return
	}
	k.restore(ctx)
	select {
	case <-k.n.over:
	case <-ctx.Done():
		return // what was stored is still there, and nothing has come to it
	}
	if !k.conclude(ctx) {
		return
	}
	k.rounds.Store(true)
	close(k.begun)
	if err := k.hybrid.Run(ctx); err != nil {
		k.n.log.Error("snapshots have ended", "err", err)
	}
	k.last(ctx)
}

func (k *keeper) restore(ctx context.Context) {
	defer k.restored.Store(true)
	ctx, cancel := context.WithTimeout(ctx, restoreLimit)
	defer cancel()
	k.hybrid.Restore(ctx) // it logs what it did not read, and Run reads on
}

// conclude judges what had to wait for the first sync. In company that takes until it is known
// whether the others lived on; false: the node stops.
func (k *keeper) conclude(ctx context.Context) bool {
	if len(k.segments.past.later) > 0 && !k.n.refill.isCold() {
		wait := time.NewTimer(arrearsWait + time.Second)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-ctx.Done():
			return false
		}
	}
	k.segments.conclude()
	return true
}

// last is the snapshot of a clean stop.
func (k *keeper) last(ctx context.Context) {
	if k.forgotten.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSnapshot)
	defer cancel()
	if err := k.hybrid.Snapshot(ctx); err != nil {
		k.n.log.Error("last snapshot incomplete: what it lacks is known to peers, or to this node's disk, only", "err", err)
	}
}

// hasRestored tells whether the stores have been read, or their time is up.
func (k *keeper) hasRestored() bool { return k == nil || k.restored.Load() }

// progress is the reason for not being ready.
func (k *keeper) progress() string {
	return fmt.Sprintf("restoring: %d of %d segments", k.hybrid.Stats().Restored.Segments, segmentCount)
}

// Snapshot stores now what has changed. The error says why not all of it was. A node that is
// ready may still have to judge what it restored, for some seconds: that is waited for.
func (n *Node) Snapshot(ctx context.Context) error {
	k := n.keeper.Load()
	if k == nil {
		return errors.New("nothing is persisted here: set persist.kv.backend, or give the node a --data-dir")
	}
	if !k.rounds.Load() {
		if ok, why := n.Ready(); !ok {
			return fmt.Errorf("not yet: the node has not finished its start (%s); try again when /readyz answers 200", why)
		}
		select {
		case <-k.begun:
		case <-ctx.Done():
			return fmt.Errorf("not yet: the node still judges what it has restored: %w", ctx.Err())
		}
	}
	return k.hybrid.Snapshot(ctx)
}

// storeState is for GET /v1/cluster.
func (n *Node) storeState() (s StoreState) {
	if k := n.keeper.Load(); k != nil {
		st := k.hybrid.Stats()
		s.FallbackActive, s.PendingSegments = st.FallbackActive, st.Pending
		if !st.LastSnapshot.IsZero() {
			at := st.LastSnapshot.UTC()
			s.LastSnapshot = &at
		}
	}
	return s
}
