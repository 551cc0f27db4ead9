package persist

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// role is what a store is to a Hybrid.
type role int

const (
	primary role = iota
	fallback
	disk
	roles
)

const (
	longestCall  = 2 * time.Minute  // for a store that does not end its calls by itself
	longestRest  = time.Minute      // between tries to write to a store that fails
	localRest    = 10 * time.Second // the same of this node's own disk: nobody else is asked
	alarmedRest  = time.Minute      // the least, where an operator has to do something
	abandonedFor = 2 * time.Minute  // so long a write without an answer may yet be done
	maxFound     = 1 << 16          // keys remembered; others are read again
)

// target is a store with what is known of it.
type target struct {
	store   Store
	found   map[string]*found // other writers' keys; guarded by Hybrid.joining
	failing error             // of the newest Put; nil: it succeeded
	next    time.Time         // no Put before; own back-off
	until   time.Time         // no call before; the store's own word
	paused  error             // why
	rest    *backoff.ExponentialBackOff
	read    bool // shown everything since the start
}

// found is a key of another writer.
type found struct {
	version uint64    // joined, or of what was set aside
	at      uint64    // Hybrid.sequence at the join: own values beyond it contain it
	gone    time.Time // when its writer was first seen to be no member; zero: it is one
	aside   bool
}

func newTarget(store Store, every, longest time.Duration) *target {
	rest := backoff.NewExponentialBackOff()
	rest.InitialInterval = min(every, longest)
	rest.Multiplier = 2
	rest.MaxInterval = longest
	return &target{store: store, found: map[string]*found{}, rest: rest}
}

// ready says whether the store may be written to. One who asks for a snapshot does not wait for
// our back-off, only for the store's.
func (t *target) ready(now time.Time, asked bool) bool {
	return t != nil && !now.Before(t.until) && (asked || !now.Before(t.next))
}

// trouble is why nothing can be written to the store, as far as that is known.
func (t *target) trouble(now time.Time) error {
	switch {
	case t == nil:
		return nil
	case t.failing == nil && now.Before(t.until):
		return t.paused // since it was read
	}
	return t.failing
}

// call is one call of a store: bounded, measured, shown.
func (h *Hybrid) call(ctx context.Context, r role, op string, f func(context.Context, Store) error) error {
	t := h.targets[r]
	ctx, cancel := context.WithTimeout(ctx, longestCall)
	defer cancel()
	begin := time.Now()
	err := f(ctx, t.store)
	h.cfg.Observe(t.store.Name(), op, resultOf(err), time.Since(begin))
	h.show(func(s *Stats) {
		s.Stores[h.place(r)].LastError = err
	})
	var e *Error
	if errors.As(err, &e) && e.Until.After(t.until) {
		t.until, t.paused = e.Until, e
	}
	return err
}

func resultOf(err error) string {
	var p *Partial
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &p):
		return "partial"
	}
	return KindOf(err).String()
}

// fared notes how a Put went for the store as a whole, and logs what changed.
func (h *Hybrid) fared(r role, err error) {
	t := h.targets[r]
	if err == nil {
		if t.failing != nil {
			h.log.Info("persist: store works again", "store", t.store.Name())
			if r != disk { // and what did it lose?
				h.reconcileBy(time.Now().Add(jitter(5 * time.Second)))
			}
		}
		t.failing, t.next = nil, time.Time{}
		t.rest.Reset()
		return
	}
	if now := time.Now(); !now.Before(t.next) { // else an operator asked before its time: no reason to wait longer
		rest := t.rest.NextBackOff()
		switch KindOf(err) {
		case Denied, Misconfigured:
			rest = max(rest, alarmedRest)
		}
		t.next = now.Add(rest)
	}
	if t.failing == nil || KindOf(t.failing) != KindOf(err) {
		h.log.Warn("persist: store fails; its segments wait or go elsewhere", "store", t.store.Name(),
			"kind", KindOf(err).String(), "error", err)
	}
	t.failing = err
}

func (h *Hybrid) reconcileBy(at time.Time) {
	if at.Before(h.nextReconcile) {
		h.nextReconcile = at
	}
}

// jitter is a random part of d.
func jitter(d time.Duration) time.Duration { return time.Duration(rand.Int64N(int64(d) + 1)) }

// about is d, give or take a tenth: nodes that started together do not call together for ever.
func about(d time.Duration) time.Duration { return d - d/10 + jitter(d/5) }
