package node

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/openclaw/edge/crdt"
)

// Reservations travel with buckets and ratings, as more items of the same replica. A payload with
// some begins with their batch; one without is as it ever was:
//
//	┌────────┬─────────────┬─────────────────┬────────────────────────────────────────────┐
//	│ byte 4 │ len: varint │ of reservations │ ratings and buckets: a payload; may be none │
//	└────────┴─────────────┴─────────────────┴────────────────────────────────────────────┘
const payloadWithReservations = 4

// reservationItem marks the ids of reservations among those of ratings' pages: one more bit of a
// place, which their bounds leave free. There is one table, so they all are of shard 0.
const reservationItem = ratingItem | ratingItem>>1

func isReservation(id uint32) bool { return id&reservationItem == reservationItem }

// Drain appends the items changed since the last call. What a bucket bears less goes out behind
// the reservation that says so, and what it bears more before it (see reservations_bear.go): so
// none of them changes meanwhile.
func (p *replica) Drain(ids []uint32) []uint32 {
	r := &p.n.reservations
	r.mu.Lock()
	defer r.mu.Unlock()
	ids = r.drain(ids, false)
	ids = p.drain(ids)
	ids = r.drain(ids, true)
	if len(r.dirty) > 0 {
		r.dirty = nil
	}
	return ids
}

func (r *reservations) drain(ids []uint32, charged bool) []uint32 {
	for _, rec := range r.dirty {
		if rec.dirty && rec.charged == charged {
			rec.dirty, rec.charged = false, false
			if rec.place != 0 {
				ids = append(ids, reservationItem|rec.place)
			}
		}
	}
	return ids
}

// Pack appends a payload with the leading items of ids: all of it as of one moment, as far as
// reservations and their buckets go.
func (p *replica) Pack(dst []byte, ids []uint32, max int) ([]byte, int) {
	p.n.reservations.mu.Lock()
	defer p.n.reservations.mu.Unlock()
	p.reservations.Reset()
	return p.pack(dst, ids, max)
}

// appendReservations is the head of a payload.
func (p *replica) appendReservations(dst []byte) []byte {
	if p.reservations.Entries() == 0 {
		return dst
	}
	p.scratch = p.reservations.Append(p.scratch[:0])
	dst = binary.AppendUvarint(append(dst, payloadWithReservations), uint64(len(p.scratch)))
	return append(dst, p.scratch...)
}

// splitReservations is the reservations of a payload, nil if there are none, and what is behind.
func splitReservations(b []byte) (reservations, rest []byte, err error) {
	if len(b) == 0 || b[0] != payloadWithReservations {
		return nil, b, nil
	}
	n, size := binary.Uvarint(b[1:])
	rest = b[1+max(0, size):]
	if size <= 0 || n == 0 || n > uint64(len(rest)) || size != len(binary.AppendUvarint(nil, n)) {
		return nil, nil, fmt.Errorf("node: payload: reservations of %d bytes in %d", n, len(rest))
	}
	return rest[:n], rest[n:], nil
}

// besideReservations packs an item of another kind into what reservations leave of max bytes.
func (p *replica) besideReservations(max int, pack func(max int) bool) bool {
	if p.reservations.Entries() == 0 {
		return pack(max)
	}
	room := max - payloadFrame - p.reservations.Len()
	first := p.packer.Entries()+p.ratings.Entries() == 0
	if !pack(room) {
		return false
	}
	if first && p.restLen() > room { // a first one is always added
		p.packer.Reset()
		p.ratings.Reset()
		return false
	}
	return true
}

// restLen is an upper bound of what was packed but for reservations.
func (p *replica) restLen() (n int) {
	if p.ratings.Entries() > 0 {
		n = payloadFrame + p.ratings.Len()
	}
	if p.packer.Entries() > 0 {
		n += p.packer.Len()
	}
	return n
}

// packReservation adds a reservation; false if it does not fit into max bytes.
func (p *replica) packReservation(id uint32, max int) bool {
	r, place := &p.n.reservations, id&^reservationItem
	if place == 0 || int(place) >= len(r.places) || r.places[place] == nil {
		return true
	}
	rest := p.restLen()
	room, alone := max-payloadFrame-rest, p.reservations.Entries() == 0 && rest > 0
	if !p.reservations.Add(&r.places[place].Reservation, room) {
		return false
	}
	if alone && p.reservations.Len() > room { // a first one is always added
		p.reservations.Reset()
		return false
	}
	return true
}

// Unpack joins a payload: the reservations last, when their buckets are known.
func (p *replica) Unpack(payload []byte, ids []uint32) (out []uint32, learnt int, err error) {
	batch, payload, err := splitReservations(payload)
	if err != nil {
		return ids, 0, err
	}
	if batch == nil || len(payload) > 0 {
		if ids, learnt, err = p.unpack(payload, ids); err != nil || batch == nil {
			return ids, learnt, err
		}
	}
	err = p.n.joinReservations(&p.reservationReader, batch, false, func(rec *reservation, grew bool) {
		ids = append(ids, reservationItem|rec.place)
		if grew {
			learnt++
		}
	})
	return ids, learnt, err
}

// joinReservations joins a batch, and calls f under the lock for each that was kept. What came
// from a store is to be told to peers.
func (n *Node) joinReservations(u *crdt.ReservationUnpacker, batch []byte, stored bool, f func(rec *reservation, grew bool)) error {
	if err := u.Open(batch); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	now := n.wallNow().Unix()
	for {
		in, err := u.Next()
		if err != nil {
			return fmt.Errorf("node: %w", err)
		}
		if in == nil {
			return nil
		}
		n.joinReservation(in, now, stored, f)
	}
}

func (n *Node) joinReservation(in *crdt.Reservation, now int64, stored bool, f func(rec *reservation, grew bool)) {
	r := &n.reservations
	if in.ID.Absent(now) {
		return
	}
	if early(&in.ID, now) {
		r.counts.early.Add(1)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.meet(in.ID, now, in.Known(), r.bounds.ofPeers())
	if rec == nil {
		r.counts.unkept.Add(1)
		return
	}
	grew := rec.Join(in)
	if grew {
		r.restate(rec, now)
		r.note(rec, n.refill.local.Load())
		if stored {
			r.touch(rec, false)
		}
	}
	f(rec, grew)
}

// reservationsFrom marks a scan's cursor that has come to the reservations.
const reservationsFrom = 2 << 32

// scanReservations goes on with the reservations, from a cursor on: a place.
func (p *replica) scanReservations(cursor uint64, ids []uint32, most int) ([]uint32, uint64) {
	r := &p.n.reservations
	r.mu.Lock()
	defer r.mu.Unlock()
	for place := max(1, int(uint32(cursor))); place < len(r.places); place++ {
		if most--; most < 0 {
			return ids, reservationsFrom | uint64(place)
		}
		if r.places[place] != nil {
			ids = append(ids, reservationItem|uint32(place))
		}
	}
	return ids, 0
}

// eachAuditedReservation yields the hashes of those that have rested for ten rounds on this node.
// Not of those that are near their end: clocks differ, and one node has forgotten them already.
func (p *replica) eachAuditedReservation(n int, f func(id uint32, i int, sum uint64)) {
	r, now := &p.n.reservations, p.n.wallNow().Add(crdt.ReservationKept/2).Unix()
	local, quiet := p.n.refill.local.Load(), int64(p.n.quiet())
	for from, more := 1, true; more; from += stride {
		r.mu.Lock()
		end := min(from+stride, len(r.places))
		for place := from; place < end; place++ {
			if rec := r.places[place]; rec != nil && local-rec.changed >= quiet && !rec.ID.Absent(now) {
				key := xxhash.Sum64(rec.ID[:])
				f(reservationItem|uint32(place), int(key%uint64(n)), sumReservation(&rec.Reservation, key))
			}
		}
		more = end < len(r.places)
		r.mu.Unlock()
	}
}

func sumReservation(rec *crdt.Reservation, key uint64) uint64 {
	used, _ := rec.Used()
	sum := mix(key, uint64(used)) + mix(keyHash(rec.Limit, rec.Key), mix(xxhash.Sum64String(rec.Node), uint64(rec.Cost)))
	for _, s := range rec.Account() { // added up: their order is each node's own
		sum += mix(uint64(s.Writer), mix(uint64(s.P), uint64(s.N)))
	}
	return mix(sum, key)
}
