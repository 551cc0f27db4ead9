package persist

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// lookAfter makes sure that a store still has what nobody else holds of an earlier round: one that
// came back empty, or was cleared, takes new values as if nothing had been. It costs one call, and
// only where that is cheap; where it is not, the next reconcile finds out. lost: something is to
// be written again. unsure: why it is not known, and nothing to be acknowledged.
func (h *Hybrid) lookAfter(ctx context.Context, begin time.Time, asked bool) (lost bool, unsure error) {
	for _, r := range []role{primary, fallback} {
		t := h.targets[r]
		if t == nil {
			continue
		}
		l, ok := t.store.(looker)
		keys := h.sole(r, begin)
		if !ok || len(keys) == 0 {
			continue
		}
		if !t.ready(time.Now(), asked) {
			return lost, fmt.Errorf("persist: what %s alone holds is not known to be there still: %w", t.store.Name(), t.trouble(time.Now()))
		}
		var there []Entry
		now := time.Now()
		err := h.call(ctx, r, "list", func(ctx context.Context, _ Store) (err error) {
			there, err = l.Look(ctx, keys)
			return err
		})
		if err != nil {
			return lost, fmt.Errorf("persist: what %s alone holds is not known to be there still: %w", t.store.Name(), err)
		}
		lost = h.lost(r, there, now) || lost
	}
	return lost, nil
}

// sole is the own keys whose values the store alone has of the stores that nodes share; none if
// all of them were written since begin.
func (h *Hybrid) sole(r role, begin time.Time) (keys []string) {
	older := false
	for i := range h.segments {
		key := Key{Prefix: h.cfg.Segments[i].Prefix, Segment: h.cfg.Segments[i].Name, Node: h.cfg.Node, Incarnation: h.cfg.Incarnation}
		whole := &h.segments[i].held[r]
		parts := whole.parts
		if r == fallback {
			whole = &h.segments[i].cover
			parts = slices.Collect(maps.Keys(whole.lent))
		}
		if whole.empty && r == primary {
			continue // what is not there is as good
		}
		for _, key.Part = range parts {
			keys = append(keys, key.String())
		}
		older = older || len(parts) > 0 && whole.at.Before(begin)
	}
	if !older {
		return nil
	}
	return keys
}

// lost finds own values that the store acknowledged and holds no more: it came back empty or as
// it was some time ago, or somebody has cleared it. What they were is unwritten again, so that the
// next round writes it and no snapshot is acknowledged on their account. It says whether there
// were any. A listing that begins within the store's lag may not show them yet.
func (h *Hybrid) lost(r role, listed []Entry, begin time.Time) (any bool) {
	there := map[[2]int]uint64{} // versions by segment and part
	for _, e := range listed {
		if i, k, err := h.parse(e.Key); err == nil && h.own(k) {
			if e.Version == 0 {
				e.Version = math.MaxUint64 // there it is
			}
			there[[2]int{i, k.Part}] = e.Version
		}
	}
	count, first := 0, ""
	for i := range h.segments {
		s := &h.segments[i]
		if !s.lost(r, begin.Add(-h.targets[r].store.Lag()), func(part int) uint64 { return there[[2]int{i, part}] }) {
			continue
		}
		if count++; count == 1 {
			first = h.cfg.Segments[i].Name
		}
	}
	if count > 0 {
		h.log.Error("persist: a store has lost what it had acknowledged; it is written again", "store", h.targets[r].store.Name(),
			"segments", count, "first", first)
	}
	return count > 0
}

// lost forgets sets that are no longer whole, of those acknowledged up to a time.
func (s *segment) lost(r role, upTo time.Time, version func(part int) uint64) bool {
	if r == fallback {
		for part, sequence := range s.cover.lent {
			if version(part) < sequence {
				s.cover = s.held[primary]
				return true
			}
		}
		return false
	}
	whole := &s.held[r]
	if whole.last == 0 || whole.empty || whole.at.After(upTo) {
		return false
	}
	for _, part := range whole.parts {
		if version(part) >= whole.first {
			continue
		}
		if len(whole.parts) > 1 { // the rest of it is left alone, in case that the listing was wrong
			for _, part := range whole.parts {
				s.burn(part, time.Now().Add(abandonedFor))
			}
		}
		*whole = set{}
		if r == primary {
			s.cover = set{}
		}
		return true
	}
	return false
}
