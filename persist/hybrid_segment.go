package persist

import (
	"slices"
	"time"
)

// segment is what is known of one segment's own values.
type segment struct {
	change uint64 // newest, as State said
	owned  bool
	size   int  // bytes when last packed
	joined bool // something was found of it; guarded by Hybrid.joining

	held  [roles]set  // newest that the store has wholly; unused for fallback
	cover set         // newest that primary and fallback have wholly between them
	force [roles]bool // to be written though nothing changed: gained, or adopted from a writer that is gone

	fallen  uint64         // newest sequence in fallback
	refused [roles]refusal // what the store will never take
	burnt   map[int]time.Time
}

// refusal is the change number of a content that a store rejected.
type refusal struct {
	change uint64
	yes    bool
}

// set is a segment as one Pack made it. The zero set is that of an empty segment never stored.
type set struct {
	change      uint64 // of the state before the Pack; the set has all up to it
	first, last uint64 // sequences of its parts; 0: there are none
	parts       []int
	lent        map[int]uint64 // parts that fallback alone has, and their sequences; of cover only
	at          time.Time      // acknowledged
	empty       bool           // one part without payload, over what was there before
}

// expiring says whether the set must be written again, lest the store drop it.
func (s *set) expiring(ttl, every time.Duration, now time.Time) bool {
	return ttl > 0 && s.last != 0 && !s.empty && !now.Before(s.at.Add(ttl/3-every))
}

// pending says whether fallback holds something newer than what primary has.
func (s *segment) pending() bool { return s.fallen > s.held[primary].last }

// stale says whether the store r lacks something.
func (s *segment) stale(r role, ttl, every time.Duration, now time.Time) bool {
	return s.force[r] || s.held[r].change < s.change || s.held[r].expiring(ttl, every, now)
}

func (s *segment) isRefused(r role) bool {
	return s.refused[r].yes && s.refused[r].change == s.change
}

// stored says whether primary and fallback between them have all that State said last.
func (s *segment) stored() bool { return s.cover.change >= s.change }

// numbers gives the k parts of a new set their numbers. One part overwrites one part: that is
// atomic. Several are not, entries wander between them, and a crash half-way leaves a mixture:
// so they go beside every set that is still whole somewhere. A number that an abandoned write
// may yet reach is left alone: where the store has no versions it would overwrite what is newer.
func (s *segment) numbers(k int, now time.Time) []int {
	for p, until := range s.burnt {
		if !now.Before(until) {
			delete(s.burnt, p)
		}
	}
	free := func(p int) bool {
		if _, burnt := s.burnt[p]; burnt {
			return false
		}
		for _, whole := range s.sets() {
			if slices.Contains(whole.parts, p) && (k > 1 || len(whole.parts) > 1) {
				return false
			}
		}
		return true
	}
	parts := make([]int, 0, k)
	for p := 0; len(parts) < k; p++ {
		if free(p) {
			parts = append(parts, p)
		}
	}
	return parts
}

func (s *segment) burn(part int, until time.Time) {
	if s.burnt == nil {
		s.burnt = map[int]time.Time{}
	}
	s.burnt[part] = until
}

// uses says whether a set that is whole somewhere has the part.
func (s *segment) uses(part int) bool {
	for _, whole := range s.sets() {
		if slices.Contains(whole.parts, part) {
			return true
		}
	}
	return false
}

// sets is what no write may damage.
func (s *segment) sets() [3]*set { return [3]*set{&s.held[primary], &s.held[disk], &s.cover} }

// known says whether any store has a set of it.
func (s *segment) known() bool {
	return s.held[primary].last != 0 || s.held[disk].last != 0 || s.cover.last != 0
}
