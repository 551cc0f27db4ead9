package persist

import (
	"maps"
	"sync"
	"time"
)

// Stats is what a Hybrid did since New.
type Stats struct {
	FallbackActive bool      // Primary fails, or something waits in Fallback for it
	Pending        int       // segments in Fallback whose content Primary has not acknowledged
	LastSnapshot   time.Time // what changed before is stored: when the newest round that left nothing unstored began; zero: none
	LastReconcile  time.Time // end of the newest that succeeded; zero: none
	Reconciles     map[string]uint64
	Stores         []StoreStats      // primary, fallback, disk; those that there are
	SetAside       map[string]uint64 // by reason: damaged, newer, cluster, key, refused
	Restored       Restored          // grows until the stores have shown their newest
}

// StoreStats is a store's part in Stats. Segments and bytes count what was acknowledged.
type StoreStats struct {
	Name         string
	Written      uint64 // values
	WrittenBytes uint64
	Joined       uint64 // values of other writers, restored or adopted
	Deleted      uint64
	LastError    error // of the newest call; nil: it succeeded
}

// Results of a reconcile, the keys of Stats.Reconciles.
const (
	ReconcileOK     = "ok"
	ReconcileFailed = "failed" // a store did not answer, or not fully
)

// Restored says what Restore found.
type Restored struct {
	Newest   time.Time       // time of the newest segment by its writer's clock; zero: none
	Clock    []byte          // that segment's
	Segments int             // of Config.Segments, of which something was joined
	Values   int             // joined
	Bytes    int64           // of those
	SetAside int             // values that could not be used
	Stores   []StoreRestored // primary, fallback, disk; those that there are
	Done     bool            // every store has been read; false: the context ended before
}

// StoreRestored is one store's part in Restored.
type StoreRestored struct {
	Name   string
	Listed int   // values of other writers
	Joined int   // of those
	Err    error // what was not read is not known; nil: all was read
}

// shown is the copy of a Hybrid's numbers that Stats reads, so that it never waits for a round.
type shown struct {
	mu sync.Mutex
	s  Stats
}

// Stats never waits for a store.
func (h *Hybrid) Stats() Stats {
	h.shown.mu.Lock()
	defer h.shown.mu.Unlock()
	s := h.shown.s
	s.Reconciles = maps.Clone(s.Reconciles)
	s.SetAside = maps.Clone(s.SetAside)
	s.Stores = append([]StoreStats(nil), s.Stores...)
	s.Restored.Stores = append([]StoreRestored(nil), s.Restored.Stores...)
	return s
}

func (h *Hybrid) show(f func(*Stats)) {
	h.shown.mu.Lock()
	defer h.shown.mu.Unlock()
	f(&h.shown.s)
}

// showStores gives every store its place in Stats.
func (h *Hybrid) showStores() {
	s := Stats{
		Reconciles: map[string]uint64{ReconcileOK: 0, ReconcileFailed: 0},
		SetAside:   map[string]uint64{},
	}
	for _, t := range h.targets {
		if t != nil {
			s.Stores = append(s.Stores, StoreStats{Name: t.store.Name()})
			s.Restored.Stores = append(s.Restored.Stores, StoreRestored{Name: t.store.Name()})
		}
	}
	h.shown.s = s
}

// place is where the store stands in Stats.Stores.
func (h *Hybrid) place(r role) (at int) {
	for _, t := range h.targets[:r] {
		if t != nil {
			at++
		}
	}
	return at
}
