package persist

import (
	"context"
	"errors"
	"time"
)

var errPaused = errors.New("the store asked for a pause")

// reconcile brings together what the outages, the departed and earlier incarnations left in the
// stores. It copies nothing: it joins what it finds into the state, whose rounds write it under
// own keys, and deletes what those have made superfluous. It says whether a round should follow
// at once.
func (h *Hybrid) reconcile(ctx context.Context) (adopted bool) {
	h.look()
	result := ReconcileOK
	for _, r := range []role{fallback, primary, disk} {
		if h.targets[r] == nil {
			continue
		}
		joined, err := h.reconcileStore(ctx, r)
		adopted = adopted || joined
		if err != nil {
			result = ReconcileFailed
		}
	}
	if ctx.Err() != nil {
		return false
	}
	h.show(func(s *Stats) {
		s.Reconciles[result]++
		if result == ReconcileOK {
			s.LastReconcile = time.Now()
		}
	})
	return adopted
}

func (h *Hybrid) reconcileStore(ctx context.Context, r role) (adopted bool, err error) {
	t := h.targets[r]
	if now := time.Now(); now.Before(t.until) {
		h.reconcileBy(t.until.Add(jitter(5 * time.Second)))
		return false, &Error{Store: t.store.Name(), Op: "list", Kind: Throttled, Until: t.until, Err: errPaused}
	}
	begin := time.Now()
	listed, err := h.list(ctx, r)
	if err != nil {
		return false, err
	}
	h.forget(r, listed)
	lost := h.lost(r, listed, begin)
	if err = h.fetch(ctx, r, h.unjoined(r, listed, begin), func() {}); err != nil {
		return lost, err
	}
	adopted = h.adopt(r, listed) || lost
	return adopted, h.clear(ctx, r, listed, begin)
}

// forget drops what is known of keys that are no more.
func (h *Hybrid) forget(r role, listed []Entry) {
	h.joining.Lock()
	defer h.joining.Unlock()
	there := make(map[string]bool, len(listed))
	for _, e := range listed {
		there[e.Key] = true
	}
	for key := range h.targets[r].found {
		if !there[key] {
			delete(h.targets[r].found, key)
		}
	}
}

// unjoined is the keys to be read: of writers that are gone, in segments that this node owns,
// at versions that it has not joined.
func (h *Hybrid) unjoined(r role, listed []Entry, now time.Time) (keys []Entry) {
	for _, e := range listed {
		i, k, err := h.parse(e.Key)
		if err == nil && h.own(k) {
			if s := &h.segments[i]; r == fallback {
				s.fallen = max(s.fallen, e.Version) // a put without an answer was done after all
			}
			continue
		}
		if err == nil && (!h.gone(r, e.Key, k, now) || !h.answersFor(r, i)) || h.seen(r, e) {
			continue
		}
		keys = append(keys, e)
	}
	return keys
}

// answersFor says whether this node adopts what is found of the segment.
func (h *Hybrid) answersFor(r role, segment int) bool { return h.local(r) || h.segments[segment].owned }

// gone says whether the key's writer can write no more, and notes since when that is known.
func (h *Hybrid) gone(r role, key string, k Key, now time.Time) bool {
	gone := k.Node == h.cfg.Node || !h.cfg.Current(k.Node, k.Incarnation)
	h.joining.Lock()
	defer h.joining.Unlock()
	f := h.targets[r].found[key]
	if f == nil {
		if f = (&found{}); len(h.targets[r].found) < maxFound {
			h.targets[r].found[key] = f
		}
	}
	switch {
	case !gone:
		f.gone = time.Time{}
	case f.gone.IsZero():
		f.gone = now
	}
	return gone
}

// adopt has own values written over what was joined from writers that are gone.
func (h *Hybrid) adopt(r role, listed []Entry) (adopted bool) {
	h.joining.Lock()
	defer h.joining.Unlock()
	to := h.home(r)
	for _, e := range listed {
		i, k, err := h.parse(e.Key)
		f := h.targets[r].found[e.Key]
		if err != nil || h.own(k) || f == nil || f.gone.IsZero() || f.aside || f.version == 0 || !h.answersFor(r, i) {
			continue
		}
		if s := &h.segments[i]; s.held[to].first <= f.at && !s.force[to] {
			s.force[to], adopted = true, true
		}
	}
	return adopted
}

// home is the store whose acknowledgement makes a key found in r superfluous.
func (h *Hybrid) home(r role) role {
	if r == disk {
		return disk
	}
	return primary
}

// clear deletes what is superfluous, and has the next reconcile come when more will be.
func (h *Hybrid) clear(ctx context.Context, r role, listed []Entry, begin time.Time) error {
	var dead []Entry
	for _, e := range listed {
		_, k, err := h.parse(e.Key)
		if err != nil {
			continue
		}
		switch ready, ok := h.mayDelete(r, e, k); {
		case ok && !begin.Before(ready):
			dead = append(dead, e)
		case ok:
			h.reconcileBy(ready.Add(jitter(5 * time.Second)))
		}
	}
	if len(dead) == 0 {
		return nil
	}
	err := h.call(ctx, r, "delete", func(ctx context.Context, s Store) error { return s.Delete(ctx, dead) })
	for _, e := range dead {
		if i, k, _ := h.parse(e.Key); err != nil && r == primary && h.own(k) {
			h.segments[i].burn(k.Part, time.Now().Add(abandonedFor)) // it may be done later
		}
	}
	if err == nil {
		h.show(func(s *Stats) { s.Stores[h.place(r)].Deleted += uint64(len(dead)) })
	}
	return err
}

// deletable says whether a listed key is superfluous for a listing that began at ready or later.
//
//   - An own key, when its home holds a whole set made after it and everybody sees that.
//   - A key of a writer that is gone, when the version listed was joined, a whole own set was
//     made after the join, everybody sees that, and the listing shows the writer's last word.
//
// Fallback and disk compare the version once more while deleting; primary cannot, and only its
// writer could change it.
func (h *Hybrid) deletable(r role, e Entry, k Key) (ready time.Time, ok bool) {
	i := h.index[[2]string{k.Prefix, k.Segment}]
	s, to := &h.segments[i], h.home(r)
	whole, lag := &s.held[to], h.targets[to].store.Lag()
	ready = whole.at.Add(lag)
	if e.Version == 0 || whole.last == 0 {
		return ready, false
	}
	if h.own(k) {
		if r == fallback {
			return ready, e.Version <= whole.last
		}
		return ready, e.Version < whole.first && !s.uses(k.Part)
	}
	h.joining.Lock()
	defer h.joining.Unlock()
	f := h.targets[r].found[e.Key]
	if f == nil || f.aside || f.gone.IsZero() || f.version != e.Version || whole.first <= f.at || !h.answersFor(r, i) {
		return ready, false
	}
	if last := f.gone.Add(h.targets[r].store.Lag()); last.After(ready) {
		ready = last
	}
	return ready, true
}
