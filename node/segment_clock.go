package node

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/persist"
)

// Every segment carries the refill clock, as its writer knew it after it had packed the
// segment: no mark in it lies further beyond than the doubt.
//
//	┌────────┬─────────┬────────┬─ components, by name ──────────┐
//	│ format │ members │ count  │ name: len, bytes               │
//	│ 1 byte │ varint  │ varint │ clock[3]: varint, differences  │
//	└────────┴─────────┴────────┴────────────────────────────────┘
//
// members is how many had a vote, as far as the writer knew: 0 or 1 for a node on its own.
// The decoder encodes again and refuses what differs.
const storedClockFormat = 1

type storedClock struct {
	members int
	clock   crdt.Clock
}

// append leaves out components for which there is no room: refill that a restore does not
// grant. The own one comes first in that sense, and is the last to go.
func (k *storedClock) append(dst []byte, own string) []byte {
	names := slices.Sorted(maps.Keys(k.clock))
	size := 16
	keep := names[:0:0]
	for _, name := range slices.Insert(slices.Clone(names), 0, own) {
		if _, known := k.clock[name]; !known || name == own && len(keep) > 0 {
			continue
		}
		if size += 1 + len(name) + 3*binary.MaxVarintLen64; size > persist.MaxClock {
			break
		}
		keep = append(keep, name)
	}
	slices.Sort(keep)
	dst = append(dst, storedClockFormat)
	dst = binary.AppendUvarint(dst, uint64(k.members))
	dst = binary.AppendUvarint(dst, uint64(len(keep)))
	for _, name := range keep {
		c := k.clock[name]
		dst = append(dst, byte(len(name)))
		dst = append(dst, name...)
		dst = binary.AppendUvarint(dst, uint64(c[0]))
		for _, r := range c[1:] {
			dst = binary.AppendVarint(dst, int64(r-c[0]))
		}
	}
	return dst
}

var errStoredClock = errors.New("node: bad clock of a segment")

func decodeStoredClock(b []byte) (*storedClock, error) {
	c := cutter{b: b}
	if f := c.byte(); f != storedClockFormat {
		return nil, fmt.Errorf("%w: format %d, want %d", errStoredClock, f, storedClockFormat)
	}
	k := &storedClock{members: int(min(c.uvarint(), 1<<20))}
	count := c.uvarint()
	if count > maxMembers {
		return nil, fmt.Errorf("%w: %d components", errStoredClock, count)
	}
	k.clock = make(crdt.Clock, count)
	for range count {
		name := string(c.take(int(c.byte())))
		var v crdt.Components
		v[0] = crdt.Instant(c.uvarint())
		for p := 1; p < crdt.Policies; p++ {
			v[p] = v[0] + crdt.Instant(c.varint())
		}
		for _, r := range v {
			if r < 0 || r > 1<<61 {
				return nil, fmt.Errorf("%w: impossible component", errStoredClock)
			}
		}
		k.clock[name] = v
	}
	if c.short || len(c.b) > 0 || !bytes.Equal(k.append(nil, ""), b) {
		return nil, fmt.Errorf("%w: not in canonical form", errStoredClock)
	}
	return k, nil
}

// Clock is the refill clock as this node knows it.
func (g *segments) Clock() []byte {
	k := g.n.refill.knowledge()
	return (&storedClock{members: len(k.Confirmed), clock: k.Clock}).append(nil, g.n.cfg.Node)
}
