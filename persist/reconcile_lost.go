package persist

import (
	"math"
	"time"
)

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
