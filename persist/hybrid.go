package persist

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// State is what a Hybrid keeps in stores, in pieces called segments; the caller's word for its
// own memory. Only one goroutine at a time calls it; it holds none of its locks while it calls
// back. Segments are numbered as in Config.Segments.
//
// What a change number promises: everything numbered up to what Changes said is in what a
// later Pack emits. And what a Join brought in is either new, and then numbered, or was there.
type State interface {
	// Changes appends to dst the number of each segment's newest change; 0: empty since start.
	Changes(dst []uint64) []uint64
	// Owns says whether this node writes the segment to shared stores.
	Owns(segment int) bool
	// Pack emits the segments' payloads, each of at most MaxPayload bytes: none for an empty
	// segment, several for a large one, in any order. Emit keeps no payload after its return; its
	// error ends the Pack and is returned as it is.
	Pack(ctx context.Context, segments []int, emit func(segment int, payload []byte) error) error
	// Clock goes into every segment, at most MaxClock bytes; asked for after each Pack.
	Clock() []byte
	// Join takes a segment of any writer into the state; idempotent and commutative. An empty
	// payload is one: its clock counts. An error says that it cannot be used, now or later. It
	// keeps no part of s.
	Join(s *Segment) error
}

// SegmentSpec names one segment.
type SegmentSpec struct {
	Name   string        // "00"; letters, digits, '_', '-'
	Prefix string        // of its keys: "rating_bucket"; the same alphabet
	TTL    time.Duration // at the stores, renewed before a third has passed; 0: never expires
	First  bool          // joined before the store's other segments, which need it
}

// Config is what a Hybrid needs. Stores are the caller's, which closes them after Run.
type Config struct {
	Cluster, Node string
	Incarnation   uint64 // the writer: random, one per start
	Segments      []SegmentSpec

	Primary  Store // KV, or the local file in its place; required
	Shared   bool  // Primary and Fallback are the cluster's: the owner of a segment writes it
	Fallback Store // takes exactly what Primary did not; nil: none
	Disk     Store // keeps every segment, owned or not; nil: none

	WallAhead      time.Duration // testnets: of the clock that segments are dated by
	Every          time.Duration // between rounds; 0: 10 s. What a crash of everybody loses
	ReconcileEvery time.Duration // 0: 5 min; sooner after an outage

	State State
	// Current says whether a writer may still be alive: a member's newest incarnation, reachable
	// or not. The keys of others are adopted. Nil: every foreign writer is; this node's older
	// incarnations never are.
	Current func(node string, incarnation uint64) bool

	// Heard says whether a writer is heard by other ways, or will be after a cut: what it holds, and
	// so all that it ever wrote, comes to this node anyhow, and is not read from a store again. Nil:
	// none is.
	Heard func(node string, incarnation uint64) bool

	// Observe is told of every call of a store; result is "ok", "partial" or a Kind's text. Nil: none.
	Observe func(store, op, result string, took time.Duration)
	// SetAside keeps what was found and cannot be used; it stays in the store too. Nil: only counted.
	SetAside func(key string, data []byte, why error)
	Logger   *slog.Logger // changes of state, each once; nil: none
}

// Hybrid keeps a State in up to three stores: every segment on disk, and each owned one in
// Primary or, while that fails, in Fallback. See the package comment for what it promises.
// Safe for concurrent use.
type Hybrid struct {
	cfg   Config
	log   *slog.Logger
	index map[[2]string]int // prefix and name of a segment to its number

	// turn holds one token. Whoever has it does the work, store calls included, and owns all
	// fields down to joining.
	turn                                 chan struct{}
	sequence                             uint64 // of the newest value
	segments                             []segment
	changes                              []uint64 // scratch of look
	targets                              [roles]*target
	started                              time.Time
	swept                                bool  // of what older incarnations left in local stores
	unpacked                             error // of the newest round
	pending                              int   // as Stats.Pending
	active                               bool  // as Stats.FallbackActive
	nextRound, nextReconcile, nextReread time.Time

	joining sync.Mutex // State.Join and target.found, while stores are read side by side
	told    time.Time  // when restore's progress was logged
	shown   shown

	// mayDelete is (*Hybrid).deletable; tests put wrong rules here, to be condemned.
	mayDelete func(r role, e Entry, k Key) (ready time.Time, ok bool)
}

const (
	defaultEvery          = 10 * time.Second
	defaultReconcileEvery = 5 * time.Minute
)

// New checks the config; it starts nothing and calls no store.
func New(cfg Config) (*Hybrid, error) {
	if cfg.Every == 0 {
		cfg.Every = defaultEvery
	}
	if cfg.ReconcileEvery == 0 {
		cfg.ReconcileEvery = defaultReconcileEvery
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Observe == nil {
		cfg.Observe = func(string, string, string, time.Duration) {}
	}
	if cfg.SetAside == nil {
		cfg.SetAside = func(string, []byte, error) {}
	}
	if cfg.Current == nil {
		cfg.Current = func(string, uint64) bool { return true }
	}
	if cfg.Heard == nil {
		cfg.Heard = func(string, uint64) bool { return false }
	}
	h := &Hybrid{
		cfg: cfg, log: cfg.Logger, index: map[[2]string]int{},
		turn: make(chan struct{}, 1), segments: make([]segment, len(cfg.Segments)),
	}
	h.turn <- struct{}{}
	h.mayDelete = h.deletable
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("persist: %w", err)
	}
	for r, store := range [roles]Store{primary: cfg.Primary, fallback: cfg.Fallback, disk: cfg.Disk} {
		if store != nil {
			longest := longestRest
			if h.local(role(r)) {
				longest = localRest
			}
			h.targets[r] = newTarget(store, cfg.Every, longest)
		}
	}
	h.showStores()
	return h, nil
}

func (h *Hybrid) check() error {
	c := &h.cfg
	switch {
	case c.Primary == nil:
		return errors.New("no primary store")
	case c.State == nil:
		return errors.New("no state")
	case len(c.Segments) == 0:
		return errors.New("no segments")
	case c.Every < 0 || c.ReconcileEvery < 0:
		return errors.New("negative interval")
	}
	for i, spec := range c.Segments {
		s := Segment{Name: spec.Name, Cluster: c.Cluster, Node: c.Node, Time: time.UnixMilli(0)}
		if err := s.check(); err != nil {
			return fmt.Errorf("segment %q: %w", spec.Name, err)
		}
		if _, err := ParseKey(SegmentKey(spec.Prefix, &s)); err != nil {
			return err
		}
		id := [2]string{spec.Prefix, spec.Name}
		if _, twice := h.index[id]; twice {
			return fmt.Errorf("segment %q of %q twice", spec.Name, spec.Prefix)
		}
		h.index[id] = i
	}
	return nil
}

func (h *Hybrid) take(ctx context.Context) error {
	select {
	case <-h.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *Hybrid) release() { h.turn <- struct{}{} }
