package node

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/openclaw/edge/crdt"
)

// Ratings travel with the buckets, as more items of the same replica. A payload without a
// rating is a batch of buckets; one with ratings begins with their batch:
//
//	┌────────┬─────────────┬────────────┬─────────────────────────┐
//	│ byte 3 │ len: varint │ of ratings │ of buckets: may be none │
//	└────────┴─────────────┴────────────┴─────────────────────────┘
const (
	payloadWithRatings = 3 // batches of buckets begin with 1
	payloadFrame       = 1 + binary.MaxVarintLen32
)

// appendPayload is all that was packed.
func (p *replica) appendPayload(dst []byte) []byte {
	dst = p.appendReservations(dst)
	if p.ratings.Entries() > 0 {
		p.scratch = p.ratings.Append(p.scratch[:0])
		dst = binary.AppendUvarint(append(dst, payloadWithRatings), uint64(len(p.scratch)))
		dst = append(dst, p.scratch...)
	}
	return p.packer.Append(dst)
}

// splitPayload is the two batches of a payload, each nil where there is none.
func splitPayload(b []byte) (ratings, buckets []byte, err error) {
	if len(b) == 0 || b[0] != payloadWithRatings {
		return nil, b, nil
	}
	n, size := binary.Uvarint(b[1:])
	rest := b[1+max(0, size):]
	if size <= 0 || n == 0 || n > uint64(len(rest)) || size != len(binary.AppendUvarint(nil, n)) {
		return nil, nil, fmt.Errorf("node: payload: ratings of %d bytes in %d", n, len(rest))
	}
	return rest[:n], rest[n:], nil
}

// drainRatings appends the pages changed since the last call.
func (p *replica) drainRatings(ids []uint32) []uint32 {
	for i := range p.n.ratings.shards {
		s := &p.n.ratings.shards[i]
		s.mu.Lock()
		for _, place := range s.dirty {
			s.pages[place].dirty = false
			ids = append(ids, uint32(i)<<localBits|ratingItem|place)
		}
		s.dirty = s.dirty[:0]
		if cap(s.dirty) > 256 { // a flood is over: do not keep its memory
			s.dirty = nil
		}
		s.mu.Unlock()
	}
	return ids
}

func (p *replica) packItem(id uint32, max int) bool {
	if isReservation(id) {
		return p.packReservation(id, max)
	}
	return p.besideReservations(max, func(max int) bool {
		if id&ratingItem != 0 {
			return p.packRating(id, max)
		}
		return p.packBucket(id, max)
	})
}

// addBucket adds a bucket to the payload; false if it does not fit beside its ratings.
func (p *replica) addBucket(limit, key string, b *crdt.Bucket, base crdt.Instant, max int) bool {
	if p.ratings.Entries() == 0 {
		return p.packer.Add(limit, key, b, base, max)
	}
	room, first := max-payloadFrame-p.ratings.Len(), p.packer.Entries() == 0
	if !p.packer.Add(limit, key, b, base, room) {
		return false
	}
	if first && p.packer.Len() > room { // a first one is always added
		p.packer.Reset()
		return false
	}
	return true
}

// packRating adds a page; false if it does not fit into max bytes.
func (p *replica) packRating(id uint32, max int) bool {
	s := &p.n.ratings.shards[id>>localBits]
	place := id & (ratingItem - 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if place == 0 || int(place) >= len(s.pages) {
		return true
	}
	page, alone := s.pages[place], p.ratings.Entries() == 0 && p.packer.Entries() > 0
	room := max - payloadFrame
	if p.packer.Entries() > 0 {
		room -= p.packer.Len()
	}
	if !p.ratings.Add(page.of.name, &page.Rating, room) {
		return false
	}
	if alone && p.ratings.Len() > room { // a first one is always added
		p.ratings.Reset()
		return false
	}
	return true
}

// joinRatings joins a batch of them.
func (p *replica) joinRatings(batch []byte, ids []uint32) ([]uint32, int, error) {
	learnt, horizon := 0, crdt.StampAt(p.n.wallNow().Add(maxAhead))
	if err := p.ratingReader.Open(batch); err != nil {
		return ids, 0, fmt.Errorf("node: %w", err)
	}
	for {
		e, err := p.ratingReader.Next()
		if e == nil || err != nil {
			if err != nil {
				err = fmt.Errorf("node: %w", err)
			}
			return ids, learnt, err
		}
		grew := 0
		ids, grew = p.n.joinRating(e, horizon, false, ids)
		learnt += grew
	}
}

// ratingsFrom marks a scan's cursor that has come to the ratings.
const ratingsFrom = 1 << 32

// scanRatings goes on with the pages, from a cursor on. They are never given back, so the place
// says where a scan is.
func (p *replica) scanRatings(cursor uint64, ids []uint32, most int) ([]uint32, uint64) {
	i, place := int(cursor>>localBits&(shards-1)), uint32(cursor&localMask)
	for ; i < shards; i, place = i+1, 0 {
		s := &p.n.ratings.shards[i]
		s.mu.Lock()
		next := uint32(len(s.pages))
		s.mu.Unlock()
		for place = max(place, 1); place < next; place++ {
			if most--; most < 0 {
				return ids, ratingsFrom | uint64(i)<<localBits | uint64(place)
			}
			ids = append(ids, uint32(i)<<localBits|ratingItem|place)
		}
	}
	return p.scanReservations(reservationsFrom, ids, max(0, most))
}

// auditParts is into how many ranges the votes on one subject fall, at most: a range with all
// votes on a large one would not fit into a repair.
const auditParts = 64

// eachAuditedRating yields the hashes of what has rested for ten rounds on this node. (Not by
// the stamps of the votes: clocks differ, and a page that has rested here and not there is no
// more than a needless exchange.) A page is told once for each range that it has a part in.
func (p *replica) eachAuditedRating(n int, f func(id uint32, i int, sum uint64)) {
	now, quiet := p.n.refill.local.Load(), int64(p.n.quiet())
	for i := range p.n.ratings.shards {
		s := &p.n.ratings.shards[i]
		for from, more := uint32(1), true; more; from += stride {
			s.mu.Lock()
			end := min(from+stride, uint32(len(s.pages)))
			for place := from; place < end; place++ {
				if page := s.pages[place]; now-page.changed >= quiet {
					auditPage(page, n, func(r int, sum uint64) { f(uint32(i)<<localBits|ratingItem|place, r, sum) })
				}
			}
			more = end < uint32(len(s.pages))
			s.mu.Unlock()
		}
	}
}

func auditPage(page *ratingPage, n int, f func(r int, sum uint64)) {
	name := xxhash.Sum64String(page.of.name)
	var sums [auditParts]uint64
	var met uint64
	for _, v := range page.Votes() {
		part := v.Rater % auditParts
		sums[part] += mix(mix(name, v.Rater), v.Word())
		met |= 1 << part
	}
	for _, s := range page.Slots() {
		sums[0] += mix(mix(name, uint64(s.Writer)), mix(uint64(s.P), uint64(s.N)+uint64(s.Serial)<<48))
		met |= 1
	}
	for part := range uint64(auditParts) {
		if met>>part&1 == 1 {
			f(int(mix(name, part)%uint64(n)), sums[part])
		}
	}
}
