package node

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/gossip"
)

// A change is drained once: what was sent and not changed since is not sent again.
func TestAChangeIsDrainedOnce(t *testing.T) {
	n := quietNode(t, 100, "10", 1000)
	rep := &replica{n: n}
	rep.Drain(nil) // the limits
	for range 3 {
		n.Take("bench", "alice", 1)
		n.Take("bench", "bob", 1)
	}
	first := rep.Drain(nil)
	if len(first) != 2 {
		t.Fatalf("%d items after six takes on two buckets, want 2", len(first))
	}
	if again := rep.Drain(nil); len(again) != 0 {
		t.Errorf("%d items drained again", len(again))
	}
	n.Take("bench", "bob", 1)
	if more := rep.Drain(nil); len(more) != 1 || !slices.Contains(first, more[0]) {
		t.Errorf("after one more take: %v, of %v", more, first)
	}
}

// What one node packs another unpacks to the same bucket, also what no frame holds at once.
func TestPackedBucketsArriveWhole(t *testing.T) {
	a, b := quietNode(t, 100, "10", 1000), quietNode(t, 100, "10", 1000)
	from, to := &replica{n: a}, &replica{n: b}
	for i := range 200 {
		a.Take("bench", fmt.Sprintf("key-%d", i), int64(1+i%50))
	}
	a.Credit("bench", "key-7", 3)
	ids := from.Drain(nil)
	frames := 0
	for len(ids) > 0 {
		payload, covered := from.Pack(nil, ids, 1000)
		if covered == 0 || len(payload) > 1000 {
			t.Fatalf("%d items in %d bytes", covered, len(payload))
		}
		ids = ids[covered:]
		got, _, err := to.Unpack(payload, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) < covered-1 {
			t.Fatalf("%d of %d items arrived", len(got), covered)
		}
		frames++
	}
	if frames < 3 {
		t.Errorf("%d frames of 1,000 bytes for 200 buckets", frames)
	}
	for i := range 200 {
		key := fmt.Sprintf("key-%d", i)
		x, _ := a.Look("bench", key)
		y, _ := b.Look("bench", key)
		if x.Level != y.Level || len(y.Slots) != 1 || x.Slots[0].Taken != y.Slots[0].Taken || x.Slots[0].Credited != y.Slots[0].Credited {
			t.Fatalf("%s is %+v here and %+v there", key, x, y)
		}
	}
}

// A newcomer tells nobody what its own file says, and takes nothing in before it knows what the
// cluster says; what it took meanwhile it tells then.
func TestANewcomerTakesTheLimitsFirst(t *testing.T) {
	a, b := quietNode(t, 100, "10", 1000), draftNode(t, 100, "10", 1000)
	def := a.force.Load().byName["bench"].Definition
	def.Capacity = 50 * crdt.Token
	redefine(t, a, 0, def) // of a version that b's own limits have, too
	from, to := &replica{n: a}, &replica{n: b}
	from.Drain(nil)
	a.Take("bench", "alice", 5)
	b.Take("bench", "alice", 7)
	b.Take("bench", "bob", 60)
	b.settled.Store(true) // a cut kept it from its first sync
	if payload, _ := to.Pack(nil, []uint32{setItem}, 1000); len(payload) > 0 {
		t.Errorf("its own limits are told, in %d bytes", len(payload))
	}
	to.Drain(nil)
	ids := from.Drain(nil)
	alone, _ := from.Pack(nil, ids, 1000)
	if _, _, err := to.Unpack(alone, nil); !errors.Is(err, gossip.ErrLater) {
		t.Errorf("a bucket before the limits: %v", err)
	}
	with, _ := from.Pack(nil, append([]uint32{setItem}, ids...), 1000)
	if _, learnt, err := to.Unpack(with, nil); err != nil || learnt != 1 {
		t.Fatalf("a bucket after the limits: %d learnt, %v", learnt, err)
	}
	back, _ := to.Pack(nil, to.Drain(nil), 1000)
	if _, _, err := from.Unpack(back, nil); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*Node{a, b} { // 93 of its 100 were left: 50 are in a bucket of 50
		if x, err := n.Look("bench", "alice"); err != nil || len(x.Slots) != 2 || x.Level != 45*crdt.Token {
			t.Errorf("5 and 7 taken of 50: %+v, %v", x, err)
		}
		wantLevel(t, n, "bob", 40)
	}
}

// Newcomers that know of no cluster share their buckets if their files agree on the capacity:
// what another capacity has filled would be granted here.
func TestDraftsShareWhatHasTheSameCapacity(t *testing.T) {
	for capacity, want := range map[int64]crdt.Milli{100: 80, 1000: 90} {
		a, b := draftNode(t, capacity, "10", 1000), draftNode(t, 100, "10", 1000)
		a.Take("bench", "alice", 10)
		b.Take("bench", "alice", 10)
		from, to := &replica{n: a}, &replica{n: b}
		payload, _ := from.Pack(nil, from.Drain(nil), 1000)
		if _, _, err := to.Unpack(payload, nil); err != nil {
			t.Fatal(err)
		}
		wantLevel(t, b, "alice", want)
	}
}

// A key evicted and met again gets a slot that was never written: the old one, on a peer's
// copy, hides nothing.
func TestAForgottenSlotIsNeverWrittenAgain(t *testing.T) {
	n := quietNode(t, 100, "10", 1000)
	n.Take("bench", "alice", 5)
	before, _ := n.Look("bench", "alice")
	l := n.force.Load().byName["bench"]
	h := n.table.hash(uint16(l.Index), "alice")
	s := n.table.shard(h)
	_, place := s.find(h, uint16(l.Index), "alice")
	n.evict(s, l, place)
	n.Take("bench", "alice", 5)
	after, _ := n.Look("bench", "alice")
	if before.Slots[0].Writer == after.Slots[0].Writer {
		t.Errorf("slot %s is written again after it was forgotten", after.Slots[0].Writer)
	}
}

// Two nodes that met each other's takes at different readings hold different refill, as each
// was full in its own eyes for a while: who has more tells the other, and then it is quiet.
func TestTwoNodesThatMetLateBecomeEqual(t *testing.T) {
	a, b := quietNode(t, 100, "10", 10), quietNode(t, 100, "10", 10)
	a.settled.Store(true)
	b.settled.Store(true)
	toA, toB := &replica{n: a}, &replica{n: b}
	send := func(from, to *replica) (sent int) {
		ids := from.Drain(nil)
		payload, _ := from.Pack(nil, ids, 1<<16)
		if len(payload) == 0 {
			return 0
		}
		if _, _, err := to.Unpack(payload, nil); err != nil {
			t.Fatal(err)
		}
		return len(ids)
	}
	at := func(n *Node, seconds float64) { n.refill.shown[crdt.Quorum].Store(int64(seconds * 1e9)) }
	a.Take("bench", "alice", 10)
	b.Take("bench", "alice", 10)
	early := func(from *replica) []byte {
		payload, _ := from.Pack(nil, from.Drain(nil), 1<<16)
		return payload
	}
	ofA, ofB := early(toA), early(toB) // they cross
	at(a, 0.2)
	at(b, 1.5)
	if _, _, err := toA.Unpack(ofB, nil); err != nil { // a learns of b's take at 0.2 s …
		t.Fatal(err)
	}
	if _, _, err := toB.Unpack(ofA, nil); err != nil { // … b of a's at 1.5 s, and was full meanwhile
		t.Fatal(err)
	}
	at(a, 1.5)
	rounds := 0
	for send(toA, toB)+send(toB, toA) > 0 {
		if rounds++; rounds > 4 {
			t.Fatal("they never stop telling each other")
		}
	}
	x, _ := a.Look("bench", "alice")
	y, _ := b.Look("bench", "alice")
	if x.Level != y.Level {
		t.Errorf("levels %d and %d after all is told", x.Level, y.Level)
	}
}
