package judge

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/openclaw/edge/crdt"
)

// RecentFor is how far back running figures go.
const RecentFor = 3 * time.Minute

const (
	recentEvents = 1000
	mostRecent   = 20_000 // keys; a full bucket that nobody asks for makes room first
	spans        = 12     // that RecentFor is cut into, of one key
	spanFor      = RecentFor / spans
	sweepEvery   = time.Second
)

// Sum is tokens: offered, admitted by the cluster from the limit itself and from backups, and
// what ideal buckets would have admitted of the same takes.
type Sum struct{ Offered, Admitted, Backup, Ideal int64 }

// Ratio is admitted against ideal; 1 where neither admitted anything.
func (s Sum) Ratio() float64 {
	if s.Ideal == 0 && s.Admitted == 0 {
		return 1
	}
	return float64(s.Admitted) / float64(s.Ideal)
}

func (s *Sum) add(o Sum) {
	s.Offered += o.Offered
	s.Admitted += o.Admitted
	s.Backup += o.Backup
	s.Ideal += o.Ideal
}

// Recent is the figures of a load without end, in bounded memory: the last minutes by limit and
// by key, and the sums since the start.
type Recent struct {
	Total    map[string]Sum // by limit
	Unjudged uint64         // takes of keys for which there was no room; ideal buckets are held to have done the same

	limits map[string]piece
	keys   map[ID]*recentKey
	bySec  map[string]*[RecentFor / time.Second]Second // by limit; a second's place is its number, modulo
	swept  time.Duration
}

// Second is what one second brought.
type Second struct {
	At time.Duration // when it began
	Sum
}

// KeySum is what the last minutes brought to a key.
type KeySum struct {
	ID
	Sum
	Overdraft float64 // now, in tokens: how far below zero one bucket would be; below 0: what is left in it
}

type recentKey struct {
	ideal, real level
	spans       [spans]span
}

type span struct {
	number int64 // since the start
	Sum
}

func newRecent(limits map[string]*Ideal) *Recent {
	r := &Recent{Total: make(map[string]Sum), limits: make(map[string]piece), keys: make(map[ID]*recentKey),
		bySec: make(map[string]*[RecentFor / time.Second]Second)}
	for name, i := range limits {
		r.limits[name] = piece{capacity: i.Capacity, rate: i.Rate}
	}
	return r
}

// redefine changes what ideal buckets obey. A limit that is gone keeps its last definition.
func (r *Recent) redefine(limits []crdt.Definition, at time.Duration) {
	if r == nil {
		return
	}
	for _, d := range limits {
		r.limits[d.Name] = piece{at, int64(d.Capacity / crdt.Token), d.Rate.PerSecond()}
	}
	for id, k := range r.keys {
		for _, l := range []*level{&k.ideal, &k.real} {
			l.obey(r.limits[id.Limit])
		}
	}
}

func (r *Recent) note(id ID, t Take) {
	s := Sum{Offered: t.Cost}
	switch {
	case t.Backup:
		s.Backup = t.Cost
	case t.Admitted:
		s.Admitted = t.Cost
	}
	k := r.key(id, t.At)
	if k == nil {
		r.Unjudged++
		s.Ideal = s.Admitted
	} else {
		if k.ideal.take(t.At, t.Cost) {
			s.Ideal = t.Cost
		}
		if s.Admitted > 0 {
			k.real.force(t.At, t.Cost)
		}
		k.span(t.At).add(s)
	}
	total := r.Total[id.Limit]
	total.add(s)
	r.Total[id.Limit] = total
	r.second(id.Limit, t.At).add(s)
}

func (k *recentKey) span(at time.Duration) *Sum {
	number := int64(at / spanFor)
	s := &k.spans[number%spans]
	if s.number != number {
		*s = span{number: number}
	}
	return &s.Sum
}

func (r *Recent) second(limit string, at time.Duration) *Sum {
	of := r.bySec[limit]
	if of == nil {
		of = new([RecentFor / time.Second]Second)
		r.bySec[limit] = of
	}
	began := at.Truncate(time.Second)
	s := &of[int(at/time.Second)%len(of)]
	if s.At != began {
		*s = Second{At: began}
	}
	return &s.Sum
}

// key finds a key, or makes room for it; nil: there is none.
func (r *Recent) key(id ID, now time.Duration) *recentKey {
	k := r.keys[id]
	if k != nil {
		return k
	}
	if len(r.keys) >= mostRecent {
		r.sweep(now)
	}
	if len(r.keys) >= mostRecent {
		return nil
	}
	l := level{piece: r.limits[id.Limit], at: now}
	l.left = l.capacity * billion
	k = &recentKey{ideal: l, real: l}
	r.keys[id] = k
	return k
}

// sweep forgets keys whose buckets are full again, the ideal one and the cluster's: they would
// begin as they are.
func (r *Recent) sweep(now time.Duration) {
	if now-r.swept < sweepEvery {
		return
	}
	r.swept = now
	maps.DeleteFunc(r.keys, func(_ ID, k *recentKey) bool {
		k.ideal.advance(now)
		k.real.advance(now)
		return k.ideal.isFull() && k.real.isFull()
	})
}

// Seconds is the last minutes of a limit before now, all its keys together, oldest first; seconds
// without a take are there, too.
func (r *Recent) Seconds(limit string, now time.Duration) (list []Second) {
	of := r.bySec[limit]
	for at := max(0, now.Truncate(time.Second)-RecentFor+time.Second); at <= now; at += time.Second {
		s := Second{At: at}
		if of != nil && of[int(at/time.Second)%len(of)].At == at {
			s = of[int(at/time.Second)%len(of)]
		}
		list = append(list, s)
	}
	return list
}

// Keys is the keys of a limit that most was asked of in the last minutes before now, at most so
// many, the busiest first.
func (r *Recent) Keys(limit string, now time.Duration, most int) []KeySum {
	var list []KeySum
	for id, k := range r.keys {
		if id.Limit == limit {
			list = append(list, k.sum(id, now))
		}
	}
	return busiestSums(list, most)
}

func busiestSums(list []KeySum, most int) []KeySum {
	slices.SortFunc(list, func(a, b KeySum) int {
		return cmp.Or(cmp.Compare(b.Offered, a.Offered), compareID(a.ID, b.ID))
	})
	return list[:min(most, len(list))]
}

func (k *recentKey) sum(id ID, now time.Duration) KeySum {
	k.real.advance(now)
	s := KeySum{ID: id, Overdraft: -float64(k.real.left) / billion}
	for i := range k.spans {
		if p := &k.spans[i]; p.number > int64(now/spanFor)-spans {
			s.add(p.Sum)
		}
	}
	return s
}

func (r *Recent) busiest(most int) (ids []ID) {
	var list []KeySum
	now := r.swept
	for id, k := range r.keys {
		now = max(now, k.real.at)
		list = append(list, k.sum(id, now))
	}
	for _, s := range busiestSums(list, most) {
		ids = append(ids, s.ID)
	}
	return ids
}
