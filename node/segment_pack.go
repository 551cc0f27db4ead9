package node

import (
	"context"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/persist"
)

const (
	packAtOnce = 16 // segments of one walk over the table: memory for as many payloads
	packStride = 32 // buckets copied under a shard's lock at a time, and encoded outside it
	packRoom   = 4  // slots of a copy that need no allocation
	packBytes  = persist.MaxPayload
)

// packed is a copy of a bucket.
type packed struct {
	to     int // packer
	limit  string
	key    string
	r      crdt.Instant
	bucket crdt.Bucket
	room   [packRoom]crdt.Slot
}

// packBuckets walks the table once and emits the payloads of up to packAtOnce segments.
//
// Stored are all buckets but the absent ones. (Why not leave out those that are full? One says
// when it was touched last and which slots are spent: without it an older snapshot of it, from
// before a credit, would be all that is known.)
func (g *segments) packBuckets(ctx context.Context, which []int, emit func(segment int, payload []byte) error) error {
	var to [bucketSegs]int // packer of a bucket segment, plus 1; 0: not wanted
	for k, segment := range which {
		to[segment-1] = 1 + k
		g.packers[k].Reset()
	}
	for from, more := uint32(0), true; more; from += packStride {
		more = false
		if err := ctx.Err(); err != nil {
			return err
		}
		for i := range g.n.table.shards {
			copied, further := g.copyStride(&g.n.table.shards[i], from, &to)
			more = more || further
			for j := range g.stride[:copied] {
				if err := g.pack(&g.stride[j], which, emit); err != nil {
					return err
				}
			}
		}
	}
	for k, segment := range which {
		if err := g.finish(k, segment, emit); err != nil {
			return err
		}
	}
	return nil
}

// copyStride copies the buckets of some places of a shard, brought up to their limits' terms
// and readings.
func (g *segments) copyStride(s *shard, from uint32, to *[bucketSegs]int) (copied int, more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	force := g.n.force.Load()
	for place := max(1, from); place < min(s.next, from+packStride); place++ {
		e := s.at(place)
		l := force.at(e)
		if l == nil {
			continue
		}
		k := to[e.segment-1]
		if k == 0 {
			continue
		}
		r := l.reading()
		if e.Epoch == l.terms.Epoch && e.Absent(&l.terms, r) {
			continue
		}
		g.n.renew(s, l, r, e, place)
		c := &g.stride[copied]
		copied++
		c.to, c.limit, c.key, c.r, c.bucket = k-1, l.Name, e.key, r, e.Bucket
		if len(e.Slots()) <= packRoom {
			c.bucket.Settle(c.room[:])
		} else {
			c.bucket = e.Clone()
		}
		if e.Epoch == l.terms.Epoch {
			c.bucket.Advance(&l.terms, r) // a mark at the base takes a byte
		}
	}
	return copied, from+packStride < s.next
}

// pack adds a bucket to its segment's payload, and emits that one first if it is full.
func (g *segments) pack(c *packed, which []int, emit func(segment int, payload []byte) error) error {
	p := &g.packers[c.to]
	if p.Add(c.limit, c.key, &c.bucket, c.r, packBytes) {
		return nil
	}
	if err := g.finish(c.to, which[c.to], emit); err != nil {
		return err
	}
	p.Add(c.limit, c.key, &c.bucket, c.r, packBytes) // alone it fits
	return nil
}

// finish emits what a packer holds, if anything.
func (g *segments) finish(k, segment int, emit func(segment int, payload []byte) error) error {
	p := &g.packers[k]
	g.buf = p.Append(g.buf[:0])
	p.Reset()
	if len(g.buf) == 0 {
		return nil
	}
	return emit(segment, g.buf)
}
