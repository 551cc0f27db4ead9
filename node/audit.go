package node

import (
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"

	"github.com/openclaw/edge/crdt"
)

// The audit compares what two nodes hold by hashes of key ranges. A bucket takes part if it
// was untouched for ten rounds: by then everybody should have it. All are hashed as they
// will be at one reading, no lower than any mark, so that when each was last advanced
// does not matter.

// auditIndex keeps the ids of each range for the questions that follow an audit.
type auditIndex struct {
	point  string
	ranges [][]uint32
}

// AuditPoint is this node's readings and the doubt beyond.
func (p *replica) AuditPoint(dst []byte) []byte {
	for _, r := range p.n.refill.readings() {
		dst = binary.BigEndian.AppendUint64(dst, uint64(r)+uint64(p.n.cfg.Doubt))
	}
	return dst
}

func decodePoint(b []byte) (c crdt.Components, err error) {
	if len(b) != 8*crdt.Policies {
		return c, fmt.Errorf("node: audit point of %d bytes", len(b))
	}
	for p := range c {
		c[p] = crdt.Instant(binary.BigEndian.Uint64(b[8*p:]))
	}
	return c, nil
}

// Audit adds up the hashes of each range.
func (p *replica) Audit(point []byte, sums []uint64) error {
	at, err := decodePoint(point)
	if err != nil {
		return err
	}
	p.audit = auditIndex{}
	p.eachAudited(at, len(sums), func(_ uint32, i int, sum uint64) { sums[i] += sum })
	return nil
}

// AuditRange appends the ids of range i of n.
func (p *replica) AuditRange(point []byte, i, n int, ids []uint32) ([]uint32, error) {
	at, err := decodePoint(point)
	if err != nil || i < 0 || i >= n || n > 1<<16 {
		return ids, fmt.Errorf("node: audit range %d of %d: %w", i, n, err)
	}
	if p.audit.point != string(point) || len(p.audit.ranges) != n {
		p.audit = auditIndex{point: string(point), ranges: make([][]uint32, n)}
		p.eachAudited(at, n, func(id uint32, i int, _ uint64) { p.audit.ranges[i] = append(p.audit.ranges[i], id) })
	}
	return append(ids, p.audit.ranges[i]...), nil
}

// quiet is how long after its last take every node should have a bucket.
func (n *Node) quiet() crdt.Instant {
	return crdt.Instant(10*n.cfg.RoundWAN) + crdt.Instant(n.cfg.Doubt)
}

func (p *replica) eachAudited(at crdt.Components, n int, f func(id uint32, i int, sum uint64)) {
	p.eachAuditedRating(n, f)
	p.eachAuditedReservation(n, f)
	force := p.n.force.Load()
	quiet := p.n.quiet()
	p.n.table.walk(func(i int, e *entry, place uint32) {
		l := force.at(e)
		if l == nil || e.Epoch != l.terms.Epoch {
			return
		}
		r := at[l.Policy]
		if e.Mark > r || r-e.Touched < quiet || e.Absent(&l.terms, r) {
			return
		}
		key := keyHash(l.Name, e.key)
		f(uint32(i)<<localBits|place, int(key%uint64(n)), sumAt(&e.Bucket, &l.terms, r, key))
	})
}

// keyHash is the same on every node, unlike the table's.
func keyHash(limit, key string) uint64 {
	h := xxhash.Sum64String(limit)
	return xxhash.Sum64String(key) ^ (h<<1 | h>>63)
}

// sumAt hashes a bucket as it will be at reading r. Slots are added up: their order is
// each node's own.
func sumAt(b *crdt.Bucket, t *crdt.Terms, r crdt.Instant, key uint64) uint64 {
	c := *b
	c.Advance(t, r)
	sum := mix(key, uint64(c.Epoch)) + mix(uint64(c.Gen), uint64(c.Filled))
	for _, s := range c.Slots() {
		sum += mix(mix(uint64(s.Writer), uint64(s.Serial)), mix(uint64(s.P), uint64(s.N)))
	}
	return mix(sum, key)
}

// mix hashes two words into one (the finisher of MurmurHash3 over their combination).
func mix(a, b uint64) uint64 {
	h := a*0x9e3779b97f4a7c15 + b
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
