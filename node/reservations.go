package node

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/openclaw/edge/crdt"
)

// reservations are estimates that were taken from buckets, to be replaced by what was really used
// (reserve.go). They lie beside the buckets, as items of the same replica
// (reservations_replica.go), and in a few segments of their own (reservations_segment.go).
//
//	Reserve ─▶ take the estimate ─┐                   ┌─ credit or charge the bucket
//	Settle ──▶ note what was used ┼▶ reservation ─▶ queue ─▶ review (reservations_bear.go)
//	peers, stores ─▶ join ────────┤                   └─ or leave it to the node that answers for it
//	its deadline has come ────────┘
//
// No goroutine and no timer a reservation: what is to come stands under its second, and the refill
// daemon's tick looks at the seconds that have passed. A node without reservations pays one load
// of an atomic integer for that, and a take nothing.
type reservations struct {
	held   atomic.Int64 // how many
	bounds reservationBounds

	mu     sync.Mutex // guards what follows, and that bucket and account change as one; taken before a shard's lock, never held across I/O
	byID   map[crdt.ReservationID]*reservation
	places []*reservation // by place; 0 is nobody's
	free   []uint32       // places to reuse
	states [reservationStates]int
	dirty  []*reservation // changed here since the last drain, each once

	due    map[int64][]*reservation // by the second in which something is to be done about them
	second int64                    // all before it is done
	queue  []*reservation           // to be reviewed, each once
	uneven map[*reservation]struct{}
	seen   standing // of the last review of all that is uneven
	paused bool     // credits wait: a snapshot is being packed
	later  []*reservation

	changed changes // segments
	counts  reservationCounts
}

// reservationBounds are how many there may be. What peers admitted meanwhile is kept up to a
// quarter beyond them.
type reservationBounds struct {
	all     int // some 300 bytes each
	waiting int // of them settlements whose estimate is not known
}

var defaultReservationBounds = reservationBounds{all: 250_000, waiting: 250_000 / 4}

func (b reservationBounds) ofPeers() reservationBounds {
	return reservationBounds{b.all + b.all/4, b.waiting + b.waiting/4}
}

// reservationCounts is for the metrics.
type reservationCounts struct {
	reserved, refused, settled, repeated, contradicted, full atomic.Uint64 // requests
	freed                                                    atomic.Uint64 // by this node, as nobody settled them
	early, unkept                                            atomic.Uint64 // of peers and stores
}

// A reservation is in one state at a time.
type reservationState uint8

const (
	reservationOpen    reservationState = iota
	reservationSettled                  // what was used is known
	reservationFreed                    // past its deadline, and not settled
	reservationWaiting                  // only what was used is known
	reservationStates
)

// reservation is one item of gossip.
type reservation struct {
	crdt.Reservation
	place   uint32 // 0: gone
	state   reservationState
	dirty   bool
	charged bool // of what is dirty, the bucket bears more
	queued  bool
	changed int64 // n.refill.local at the last change
}

// standing is what this node's part in reservations of others depends on.
type standing struct {
	roster uint64
	ripe   bool
}

func (r *reservations) init() {
	r.bounds = defaultReservationBounds
	r.byID = make(map[crdt.ReservationID]*reservation)
	r.due = make(map[int64][]*reservation)
	r.uneven = make(map[*reservation]struct{})
	r.places = []*reservation{nil}
}

// meet finds a reservation or makes an empty one; nil: there are too many. Caller holds mu, and
// has asked whether the ID is absent.
func (r *reservations) meet(id crdt.ReservationID, now int64, known bool, most reservationBounds) *reservation {
	rec := r.byID[id]
	if rec != nil {
		return rec
	}
	if len(r.byID) >= most.all || !known && r.states[reservationWaiting] >= most.waiting {
		return nil
	}
	if len(r.byID) == 0 {
		r.second = now
	}
	rec = &reservation{Reservation: crdt.Reservation{ID: id}, state: reservationWaiting}
	if n := len(r.free); n > 0 {
		rec.place = r.free[n-1]
		r.free = r.free[:n-1]
	} else {
		rec.place = uint32(len(r.places))
		r.places = append(r.places, nil)
	}
	r.places[rec.place] = rec
	r.byID[id] = rec
	r.states[rec.state]++
	r.held.Add(1)
	r.schedule(rec, now)
	return rec
}

// schedule puts a reservation under the next second in which time alone does something to it.
func (r *reservations) schedule(rec *reservation, now int64) {
	at := rec.ID.Deadline() + 1
	if at <= now {
		at += int64(crdt.ReservationKept / time.Second)
	}
	at = max(at, r.second) // the wall clock was set back
	r.due[at] = append(r.due[at], rec)
}

// age does what time alone does, to so many reservations at most.
func (r *reservations) age(now int64, most int) {
	for most > 0 && r.second <= now {
		due := r.due[r.second]
		n := min(most, len(due))
		most -= n
		for _, rec := range due[:n] {
			if rec.ID.Absent(now) {
				r.remove(rec)
				continue
			}
			r.schedule(rec, now)
			r.enqueue(rec)
		}
		if n == len(due) {
			delete(r.due, r.second)
			r.second++
		} else {
			r.due[r.second] = due[n:]
		}
	}
}

// remove forgets a reservation whose end has come; only age does, so it stands under no second.
func (r *reservations) remove(rec *reservation) {
	delete(r.byID, rec.ID)
	delete(r.uneven, rec)
	r.states[rec.state]--
	r.places[rec.place] = nil
	r.free = append(r.free, rec.place)
	rec.place = 0
	r.held.Add(-1)
	if len(r.byID) == 0 { // a flood is over: do not keep its memory
		places, states := r.places[:1:1], r.states
		r.places, r.free, r.states = places, nil, states
		r.dirty, r.queue = nil, nil
		r.byID, r.uneven = make(map[crdt.ReservationID]*reservation), make(map[*reservation]struct{})
	}
}

// enqueue has a reservation reviewed at the next tick.
func (r *reservations) enqueue(rec *reservation) {
	if !rec.queued {
		rec.queued = true
		r.queue = append(r.queue, rec)
	}
}

// touch notes that the next round is to send a reservation. charged: the bucket bears more for it.
func (r *reservations) touch(rec *reservation, charged bool) {
	rec.charged = rec.charged || charged
	if !rec.dirty {
		rec.dirty = true
		r.dirty = append(r.dirty, rec)
	}
}

// note follows a change of any origin.
func (r *reservations) note(rec *reservation, local int64) {
	rec.changed = local
	r.changed.note(1 << reservationSegmentOf(rec.ID))
	r.enqueue(rec)
}

// restate counts a reservation under the state that it has come to.
func (r *reservations) restate(rec *reservation, now int64) {
	state := reservationOpen
	_, settled := rec.Used()
	switch {
	case !rec.Known():
		state = reservationWaiting
	case settled:
		state = reservationSettled
	case now > rec.ID.Deadline():
		state = reservationFreed
	}
	r.states[rec.state]--
	r.states[state]++
	rec.state = state
}

// inStates is how many there are in each state.
func (r *reservations) inStates() [reservationStates]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.states
}
