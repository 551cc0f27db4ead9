package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/persist"
)

// Reservations are kept in a few segments of their own, r0 to r3, by their ids, and expire soon. A
// payload is one batch of reservations.
//
// Their keys begin as those of buckets do, as that of the limits does: a prefix of their own would
// cost every node one more call of KV at each start and each reading, reservations or not.
//
// What a lone node finds on its disk after a kill -9 is to err on the safe side too. So they are
// packed before the buckets of the same round, and while that goes on what a bucket bears may grow,
// and not shrink: in the stores a bucket bears at least what the reservations beside it say.
// Segments that another node stores are up to one snapshot apart, and so may be what both say:
// that is what a crash of everything costs (promise 5).
const (
	reservationSegs      = 1 << reservationBits
	reservationBits      = 2
	firstReservationsSeg = firstVotesSeg + votesSegs // of persist's numbers
	reservationsTTL      = 6 * time.Hour             // several times what any of them lasts
)

func reservationsSpecs() (specs []persist.SegmentSpec) {
	for i := range reservationSegs {
		specs = append(specs, persist.SegmentSpec{Name: fmt.Sprint("r", i), Prefix: segmentPrefix, TTL: reservationsTTL})
	}
	return specs
}

func holdsReservations(segment string) bool { return strings.HasPrefix(segment, "r") }

func reservationSegmentOf(id crdt.ReservationID) int { return int(id[0] >> (8 - reservationBits)) }

// hold has credits for reservations wait, or go on.
func (r *reservations) hold(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paused = on
	for _, rec := range r.later {
		r.enqueue(rec)
	}
	r.later = nil
}

// packReservations emits the payloads of some of their segments. It looks at a stretch of places at
// a time, and emits without the lock.
func (g *segments) packReservations(ctx context.Context, which []int, emit func(segment int, payload []byte) error) error {
	for _, segment := range which {
		var p crdt.ReservationPacker
		for place := 1; place > 0; {
			if err := ctx.Err(); err != nil {
				return err
			}
			next, full := g.n.reservations.packSome(&p, segment-firstReservationsSeg, place)
			if full || next == 0 {
				if g.buf = p.Append(g.buf[:0]); len(g.buf) > 0 {
					if err := emit(segment, g.buf); err != nil {
						return err
					}
				}
				p.Reset()
			}
			place = next
		}
	}
	return nil
}

// packSome adds the reservations from a place on. It returns the place to go on from (0: there is
// none), and whether the packer is full.
func (r *reservations) packSome(p *crdt.ReservationPacker, segment, place int) (next int, full bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for end := place + stride; place < len(r.places); place++ {
		if place == end {
			return place, false
		}
		rec := r.places[place]
		if rec != nil && reservationSegmentOf(rec.ID) == segment && !p.Add(&rec.Reservation, packBytes) {
			return place, true
		}
	}
	return 0, false
}

// joinStoredReservations joins a payload.
func (g *segments) joinStoredReservations(payload []byte) error {
	var u crdt.ReservationUnpacker
	return g.n.joinReservations(&u, payload, true, func(*reservation, bool) {})
}
