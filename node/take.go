package node

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/openclaw/edge/crdt"
)

// Decision is the answer to a take or a credit.
type Decision struct {
	Allowed    bool
	Backup     bool   // served by the backup bucket
	shared     bool   // served by the overflow bucket
	Limit      *Limit // in force
	Cost       int64  // tokens
	Level      crdt.Milli
	RetryAfter time.Duration // until the cost fits; 0 when allowed
	ResetAfter time.Duration // until the cost fits, again if it was taken; 0 when it fits now
}

// ErrUnknownLimit is wrapped by the answer to a limit that is not in force.
var ErrUnknownLimit = errors.New("unknown limit")

// Refusal is a request that can never succeed; nothing was taken.
type Refusal struct {
	Status int    // of HTTP
	Detail string // what to do about it
}

func (r *Refusal) Error() string { return r.Detail }

func refuse(format string, args ...any) *Refusal {
	return &Refusal{Status: 400, Detail: fmt.Sprintf(format, args...)}
}

// Take takes cost whole tokens from the bucket of limit and key. It does no I/O, reads no
// system clock, and on a known key allocates nothing. The error is ErrUnknownLimit or a
// *Refusal; a dry bucket is no error.
func (n *Node) Take(limit, key string, cost int64) (d Decision, err error) {
	l, err := n.admissible(limit, key, cost)
	if err != nil {
		return Decision{}, err
	}
	d.Limit, d.Cost = l, cost
	n.take(&d, key)
	return d, nil
}

// admissible checks what can be checked without the bucket.
func (n *Node) admissible(limit, key string, cost int64) (*Limit, error) {
	l := n.force.Load().byName[limit]
	switch {
	case l == nil:
		return nil, fmt.Errorf("%w %q: GET /v1/limits lists those in force", ErrUnknownLimit, limit)
	case key == "":
		return nil, refuse("the key is empty: name what is limited, as in /v1/take/%s/alice", limit)
	case len(key) > crdt.MaxKey:
		return nil, refuse("the key has %d bytes, at most %d: hash longer ones", len(key), crdt.MaxKey)
	case cost <= 0:
		return nil, refuse("the amount must be a positive whole number of tokens, not %d", cost)
	case cost > int64(l.Capacity/crdt.Token):
		return nil, refuse("%d tokens are more than the capacity of %q, %d: it could never succeed; ask for less at a time", cost, limit, int64(l.Capacity/crdt.Token))
	}
	return l, nil
}

// reading is R as takes on this limit's buckets see it now: one load an operation, so that
// all of it happens at one reading.
func (l *Limit) reading() crdt.Instant { return crdt.Instant(l.shown.Load()) }

// take answers d, which names the limit and the cost. Where each function returned an answer, copying
// it took two fifths of the time: too large for registers, it was read before it had all been written.
func (n *Node) take(d *Decision, key string) {
	h := n.table.hash(uint16(d.Limit.Index), key)
	s := n.table.shard(h)
	s.mu.Lock()
	d.Limit = n.current(d.Limit)
	r := d.Limit.reading()
	e, place := n.meet(s, d.Limit, r, h, key)
	if e == nil {
		s.mu.Unlock()
		n.takeOverflow(d)
		return
	}
	n.takeAt(d, s, r, e, place)
	s.mu.Unlock()
	n.waits(d)
}

// takeOverflow takes from the bucket that keys share for which there is no memory. Its key
// is the empty one, which no request may name.
func (n *Node) takeOverflow(d *Decision) {
	h := n.table.hash(uint16(d.Limit.Index), "")
	s := n.table.shard(h)
	s.mu.Lock()
	d.Limit = n.current(d.Limit)
	r := d.Limit.reading()
	if e, place := n.meet(s, d.Limit, r, h, ""); e != nil {
		n.takeAt(d, s, r, e, place)
		d.shared = true
	} // else the shard itself is full
	s.mu.Unlock()
	n.waits(d)
}

// takeAt takes at reading r from a bucket that is current; how long to wait is left to waits. Caller
// holds the shard's lock.
func (n *Node) takeAt(d *Decision, s *shard, r crdt.Instant, e *entry, place uint32) {
	b, l := &e.Bucket, d.Limit
	if b.Level(&l.terms) < -l.terms.MaxDebt && b.Advance(&l.terms, r) {
		s.touch(e, place) // peers must hear what was forgiven
	}
	want := crdt.Milli(d.Cost) * crdt.Token
	if d.Level, d.Allowed = b.TryTake(&l.terms, r, want, n.slot()); d.Allowed {
		s.touch(e, place)
		if e.key == "" {
			s.tally[l.Index].overflow++
		} else {
			s.allow(l.Index)
		}
	} else if left, ok := n.takeBackup(s, l, place, want); ok {
		s.tally[l.Index].backup++
		d.Allowed, d.Backup, d.Level = true, true, left
	} else {
		s.reject(l.Index)
	}
}

// waits tells an answer how long to wait. It divides, for which no lock need be held.
func (n *Node) waits(d *Decision) {
	d.ResetAfter = n.patience(d.Limit, crdt.Milli(d.Cost)*crdt.Token-d.Level)
	if !d.Allowed {
		d.RetryAfter = d.ResetAfter
	}
}

// patience is how long a bucket takes to refill by m, if that is more than 0: at least the
// lease while refill is frozen.
func (n *Node) patience(l *Limit, m crdt.Milli) time.Duration {
	if m <= 0 {
		return 0
	}
	wait := l.Rate.Time(m)
	if n.refill.frozen(l.Policy) {
		wait = max(wait, n.cfg.Lease)
	}
	return wait
}

// slot is what a bucket's new slot is to be called.
func (n *Node) slot() crdt.SlotID {
	return crdt.SlotID{Writer: n.writer, Serial: n.serial.Load()}
}

// current is the definition of l's limit that holds now, and l itself once it is removed. The
// caller holds the lock of a shard and so sees none older than any of its buckets obeys:
// under an older one it would undo a conversion, and open a slot that it has used before.
func (n *Node) current(l *Limit) *Limit {
	if now := n.force.Load().byID[l.Index]; now != nil {
		return now
	}
	return l
}

// meet finds the key's bucket and brings it up to the limit's terms at reading r, or makes a
// full one. It returns nil if there is no memory for it. Caller holds the shard's lock.
func (n *Node) meet(s *shard, l *Limit, r crdt.Instant, h uint64, key string) (*entry, uint32) {
	e, place := s.find(h, uint16(l.Index), key)
	if e != nil {
		n.renew(s, l, r, e, place)
		return e, place
	}
	if !n.room(s, l, key) {
		return nil, 0
	}
	if e, place = s.insert(h, l, key, crdt.NewBucket(&l.terms, r)); e != nil {
		l.buckets.Add(1)
	}
	return e, place
}

// renew brings a bucket up to the limit's terms at reading r: a later epoch, and the
// eviction rule, by which a bucket long full is as good as absent.
func (n *Node) renew(s *shard, l *Limit, r crdt.Instant, e *entry, place uint32) {
	if e.Epoch != l.terms.Epoch || r-e.Touched >= l.terms.Idle { // seldom; small enough to be inlined
		n.renewLate(s, l, place)
	}
}

// renewLate converts a bucket as it was when the epoch began, so that all nodes make the same
// of it, however late each comes by.
func (n *Node) renewLate(s *shard, l *Limit, place uint32) {
	e, r := s.at(place), l.reading()
	if e.Epoch != l.terms.Epoch {
		if e.Epoch > l.terms.Epoch && !e.Epoch.Draft() && !n.knows(e.Epoch) {
			return // a peer's later state, met before the set that explains it
		}
		old := l.prev
		if old == nil {
			old = &l.terms
		}
		at, mark := min(l.began[old.Policy], n.refill.reading(old.Policy)), min(l.began[l.Policy], r)
		if e.Touched > at-n.quiet() {
			s.touch(e, place) // peers that were in the new epoch already refused these takes
		}
		if e.Epoch.Draft() { // met before leaveDraft comes by
			at, mark = 0, r
			s.touch(e, place)
		}
		e.Convert(old, &l.terms, at, mark)
	}
	if r-e.Touched >= l.terms.Idle && e.Absent(&l.terms, r) {
		n.retire(e)
		e.Bucket = crdt.NewBucket(&l.terms, r)
		s.tally[l.Index].evictedFull++
	}
}

// room makes sure that the limit may hold one more bucket, at the price of one that is
// full. The overflow bucket always has room. Caller holds the shard's lock.
func (n *Node) room(s *shard, l *Limit, key string) bool {
	if l.buckets.Load() < int64(l.MaxBuckets) || key == "" {
		return true
	}
	r := l.reading()
	for range min(evictTry, int(s.next)-1) {
		if s.hand++; s.hand >= s.next {
			s.hand = 1
		}
		e := s.at(s.hand)
		if e.live() && int(e.limit) == l.Index && e.key != "" && e.Full(&l.terms, r) {
			n.evict(s, l, s.hand)
			s.tally[l.Index].evictedMemory++
			return true
		}
	}
	return false
}

// evict forgets a bucket, and with it the value of this node's slot in it.
func (n *Node) evict(s *shard, l *Limit, place uint32) {
	n.retire(s.at(place))
	s.remove(place)
	l.buckets.Add(-1)
}

// retire makes sure that no slot of a bucket about to be forgotten is ever written to again:
// the next one has another serial. It does not raise the serial for buckets that were opened
// before the last time: a flood of keys would use up 32 bits within days. A later generation
// hides what slots there were before it.
func (n *Node) retire(e *entry) {
	last := n.slot()
	if e.Gen > 0 || slices.ContainsFunc(e.Slots(), func(s crdt.Slot) bool { return s.SlotID == last }) {
		n.serial.CompareAndSwap(last.Serial, last.Serial+1)
	}
}

// Credit gives up to tokens back to the bucket, clipped to the room left.
func (n *Node) Credit(limit, key string, tokens int64) (Decision, error) {
	l, err := n.admissible(limit, key, tokens)
	if err != nil {
		return Decision{}, err
	}
	h := n.table.hash(uint16(l.Index), key)
	s := n.table.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	l = n.current(l)
	d := Decision{Allowed: true, Limit: l, Cost: tokens, Level: l.Capacity}
	r := l.reading()
	e, place := n.meet(s, l, r, h, key)
	if e == nil {
		return d, nil // no memory for the key: it shares a bucket that is not its own to credit
	}
	if e.Credit(&l.terms, r, crdt.Milli(tokens)*crdt.Token, n.slot()) > 0 {
		s.touch(e, place)
	}
	d.Level = e.Level(&l.terms)
	return d, nil
}

// SlotInfo is one writer's part of a bucket.
type SlotInfo struct {
	Node, Writer    string
	Taken, Credited crdt.Milli
}

// Bucket is what Look sees.
type Bucket struct {
	Limit       *Limit
	Key         string
	Level, Debt crdt.Milli
	Slots       []SlotInfo
}

// Look reads a bucket without taking. A key that was never met has a full bucket.
func (n *Node) Look(limit, key string) (Bucket, error) {
	l, err := n.admissible(limit, key, 1)
	if err != nil {
		return Bucket{}, err
	}
	h := n.table.hash(uint16(l.Index), key)
	s := n.table.shard(h)
	s.mu.Lock()
	l = n.current(l)
	r := l.reading()
	b := crdt.NewBucket(&l.terms, r)
	if e, place := s.find(h, uint16(l.Index), key); e != nil {
		n.renew(s, l, r, e, place)
		if e.Advance(&l.terms, r) {
			s.touch(e, place)
		}
		b = e.Clone()
	}
	s.mu.Unlock()
	look := Bucket{Limit: l, Key: key, Level: b.Level(&l.terms), Slots: n.slotInfo(b.Slots())}
	look.Debt = max(0, -look.Level)
	return look, nil
}
