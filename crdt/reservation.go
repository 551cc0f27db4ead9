package crdt

import (
	"encoding/binary"
	"time"
)

// ReservationID names a reservation, and says itself until when it holds:
//
//	┌───────────┬───────────────────────┬──────────┐
//	│ random 16 │ deadline 4            │ check 4  │
//	│           │ Unix s, big endian    │          │
//	└───────────┴───────────────────────┴──────────┘
//
// The check is its maker's affair. Of the limit or the key nothing is in it.
type ReservationID [24]byte

// NewReservationID fills in the deadline; the check is left 0.
func NewReservationID(random [16]byte, deadline int64) (id ReservationID) {
	copy(id[:], random[:])
	binary.BigEndian.PutUint32(id[16:], uint32(deadline))
	return id
}

// Deadline is the second, since 1970, up to which the estimate is kept for the reservation.
func (id *ReservationID) Deadline() int64 { return int64(binary.BigEndian.Uint32(id[16:])) }

// ReservationKept is how long after its deadline a reservation is remembered, so that a late
// settlement still takes what was used.
const ReservationKept = 5 * time.Minute

// Absent tells whether a reservation is to be treated as if it had never been. The rule holds
// before every join, so that what was dropped here does not come back from elsewhere.
func (id *ReservationID) Absent(now int64) bool {
	return now > id.Deadline()+int64(ReservationKept/time.Second)
}

const (
	// MaxUsed is the most tokens that a reservation may turn out to have used.
	MaxUsed = int64(MaxCapacity / Token)
	// maxBearers bounds the slots of one account: writers that have moved tokens for it.
	maxBearers = 64
	maxBorne   = 1 << 50 // tokens of one slot, each way
)

// Estimate is what was reserved: said once, by the node that reserved it, and never changed.
type Estimate struct {
	Limit, Key string
	Node       string // that made the reservation
	Cost       int64  // tokens
	Apart      bool   // not taken from the key's bucket: that one never bears anything for it
}

// Reservation is an estimate taken from a bucket, and what was really used in its place. A new one has
// its ID and Estimate, and Bear says what was taken; where only its use is known yet, its ID and Settle
// do. Join joins two copies.
//
//	used      the larger one holds: two settlements on two sides of a cut agree, on the safe side
//	estimate  immutable; not known on a node that a settlement reached first
//	account   a PN-counter in tokens: what each writer has taken from the bucket for this
//	          reservation (N), and credited to it (P). Net = ΣN − ΣP is what the bucket bears
//
// A writer raises its slot of the account by what it puts into its slot of the bucket, in one step
// (the bucket's may be clipped: by the room that is left, or the debt that is forgiven anyway). So
// the account is that part of the bucket's own counter that belongs to this
// reservation, and joins like it: whoever sees Net differ from Target moves the difference and
// says so, and however many did that without knowing of each other, those who hear of all of them
// see by how much it was too much, and somebody moves that back. That somebody should be one node
// at a time is to save the detour; what comes out does not depend on it.
//
// Why not one (revision, net) register, written by one responsible node: who that is follows from
// the roster, and behind a cut a node that left and came back is not yet back for everybody. Two
// would write the same revision; one of their changes to the bucket would be in no account, for good.
type Reservation struct {
	ID ReservationID
	Estimate
	used    int64 // and 1; 0: not settled
	account PNCounter
}

// Known tells whether the estimate is known: if not, there is only a settlement that overtook it.
func (r *Reservation) Known() bool { return r.Limit != "" }

// Settle records what was used, of 0 to MaxUsed tokens, unless as much or more is recorded.
func (r *Reservation) Settle(used int64) (changed bool) {
	changed = used+1 > r.used
	r.used = max(r.used, used+1)
	return changed
}

// Used is what was used, if that is known.
func (r *Reservation) Used() (tokens int64, settled bool) { return r.used - 1, r.used > 0 }

// Target is what the bucket is to bear at a time (Unix seconds): what was used; else the estimate;
// but nothing once the deadline has passed: who never settles gets it back.
func (r *Reservation) Target(now int64) int64 {
	switch {
	case r.Apart || !r.Known():
		return r.Net()
	case r.used > 0:
		return r.used - 1
	case now > r.ID.Deadline():
		return 0
	}
	return r.Cost
}

// Net is what the bucket bears as far as is known here.
func (r *Reservation) Net() int64 { return -r.account.Value() }

// Bear records in the writer's own slot that it has taken so many tokens more from the bucket; below
// 0: credited. False: the account has no room for another writer, and nothing is to be moved.
func (r *Reservation) Bear(w Writer, more int64) bool {
	id := SlotID{Writer: w}
	if r.account.find(id) == nil && len(r.account.slots) >= maxBearers {
		return false
	}
	r.account.Raise(id, max(0, -more), max(0, more))
	return true
}

// BorneBy tells whether the writer has moved tokens for the reservation.
func (r *Reservation) BorneBy(w Writer) bool { return r.account.find(SlotID{Writer: w}) != nil }

// Account is the reservation's own memory: to be read, under the owner's lock.
func (r *Reservation) Account() []Slot { return r.account.slots }

// Join makes r the least upper bound of both, which must have the same ID.
func (r *Reservation) Join(o *Reservation) (learnt bool) {
	learnt = o.used > r.used
	r.used = max(r.used, o.used)
	if !o.Known() {
		return learnt
	}
	if r.Estimate.before(&o.Estimate) {
		r.Estimate, learnt = o.Estimate, true
	}
	for _, s := range o.account.slots {
		if r.account.find(s.SlotID) == nil && len(r.account.slots) >= maxBearers {
			continue
		}
		one := PNCounter{sum: s.P - s.N, slots: []Slot{s}}
		grew, _ := r.account.Join(&one)
		learnt = learnt || grew
	}
	return learnt
}

// before orders estimates. Honest nodes never have two for one reservation; with forged ones all
// nodes are to end with the same.
func (e *Estimate) before(o *Estimate) bool {
	for _, c := range [][2]string{{e.Limit, o.Limit}, {e.Key, o.Key}, {e.Node, o.Node}} {
		if c[0] != c[1] {
			return c[0] < c[1]
		}
	}
	if e.Cost != o.Cost {
		return e.Cost < o.Cost
	}
	return o.Apart && !e.Apart
}

// Charge takes n at reading r whatever the level is, as it has been used already; but no further
// down than debt is not forgiven. It returns how much it took.
func (b *Bucket) Charge(t *Terms, r Instant, n Milli, id SlotID) Milli {
	b.Advance(t, r)
	n = min(n, b.Filled+Milli(b.sum)+t.MaxDebt)
	if n <= 0 {
		return 0
	}
	b.raise(t, r, id, 0, int64(n))
	return n
}
