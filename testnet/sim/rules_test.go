package sim_test

import (
	"maps"
	"testing"
	"time"

	"github.com/openclaw/edge/testnet/judge"
)

// The rules of other limiters, in a few lines each, on the toy cluster and under the judge
// that the product is under: the judge condemns every one of them, by a law that the fault
// breaks, and acquits ours in all of the same places.
func TestWrongRulesAreCondemned(t *testing.T) {
	small := judge.Ideal{Capacity: 100, Rate: 10}
	saturated := func(nodes, asked int, loss float64) toy {
		return toy{nodes: make([]rule, nodes), round: 50 * time.Millisecond, delay: 10 * time.Millisecond, loss: loss,
			limit: small, offered: 500, asked: asked, lasts: 30 * time.Second}
	}
	lawful := saturated(3, 3, 0)
	lawful.offered, lawful.moves = 8, 10*time.Second
	for _, s := range []struct {
		name  string
		rule  maker
		place toy
		law   string
	}{
		{"one shared slot, merged by max", newShared, saturated(5, 5, 0), "conserved"},
		{"one shared slot, merged by max, at length", newShared, saturated(5, 5, 0), "bounded"},
		{"refill by every node", newRefillAll, saturated(5, 5, 0), "bounded"},
		{"timestamps cut to seconds, one node asked", newSeconds, saturated(3, 1, 0), "bounded"},
		{"a window roll that keeps the peers' counts", newWindow, lawful, "lawful"},
		{"hits dropped when a peer does not answer", newDropped, saturated(3, 3, 0.3), "conserved"},
	} {
		t.Run(s.name, func(t *testing.T) {
			place := s.place
			v := place.play(s.rule, 1)
			broken := make(map[string]string)
			for _, b := range v.Breaches {
				broken[b.Law] = b.Detail
			}
			if _, ok := broken[s.law]; !ok {
				t.Errorf("not condemned by the law %q, but by %v", s.law, broken)
			}
			t.Logf("%s: %s", s.law, broken[s.law])
			place = s.place
			for _, b := range place.play(newOurs, 1).Breaches {
				t.Errorf("ours, in the same place: %v", b)
			}
		})
	}
}

// fill is what refill adds in a time, in millitokens.
func fill(l judge.Ideal, d time.Duration) int64 { return int64(l.Rate * 1000 * d.Seconds()) }

// shared: one pair (taken, added) for all, merged by max (patrol). Concurrent takes overwrite
// each other.
type shared struct {
	limit        judge.Ideal
	spent, added int64
	last         time.Duration
}

func newShared(_, _ int, l judge.Ideal) rule { return &shared{limit: l, added: 1000 * l.Capacity} }
func (s *shared) level(now time.Duration) int64 {
	s.added += min(fill(s.limit, now-s.last), 1000*s.limit.Capacity-(s.added-s.spent))
	s.last = now
	return s.added - s.spent
}
func (s *shared) take(now time.Duration) bool {
	if s.level(now) < 1000 {
		return false
	}
	s.spent += 1000
	return true
}
func (s *shared) state() any { return *s }
func (s *shared) receive(now time.Duration, _ int, state any) {
	o := state.(shared)
	s.spent, s.added, s.last = max(s.spent, o.spent), max(s.added, o.added), max(s.last, o.last)
}
func (s *shared) taken() map[int]int64 { return map[int]int64{0: s.spent} }

// refillAll: a slot a node for takes, and one for the refill that each adds by itself (colibri).
type refillAll struct {
	me           int
	limit        judge.Ideal
	spent, added map[int]int64
	last         time.Duration
}

func newRefillAll(i, _ int, l judge.Ideal) rule {
	return &refillAll{me: i, limit: l, spent: make(map[int]int64), added: make(map[int]int64)}
}
func (r *refillAll) level(now time.Duration) int64 {
	sum := 1000 * r.limit.Capacity
	for i := range 64 {
		sum += r.added[i] - r.spent[i]
	}
	more := min(fill(r.limit, now-r.last), max(0, 1000*r.limit.Capacity-sum))
	r.added[r.me] += more
	r.last = now
	return sum + more
}
func (r *refillAll) take(now time.Duration) bool {
	if r.level(now) < 1000 {
		return false
	}
	r.spent[r.me] += 1000
	return true
}
func (r *refillAll) state() any { return [2]map[int]int64{maps.Clone(r.spent), maps.Clone(r.added)} }
func (r *refillAll) receive(_ time.Duration, _ int, state any) {
	o := state.([2]map[int]int64)
	for i := range o[0] {
		r.spent[i] = max(r.spent[i], o[0][i])
	}
	for i := range o[1] {
		r.added[i] = max(r.added[i], o[1][i])
	}
}
func (r *refillAll) taken() map[int]int64 { return r.spent }

// seconds: right slots, but the time of the last refill travels in whole seconds, and a
// merge takes it over: what was refilled since then is refilled again.
type seconds struct {
	me    int
	limit judge.Ideal
	added int64
	spent map[int]int64
	last  time.Duration
}

func newSeconds(i, _ int, l judge.Ideal) rule {
	return &seconds{me: i, limit: l, added: 1000 * l.Capacity, spent: make(map[int]int64)}
}
func (s *seconds) level(now time.Duration) int64 {
	have := s.added
	for _, n := range s.spent {
		have -= n
	}
	more := min(fill(s.limit, now-s.last), 1000*s.limit.Capacity-have)
	s.added += more
	s.last = now
	return have + more
}
func (s *seconds) take(now time.Duration) bool {
	if s.level(now) < 1000 {
		return false
	}
	s.spent[s.me] += 1000
	return true
}

type secondsState struct {
	added int64
	spent map[int]int64
	last  time.Duration
}

func (s *seconds) state() any {
	return secondsState{s.added, maps.Clone(s.spent), s.last.Truncate(time.Second)}
}
func (s *seconds) receive(_ time.Duration, _ int, state any) {
	o := state.(secondsState)
	for i, n := range o.spent {
		s.spent[i] = max(s.spent[i], n)
	}
	s.added = max(s.added, o.added)
	s.last = o.last
}
func (s *seconds) taken() map[int]int64 { return s.spent }

// window: counts of the current window, by node; at the roll a node forgets its own count,
// but keeps what the peers said of the window before (limitador).
type window struct {
	me    int
	limit judge.Ideal
	hits  map[int]int64
	all   int64
	began time.Duration
}

func newWindow(i, _ int, l judge.Ideal) rule {
	return &window{me: i, limit: l, hits: make(map[int]int64)}
}
func (w *window) length() time.Duration {
	return time.Duration(float64(w.limit.Capacity) / w.limit.Rate * float64(time.Second))
}
func (w *window) level(now time.Duration) int64 {
	if now-w.began >= w.length() {
		w.began = now.Truncate(w.length())
		w.hits[w.me] = 0
	}
	left := 1000 * w.limit.Capacity
	for _, n := range w.hits {
		left -= n
	}
	return left
}
func (w *window) take(now time.Duration) bool {
	if w.level(now) < 1000 {
		return false
	}
	w.hits[w.me] += 1000
	w.all += 1000
	return true
}
func (w *window) state() any { return maps.Clone(w.hits) }
func (w *window) receive(_ time.Duration, from int, state any) {
	for i, n := range state.(map[int]int64) {
		if i != w.me {
			w.hits[i] = max(w.hits[i], n) // a grow-only counter that never hears of the roll
		}
	}
}
func (w *window) taken() map[int]int64 { return map[int]int64{w.me: w.all} }

// dropped: node 0 owns the key; the others decide on its last answer and report their hits
// once, whether or not they arrive (gubernator, GLOBAL).
type dropped struct {
	me      int
	limit   judge.Ideal
	left    int64
	last    time.Duration
	pending map[int]int64
	known   map[int]int64
}

func newDropped(i, _ int, l judge.Ideal) rule {
	return &dropped{me: i, limit: l, left: 1000 * l.Capacity, pending: make(map[int]int64), known: make(map[int]int64)}
}
func (d *dropped) level(now time.Duration) int64 {
	d.left = min(1000*d.limit.Capacity, d.left+fill(d.limit, now-d.last))
	d.last = now
	return d.left
}
func (d *dropped) take(now time.Duration) bool {
	if d.level(now) < 1000 {
		return false
	}
	d.left -= 1000
	if d.me == 0 {
		d.known[0] += 1000
	} else {
		d.pending[d.me] += 1000
	}
	return true
}

type droppedState struct {
	left        int64
	hits, known map[int]int64
}

func (d *dropped) state() any {
	s := droppedState{d.left, d.pending, maps.Clone(d.known)}
	d.pending = make(map[int]int64) // sent, and so forgotten
	return s
}
func (d *dropped) receive(now time.Duration, from int, state any) {
	s := state.(droppedState)
	switch {
	case d.me == 0:
		d.level(now)
		for i, n := range s.hits {
			d.left -= n
			d.known[i] += n
		}
	case from == 0:
		d.left, d.last, d.known = s.left, now, s.known
	}
}
func (d *dropped) taken() map[int]int64 { return d.known }
