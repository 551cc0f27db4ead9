package gossip

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"maps"
	"net/netip"
	"slices"
)

// A roster's entries, sorted by node, each:
//
//	node, region, address (length and bytes) · writer (8) · counter · state (1)
const (
	maxRoster = 1024 // entries
	maxGone   = 256  // of them left or forgotten: beyond, the oldest counters go
)

// entry is what the cluster holds true of a node. For one node the higher counter holds;
// at the same counter the later state, then the larger writer.
type entry struct {
	Node    string      `json:"node"`
	Region  string      `json:"region"`
	Addr    string      `json:"addr"` // IP:port, as told to peers
	Writer  uint64      `json:"writer,string"`
	Counter uint64      `json:"counter"`
	State   MemberState `json:"state"`
}

func (e entry) compare(o entry) int {
	return cmp.Or(cmp.Compare(e.Counter, o.Counter), cmp.Compare(e.State, o.State),
		cmp.Compare(e.Writer, o.Writer), cmp.Compare(e.Addr, o.Addr), cmp.Compare(e.Region, o.Region))
}

func (e entry) valid() bool {
	_, err := netip.ParseAddrPort(e.Addr)
	return err == nil && e.Node != "" && len(e.Node) <= maxName && len(e.Region) <= maxName &&
		len(e.Addr) <= maxAddr && e.Writer != 0 && e.Counter != 0 && e.State <= Forgotten
}

// roster is the CRDT of who belongs: its join keeps the greater entry of each node.
type roster map[string]entry

// join takes in es and reports whether anything changed and how many it refused or cut.
func (r roster) join(es []entry) (changed bool, cut int) {
	for _, e := range es {
		old, known := r[e.Node]
		switch {
		case !e.valid() || !known && len(r) >= maxRoster:
			cut++
		case !known || e.compare(old) > 0:
			r[e.Node] = e
			changed = true
		}
	}
	return changed, cut + r.trim()
}

// trim drops the gone beyond maxGone, oldest counter first: the same ones on every node.
func (r roster) trim() int {
	var gone []entry
	for _, e := range r {
		if e.State != Joined {
			gone = append(gone, e)
		}
	}
	if len(gone) <= maxGone {
		return 0
	}
	slices.SortFunc(gone, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.Counter, b.Counter), cmp.Compare(a.Node, b.Node))
	})
	cut := len(gone) - maxGone
	for _, e := range gone[:cut] {
		delete(r, e.Node)
	}
	return cut
}

// next is a counter above all others.
func (r roster) next() uint64 {
	var c uint64
	for _, e := range r {
		c = max(c, e.Counter)
	}
	return c + 1
}

func (r roster) sorted() []entry {
	return slices.SortedFunc(maps.Values(r), func(a, b entry) int { return cmp.Compare(a.Node, b.Node) })
}

// fingerprints are of everything (what peers must agree on) and of the joined set alone.
func fingerprints(es []entry) (all, joined uint64) {
	ha, hj := fnv.New64a(), fnv.New64a()
	var b []byte
	for _, e := range es {
		b = appendBytes(b[:0], e.Node)
		b = binary.BigEndian.AppendUint64(b, e.Writer)
		b = binary.BigEndian.AppendUint64(b, e.Counter)
		if e.State == Joined {
			hj.Write(b)
		}
		ha.Write(append(b, byte(e.State)))
	}
	return ha.Sum64(), hj.Sum64()
}

func appendEntries(b []byte, es []entry) []byte {
	b = binary.AppendUvarint(b, uint64(len(es)))
	for _, e := range es {
		b = appendBytes(b, e.Node)
		b = appendBytes(b, e.Region)
		b = appendBytes(b, e.Addr)
		b = binary.BigEndian.AppendUint64(b, e.Writer)
		b = binary.AppendUvarint(b, e.Counter)
		b = append(b, byte(e.State))
	}
	return b
}

func (r *reader) entries() []entry {
	var es []entry
	for range r.count(maxRoster) {
		e := entry{Node: string(r.bytes(maxName)), Region: string(r.bytes(maxName)), Addr: string(r.bytes(maxAddr)),
			Writer: r.u64(), Counter: r.uvarint(), State: MemberState(r.byte())}
		if r.bad || !e.valid() || len(es) > 0 && e.Node <= es[len(es)-1].Node {
			r.bad = true
			return nil
		}
		es = append(es, e)
	}
	return es
}
