package persist

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Run makes a round every Config.Every, reconciles, and reads again what a store may not have
// shown at Restore, until ctx ends; it returns after its last piece of work. Call it once,
// after Restore. A failing store never ends it.
func (h *Hybrid) Run(ctx context.Context) error {
	if h.take(ctx) != nil {
		return nil
	}
	now := time.Now()
	h.nextRound = now.Add(jitter(h.cfg.Every))
	h.nextReconcile = now.Add(about(min(h.cfg.ReconcileEvery, settled)))
	if h.started.IsZero() { // without Restore
		h.started, h.nextReread = now, now.Add(rereadEvery)
	}
	for {
		next := h.nextRound
		for _, t := range []time.Time{h.nextReconcile, h.nextReread} {
			if t.Before(next) {
				next = t
			}
		}
		h.release()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Until(next)):
		}
		if h.take(ctx) != nil {
			return nil
		}
		h.work(ctx)
	}
}

// work does the one thing that is due longest: each may wait for a store that hangs, and who wants
// a Snapshot is not to wait for all of them. What a reconcile joins is written at once.
func (h *Hybrid) work(ctx context.Context) {
	switch {
	case !h.nextRound.After(h.nextReread) && !h.nextRound.After(h.nextReconcile):
		h.nextRound = time.Now().Add(about(h.cfg.Every))
		h.round(ctx, false)
	case !h.nextReread.After(h.nextReconcile):
		h.reread(ctx)
	default:
		h.nextReconcile = time.Now().Add(about(h.cfg.ReconcileEvery))
		if h.reconcile(ctx) {
			h.nextRound = time.Now()
		}
	}
}

// Snapshot makes a round now: on nil, everything that was changed before the call is stored.
// It waits for the piece of work at hand, and works beside Run, before it and after it. A
// deadline in ctx is shared out, so that a store that hangs leaves time for the next.
func (h *Hybrid) Snapshot(ctx context.Context) error {
	if err := h.take(ctx); err != nil {
		return fmt.Errorf("persist: snapshot: %w", err)
	}
	defer h.release()
	return h.round(ctx, true)
}

// round writes to each store what it lacks, and what it has lost.
func (h *Hybrid) round(ctx context.Context, asked bool) error {
	begin := time.Now()
	h.look()
	failed := h.writeAll(ctx, asked)
	lost, unsure := h.lookAfter(ctx, begin, asked)
	if lost && failed == nil {
		failed = h.writeAll(ctx, asked)
	}
	if failed != nil && ctx.Err() == nil && h.unpacked == nil {
		h.log.Error("persist: the state cannot be packed", "error", failed)
	}
	h.unpacked = failed
	if err := errors.Join(h.concluded(begin, unsure), failed); err != nil {
		return err
	}
	h.afterFirst(ctx)
	return nil
}

// writeAll brings the stores what they lack now.
func (h *Hybrid) writeAll(ctx context.Context, asked bool) error {
	for _, group := range h.groups(h.plan(time.Now(), asked)) {
		if err := h.write(ctx, group, asked); err != nil {
			return err
		}
	}
	return nil
}

// look asks State what changed and who owns it.
func (h *Hybrid) look() {
	h.joining.Lock()
	defer h.joining.Unlock()
	h.changes = h.cfg.State.Changes(h.changes[:0])
	for i := range h.segments {
		s := &h.segments[i]
		if i < len(h.changes) {
			s.change = h.changes[i]
		}
		owned := !h.cfg.Shared || h.cfg.State.Owns(i)
		if owned && !s.owned && s.known() {
			s.force[primary] = true // gained back; others wrote it meanwhile
		}
		s.owned = owned
	}
}

// concluded shows what the round came to; an error names what is stored nowhere, as far as that
// is known: unsure is why it is not. What changed before begin was packed.
func (h *Hybrid) concluded(begin time.Time, unsure error) error {
	h.pending = 0
	unstored, first := 0, ""
	for i := range h.segments {
		s := &h.segments[i]
		if s.pending() {
			h.pending++
		}
		if s.owned && !s.stored() {
			if unstored++; first == "" {
				first = h.cfg.Segments[i].Name
			}
		}
	}
	h.tellFallback()
	now := time.Now()
	h.show(func(s *Stats) {
		s.Pending, s.FallbackActive = h.pending, h.active
		if unstored == 0 && unsure == nil {
			s.LastSnapshot = begin
		}
	})
	if unstored == 0 {
		return unsure
	}
	why := errors.Join(h.targets[primary].trouble(now), h.targets[fallback].trouble(now))
	if why == nil {
		why = errors.New("the stores refused these")
	}
	return fmt.Errorf("persist: %d segments are not stored and stay in memory, %s first: %w", unstored, first, why)
}

func (h *Hybrid) tellFallback() {
	t := h.targets[fallback]
	active := t != nil && (h.pending > 0 || h.targets[primary].failing != nil)
	if active != h.active {
		if active {
			h.log.Warn("persist: fallback begins", "store", t.store.Name(), "pending_segments", h.pending)
		} else {
			h.log.Info("persist: fallback ends: all segments are where they belong", "store", h.targets[primary].store.Name())
		}
	}
	h.active = active
}

// afterFirst clears local stores of older incarnations as soon as this one has written all:
// a node that starts over and over must not fill its disk.
func (h *Hybrid) afterFirst(ctx context.Context) {
	if h.swept {
		return
	}
	for i := range h.segments {
		if s := &h.segments[i]; h.targets[disk] != nil && s.held[disk].change < s.change {
			return
		}
	}
	h.swept = true
	for r := range roles {
		if h.targets[r] != nil && h.local(r) {
			h.reconcileStore(ctx, r)
		}
	}
}

// local says whether the store is this node's alone.
func (h *Hybrid) local(r role) bool { return r == disk || r == primary && !h.cfg.Shared }
