package gossip

import (
	"cmp"
	"slices"
)

const maxGaps = 64 // ranges beyond a gap remembered for one writer

// span is a range of versions (from, to].
type span struct{ from, to uint64 }

// vector says what we have: everything of each writer up to a version, and some ranges
// beyond it, so that it can jump once the gap between is filled.
type vector struct {
	upTo    map[uint64]uint64
	writers []uint64          // of upTo, sorted
	beyond  map[uint64][]span // sorted, disjoint, not touching
}

func newVector() vector {
	return vector{upTo: make(map[uint64]uint64), beyond: make(map[uint64][]span)}
}

// has says whether (from, to] of writer is in.
func (v *vector) has(writer uint64, s span) bool {
	if s.to <= v.upTo[writer] {
		return true
	}
	for _, b := range v.beyond[writer] {
		if b.from <= s.from && s.to <= b.to {
			return true
		}
	}
	return false
}

// room says whether writer is known, or may still be taken in.
func (v *vector) room(writer uint64) bool {
	_, known := v.upTo[writer]
	return known || len(v.upTo)+len(v.beyond) < maxWriters
}

// take notes that s of writer is in. It reports false when a gap had to be forgotten.
func (v *vector) take(writer uint64, s span) bool {
	if s.from <= v.upTo[writer] {
		v.raise(writer, s.to)
		return true
	}
	list := v.beyond[writer]
	i, _ := slices.BinarySearchFunc(list, s.from, func(b span, from uint64) int { return cmp.Compare(b.from, from) })
	if i > 0 && list[i-1].to >= s.from {
		i--
		s.from = list[i].from
	}
	j := i
	for j < len(list) && list[j].from <= s.to {
		s.to = max(s.to, list[j].to)
		j++
	}
	list = slices.Replace(list, i, j, s)
	full := len(list) > maxGaps
	if full {
		list = list[:maxGaps]
	}
	v.beyond[writer] = list
	return !full
}

// raise notes that everything of writer up to version is in.
func (v *vector) raise(writer, version uint64) {
	if version <= v.upTo[writer] {
		return
	}
	list := v.beyond[writer]
	for len(list) > 0 && list[0].from <= version {
		version = max(version, list[0].to)
		list = list[1:]
	}
	if i, known := slices.BinarySearch(v.writers, writer); !known {
		v.writers = slices.Insert(v.writers, i, writer)
	}
	v.upTo[writer] = version
	if len(list) == 0 {
		delete(v.beyond, writer)
	} else {
		v.beyond[writer] = list
	}
}

func (v *vector) remove(writer uint64) {
	if i, known := slices.BinarySearch(v.writers, writer); known {
		v.writers = slices.Delete(v.writers, i, i+1)
	}
	delete(v.upTo, writer)
	delete(v.beyond, writer)
}

// whole is all of it, sorted.
func (v *vector) whole() []mark {
	ms := make([]mark, len(v.writers))
	for i, w := range v.writers {
		ms[i] = mark{w, v.upTo[w]}
	}
	return ms
}

// marks is what one frame to the node of writer to has room for: all of it, or a part, from the
// writer turn on; next is where the following frame to that node goes on. What we have of to
// itself is in each part: it is the acknowledgement that to waits for, and would resend without.
func (v *vector) marks(room int, to, turn uint64) (part []mark, next uint64) {
	n := len(v.writers)
	if n <= room {
		return v.whole(), turn
	}
	part = make([]mark, 0, room)
	if upTo, known := v.upTo[to]; known {
		part = append(part, mark{to, upTo})
	}
	i, _ := slices.BinarySearch(v.writers, turn)
	for ; len(part) < room; i++ {
		if w := v.writers[i%n]; w != to {
			part = append(part, mark{w, v.upTo[w]})
			next = w + 1
		}
	}
	slices.SortFunc(part, func(a, b mark) int { return cmp.Compare(a.writer, b.writer) })
	return part, next
}
