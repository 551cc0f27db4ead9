package node

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/openclaw/edge/crdt"
)

func sampleHeader() *header {
	h := &header{roster: 0x0123456789abcdef, known: 7}
	h.reach.add(0)
	h.reach.add(9)
	h.covers.add(3)
	h.confirmed.add(1)
	h.records = []clockRecord{
		{node: "edge-1", clock: crdt.Components{5e9, 5e9, 6e9}, speeds: [3]uint32{333333, 333333, 500000}},
		{node: "edge-7", clock: crdt.Components{1e9, 2e9, 1}, speeds: [3]uint32{}},
	}
	return h
}

// The golden bytes: other nodes of the cluster speak exactly this.
const goldenHeaderBytes = "010123456789abcdef0201020108010207020080e497d0120080a8d6b90795ac140096ac1406656467652d378094ebdc0380a8d6b907fda7d6b907000000"

func TestHeaderGolden(t *testing.T) {
	wire := sampleHeader().append(nil, "edge-1")
	const want = goldenHeaderBytes
	if got := hex.EncodeToString(wire); got != want {
		t.Errorf("header is %s (%d bytes), want %s", got, len(wire), want)
	}
	back, err := decodeHeader(wire, "edge-1")
	if err != nil {
		t.Fatal(err)
	}
	if again := back.append(nil, "edge-1"); !bytes.Equal(again, wire) {
		t.Errorf("%x comes back as %x", wire, again)
	}
}

// Whatever decodes is exactly what the encoder writes; nothing panics.
func FuzzHeader(f *testing.F) {
	f.Add(sampleHeader().append(nil, "edge-1"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHeader(b, "edge-1")
		if err != nil {
			return
		}
		if again := h.append(nil, "edge-1"); !bytes.Equal(again, b) {
			t.Fatalf("%x comes back as %x", b, again)
		}
	})
}

// A set of members is as many bytes as its last member needs, and comes back whole.
func TestSetsOfMembersAreShort(t *testing.T) {
	for _, last := range []int{-1, 0, 7, 8, 63, 64, 71, 72, 500, maxMembers - 1} {
		var set, back memberset
		for _, i := range []int{last / 3, last} {
			if last >= 0 {
				set.add(i)
			}
		}
		wire := set.append(nil)
		if want := 1 + (last+8)/8; len(wire) != want {
			t.Errorf("up to %d: %d bytes, want %d", last, len(wire), want)
		}
		c := cutter{b: wire}
		if c.set(&back); back != set || c.short || len(c.b) > 0 {
			t.Errorf("up to %d: %v comes back as %v, %d bytes left", last, set, back, len(c.b))
		}
	}
}
