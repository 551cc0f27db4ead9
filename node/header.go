package node

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/gossip"
)

// A header goes with every frame: what the refill daemons tell each other.
//
//	┌────────┬─────────┬──────────────────────────┬────────┬────────┬─ records ─────────────────────┐
//	│ format │ roster  │ reach, covers, confirmed │ known  │ count  │ name, clock[3], speeds[3]     │
//	│ 1 byte │ 8 bytes │ each: len, bytes         │ varint │ 1 byte │ name: len, bytes; "" = sender │
//	└────────┴─────────┴──────────────────────────┴────────┴────────┴───────────────────────────────┘
//
// known is how many components the sender's clock has: who has as many has them all. reach,
// covers and confirmed are bit sets over the members in the order of their names, without
// trailing zero bytes. Numbers are varints; the first clock and speed is absolute, the others
// are differences to it (mostly 0). Times are ns of R, speeds ppm of real time. The decoder
// encodes again and refuses what differs.
const headerFormat = 1

// maxRecords bounds the components in one header: the sender's, those of nodes that the peer
// does not reach, and one more in turn, so that everybody soon has all.
const maxRecords = 10

type header struct {
	roster    uint64
	reach     memberset
	covers    memberset
	confirmed memberset
	known     int
	records   []clockRecord
}

type clockRecord struct {
	node   string // "" on the wire: the sender
	clock  crdt.Components
	speeds [crdt.Policies]uint32
}

func (h *header) append(dst []byte, sender string) []byte {
	dst = append(dst, headerFormat)
	dst = binary.BigEndian.AppendUint64(dst, h.roster)
	dst = h.reach.append(dst)
	dst = h.covers.append(dst)
	dst = h.confirmed.append(dst)
	dst = binary.AppendUvarint(dst, uint64(h.known))
	dst = append(dst, byte(len(h.records)))
	for _, rec := range h.records {
		name := rec.node
		if name == sender {
			name = ""
		}
		dst = append(dst, byte(len(name)))
		dst = append(dst, name...)
		dst = binary.AppendUvarint(dst, uint64(rec.clock[0]))
		for _, c := range rec.clock[1:] {
			dst = binary.AppendVarint(dst, int64(c-rec.clock[0]))
		}
		dst = binary.AppendUvarint(dst, uint64(rec.speeds[0]))
		for _, s := range rec.speeds[1:] {
			dst = binary.AppendVarint(dst, int64(s)-int64(rec.speeds[0]))
		}
	}
	return dst
}

func (s *memberset) append(dst []byte) []byte {
	words := len(s)
	for words > 0 && s[words-1] == 0 {
		words--
	}
	if words == 0 {
		return append(dst, 0)
	}
	size := 8*words - bits.LeadingZeros64(s[words-1])/8
	dst = append(dst, byte(size))
	for _, w := range s[:words] {
		dst = binary.LittleEndian.AppendUint64(dst, w)
	}
	return dst[:len(dst)-(8*words-size)]
}

var errHeader = errors.New("node: bad frame header")

func decodeHeader(b []byte, sender string) (*header, error) {
	c := cutter{b: b}
	h := &header{}
	if c.byte() != headerFormat {
		return nil, fmt.Errorf("%w: unknown format", errHeader)
	}
	h.roster = binary.BigEndian.Uint64(c.take(8))
	c.set(&h.reach)
	c.set(&h.covers)
	c.set(&h.confirmed)
	h.known = int(min(c.uvarint(), maxMembers))
	count := int(c.byte())
	if count > maxRecords {
		return nil, fmt.Errorf("%w: %d records", errHeader, count)
	}
	h.records = make([]clockRecord, 0, count)
	for range count {
		rec := clockRecord{node: string(c.take(int(c.byte())))}
		if rec.node == "" {
			rec.node = sender
		}
		first := c.uvarint()
		rec.clock[0] = crdt.Instant(first)
		for p := 1; p < crdt.Policies; p++ {
			rec.clock[p] = rec.clock[0] + crdt.Instant(c.varint())
		}
		speed := c.uvarint()
		rec.speeds[0] = uint32(speed)
		for p := 1; p < crdt.Policies; p++ {
			rec.speeds[p] = uint32(int64(speed) + c.varint())
		}
		for p := range rec.clock {
			if rec.clock[p] < 0 || rec.clock[p] > 1<<61 || rec.speeds[p] > ppm {
				return nil, fmt.Errorf("%w: impossible refill clock", errHeader)
			}
		}
		h.records = append(h.records, rec)
	}
	var again [gossip.MaxHeader]byte
	if c.short || len(c.b) > 0 || !bytes.Equal(h.append(again[:0], sender), b) {
		return nil, fmt.Errorf("%w: not in canonical form", errHeader)
	}
	return h, nil
}

// cutter cuts fields off a buffer; when it runs short it yields zeros and says so.
type cutter struct {
	b     []byte
	short bool
}

func (c *cutter) take(n int) []byte {
	if n > len(c.b) {
		c.short, c.b = true, nil
		return make([]byte, n)
	}
	v := c.b[:n]
	c.b = c.b[n:]
	return v
}

func (c *cutter) byte() byte {
	if len(c.b) == 0 {
		c.short = true
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

func (c *cutter) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	c.take(c.width(n))
	return v
}

func (c *cutter) varint() int64 {
	v, n := binary.Varint(c.b)
	c.take(c.width(n))
	return v
}

func (c *cutter) width(n int) int {
	if n <= 0 {
		c.short = true
		return 0
	}
	return n
}

func (c *cutter) set(s *memberset) {
	var raw [maxMembers / 8]byte
	set := c.take(int(c.byte()))
	if len(set) > len(raw) {
		c.short = true
		return
	}
	copy(raw[:], set)
	for i := range s {
		s[i] = binary.LittleEndian.Uint64(raw[8*i:])
	}
}

// header makes the header of a frame to a peer. turn goes round the known components.
func (r *refill) header(self, peer string, turn int, v *gossip.View, now time.Time) *header {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.catchUp(self, now)
	a := r.state.Load()
	h := &header{roster: v.Roster, reach: a.reach, covers: a.covers, confirmed: a.confirmed, known: len(r.clock)}
	h.records = append(make([]clockRecord, 0, 2), r.record(self, self, now)) // mostly no more
	theirs, ok := r.reports[peer]
	if ok && theirs.roster == v.Roster {
		for i := range v.Members {
			if m := v.Members[i].Node; !theirs.reach.has(i) && m != self && m != peer && len(h.records) < maxRecords-1 {
				h.records = append(h.records, r.record(m, self, now))
			}
		}
	}
	if len(r.clock) > 1 {
		names := r.names()
		if next := names[turn%len(names)]; !slices.ContainsFunc(h.records, func(rec clockRecord) bool { return rec.node == next }) {
			h.records = append(h.records, r.record(next, self, now))
		}
	}
	return h
}

// names lists the nodes of the clock in order. Nodes are only ever added to it.
func (r *refill) names() []string {
	if len(r.order) != len(r.clock) {
		r.order = slices.Sorted(maps.Keys(r.clock))
	}
	return r.order
}

func (r *refill) record(node, self string, now time.Time) clockRecord {
	rec := clockRecord{node: node, clock: r.clock[node]}
	if node == self {
		for p, g := range r.grants {
			if g.num > 0 {
				rec.speeds[p] = uint32(min(ppm, g.num*ppm/g.den))
			}
		}
	} else if h, ok := r.heard[node]; ok && now.Sub(h.at) < time.Second {
		rec.speeds = h.speeds
	}
	return rec
}
