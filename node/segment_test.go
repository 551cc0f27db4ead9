package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/gossip"
	"github.com/openclaw/edge/persist"
)

// stored is what Pack emits, by segment.
type stored map[int][][]byte

func packAll(t testing.TB, g *segments, which ...int) stored {
	t.Helper()
	if len(which) == 0 {
		for i := range segmentCount {
			which = append(which, i)
		}
	}
	out := stored{}
	err := g.Pack(t.Context(), which, func(segment int, payload []byte) error {
		out[segment] = append(out[segment], slices.Clone(payload))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func joinAll(t testing.TB, g *segments, s stored, clock []byte, at time.Time) {
	t.Helper()
	for _, segment := range slices.Sorted(keysOf(s)) {
		for part, payload := range s[segment] {
			if err := g.Join(&persist.Segment{Name: segmentSpecNames[segment], Part: part, Clock: clock, Time: at, Payload: payload}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func keysOf(s stored) func(func(int) bool) {
	return func(yield func(int) bool) {
		for k := range s {
			if !yield(k) {
				return
			}
		}
	}
}

// A bucket's segment is part of what is stored: it is the same in every process and release.
func TestASegmentIsAKeysForGood(t *testing.T) {
	l := quietNode(t, 100, "10", 10).force.Load().byName["bench"]
	for key, want := range map[string]int{"": 57, "alice": 16, "bob": 23, "10.0.0.1": 19} {
		if got := l.segmentOf(key); got != want {
			t.Errorf("%q is in segment %d, was in %d", key, got, want)
		}
	}
	var in [bucketSegs]int
	for i := range 64_000 {
		in[l.segmentOf(fmt.Sprint("key-", i))]++
	}
	if low, high := slices.Min(in[:]), slices.Max(in[:]); low < 800 || high > 1200 {
		t.Errorf("of 64,000 keys %d to %d in a segment", low, high)
	}
}

// Every change has a number by the time it can be asked for, whether gossip has drained it or
// not, and whoever made it; and what did not change keeps its number.
func TestEveryChangeHasANumber(t *testing.T) {
	n, peer := quietNode(t, 100, "10", 1000), quietNode(t, 100, "10", 1000)
	g, rep := &segments{n: n}, &replica{n: n}
	before := g.Changes(nil)
	changed := func(what string, keys ...string) {
		t.Helper()
		after := g.Changes(nil)
		want := map[int]bool{}
		for _, k := range keys {
			want[1+n.force.Load().byName["bench"].segmentOf(k)] = true
		}
		for i := range after {
			if (after[i] > before[i]) != want[i] {
				t.Errorf("%s: segment %d was %d, is %d; changed is %v", what, i, before[i], after[i], want[i])
			}
		}
		before = after
	}
	changed("nothing")
	n.Take("bench", "alice", 1)
	changed("a take", "alice")
	rep.Drain(nil)
	before = g.Changes(nil) // it may have a second one
	n.Take("bench", "bob", 1)
	n.Credit("bench", "alice", 1)
	rep.Drain(nil)
	changed("a take and a credit that were drained", "alice", "bob")
	n.Take("bench", "alice", 101)
	n.Look("bench", "nobody")
	changed("a refusal and a look")
	n.settled.Store(true)
	peer.Take("bench", "carol", 1)
	payload, _ := (&replica{n: peer}).Pack(nil, (&replica{n: peer}).Drain(nil), 1<<16)
	if _, _, err := rep.Unpack(payload, nil); err != nil {
		t.Fatal(err)
	}
	changed("a peer's take", "carol")
	if _, _, err := rep.Unpack(payload, nil); err != nil {
		t.Fatal(err)
	}
	changed("the same again")
	def := n.force.Load().byName["bench"].Definition
	def.Capacity = 50 * crdt.Token
	redefine(t, n, 2, def)
	after := g.Changes(nil)
	for i := range firstVotesSeg { // ratings do not depend on limits
		if after[i] <= before[i] {
			t.Errorf("new limits: segment %d is still at %d", i, after[i])
		}
	}
}

// What one node packs another joins to the same buckets; a second time changes nothing.
func TestWhatIsPackedIsJoined(t *testing.T) {
	a, b := quietNode(t, 1000, "10", 10_000), quietNode(t, 1000, "10", 10_000)
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 3000 {
		a.refill.shown[crdt.Quorum].Add(int64(time.Millisecond))
		a.Take("bench", fmt.Sprint("key-", i%500), int64(1+r.IntN(20)))
		if r.IntN(10) == 0 {
			a.Credit("bench", fmt.Sprint("key-", r.IntN(500)), 1)
		}
	}
	a.refill.inherit(crdt.Clock{"edge-1": a.refill.readings()}, time.Time{})
	from, to := &segments{n: a}, &segments{n: b}
	all := packAll(t, from)
	if len(all) < 60 {
		t.Fatalf("500 buckets in %d segments", len(all))
	}
	joinAll(t, to, all, from.Clock(), time.Now())
	b.refill.shown[crdt.Quorum].Store(a.refill.shown[crdt.Quorum].Load())
	for i := range 500 {
		key := fmt.Sprint("key-", i)
		x, _ := a.Look("bench", key)
		y, _ := b.Look("bench", key)
		if x.Level != y.Level || !slices.Equal(x.Slots, y.Slots) {
			t.Fatalf("%s: stored %+v, restored %+v", key, x, y)
		}
	}
	if ids := (&replica{n: b}).Drain(nil); len(ids) < 500 {
		t.Errorf("%d of 500 restored buckets are told to peers", len(ids))
	}
	before := to.Changes(nil)
	joinAll(t, to, all, from.Clock(), time.Now())
	if after := to.Changes(nil); !slices.Equal(before, after) {
		t.Error("joined twice, it has changed twice")
	}
}

// A bucket is stored as long as the eviction rule keeps it: also when it is full.
func TestOnlyAbsentBucketsAreNotStored(t *testing.T) {
	n := quietNode(t, 100, "10", 1000)
	g := &segments{n: n}
	n.Take("bench", "alice", 10)
	count := func() (k int) {
		for segment, payloads := range packAll(t, g) {
			var u crdt.Unpacker
			for _, p := range payloads {
				if err := u.Open(p); err != nil {
					t.Fatal(err)
				}
				for e, _ := u.Next(); e != nil && segment != limitsSeg; e, _ = u.Next() {
					k++
				}
			}
		}
		return k
	}
	for _, c := range []struct {
		passed time.Duration
		want   int
	}{{0, 1}, {time.Minute, 1}, {10 * time.Minute, 0}} {
		n.refill.shown[crdt.Quorum].Add(int64(c.passed))
		if got := count(); got != c.want {
			t.Errorf("%v later %d buckets are stored, want %d", c.passed, got, c.want)
		}
	}
}

// No payload is larger than a store takes, and none of many pieces is lost.
func TestALargeSegmentComesInPieces(t *testing.T) {
	a, b := quietNode(t, 1000, "10", 100_000), quietNode(t, 1000, "10", 100_000)
	l := a.force.Load().byName["bench"]
	var keys []string
	for i := 0; len(keys) < 14_000; i++ {
		if key := fmt.Sprintf("%s-%d", strings.Repeat("k", 220), i); l.segmentOf(key) == 7 {
			keys = append(keys, key)
			a.Take("bench", key, 1)
		}
	}
	from, to := &segments{n: a}, &segments{n: b}
	all := packAll(t, from, 8)
	if len(all) != 1 || len(all[8]) < 2 {
		t.Fatalf("%d pieces", len(all[8]))
	}
	for _, p := range all[8] {
		if len(p) > persist.MaxPayload {
			t.Errorf("a piece of %d bytes", len(p))
		}
	}
	joinAll(t, to, all, from.Clock(), time.Now())
	if got := b.force.Load().byName["bench"].buckets.Load(); got != int64(len(keys)) {
		t.Errorf("%d of %d buckets arrived", got, len(keys))
	}
}

// An unreadable payload or clock is refused; what was read before it does no harm.
func TestAnUnreadableSegmentIsRefused(t *testing.T) {
	n := quietNode(t, 100, "10", 1000)
	n.Take("bench", "alice", 10)
	g := &segments{n: n}
	good := packAll(t, g)[1+n.force.Load().byName["bench"].segmentOf("alice")][0]
	clock := g.Clock()
	for what, s := range map[string]*persist.Segment{
		"no clock":      {Payload: good},
		"bad clock":     {Payload: good, Clock: append(slices.Clone(clock), 0)},
		"newer clock":   {Payload: good, Clock: append([]byte{9}, clock[1:]...)},
		"bad payload":   {Payload: good[:len(good)-1], Clock: clock},
		"other payload": {Payload: []byte("hello"), Clock: clock},
	} {
		if err := g.Join(s); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
	if err := g.Join(&persist.Segment{Clock: clock}); err != nil {
		t.Errorf("without payload: %v", err)
	}
}

// A mark may lie beyond this node's clock, if the segment's own clock explains it: so before
// anything is known, and so behind a cut.
func TestAMarkIsJudgedByItsSegmentsClock(t *testing.T) {
	a, b := quietNode(t, 100, "10", 10), quietNode(t, 100, "10", 10)
	b.settled.Store(true)
	a.refill.inherit(crdt.Clock{"edge-9": {crdt.Instant(100 * time.Hour), 0, 0}}, time.Time{})
	a.refill.shown[crdt.Quorum].Store(int64(100 * time.Hour))
	a.Take("bench", "alice", 10)
	from, to := &segments{n: a}, &segments{n: b}
	all := packAll(t, from)
	joinAll(t, to, all, (&storedClock{clock: crdt.Clock{}}).append(nil, ""), time.Now())
	if n := b.impossible.Load(); n != 1 {
		t.Errorf("100 h beyond any clock: %d refused", n)
	}
	joinAll(t, to, all, from.Clock(), time.Now())
	if look, _ := b.Look("bench", "alice"); len(look.Slots) != 1 {
		t.Errorf("explained by its clock: %+v", look)
	}
}

// A bucket restored without slots (it was converted, or began a generation) refills for the
// time that its node slept; one that was opened meanwhile on a clock that was behind does not.
func TestTheFirstSyncPaysOnlyWhatWasRestored(t *testing.T) {
	n := quietNode(t, 100, "1", 10)
	l := n.force.Load().byName["bench"]
	old := crdt.Bucket{Epoch: l.terms.Epoch, Filled: 10 * crdt.Token}
	if _, learnt, err := n.keep(l, &crdt.Entry{Limit: "bench", Key: []byte("restored"), Bucket: old}, true); err != nil || !learnt {
		t.Fatal(learnt, err)
	}
	n.Take("bench", "opened", 90)
	n.refill.shown[crdt.Quorum].Store(int64(30 * time.Second))
	n.settle()
	for key, want := range map[string]crdt.Milli{"restored": 40 * crdt.Token, "opened": 10 * crdt.Token} {
		if b, _ := n.Look("bench", key); b.Level != want {
			t.Errorf("%s at %v, want %v", key, b.Level, want)
		}
	}
}

// Each segment has one owner among those that reach each other, and a loss moves only the
// segments of the lost.
func TestASegmentHasOneOwner(t *testing.T) {
	names := []string{"a", "b", "c", "d", "e"}
	owners := func(up ...int) (of [segmentCount]string) {
		for _, self := range up {
			v := &gossip.View{Self: names[self]}
			a := &authority{}
			for i, name := range names {
				v.Members = append(v.Members, gossip.Member{Node: name})
				if slices.Contains(up, i) {
					a.reach.add(i)
				}
			}
			for i, segment := range segmentSpecNames {
				o := reachableOwner(v, a, segment)
				if of[i] != "" && of[i] != o {
					t.Fatalf("%s and another disagree on who owns %s", names[self], segment)
				}
				of[i] = o
			}
		}
		return of
	}
	all, four := owners(0, 1, 2, 3, 4), owners(0, 1, 2, 4)
	share := map[string]int{}
	for i := range all {
		share[all[i]]++
		if all[i] != "d" && four[i] != all[i] || four[i] == "d" {
			t.Errorf("segment %d: %s's, without d %s's", i, all[i], four[i])
		}
	}
	for _, name := range names {
		if share[name] < 4 {
			t.Errorf("%s owns %d of %d segments", name, share[name], segmentCount)
		}
	}
	if alone := owners(2); slices.Contains(alone[:], "a") || alone[0] != "c" {
		t.Errorf("alone: %v", alone)
	}
}

// The keys of a writer are another's to delete only when somebody reachable knows it is gone.
func TestWhoMayStillWriteIsLeftAlone(t *testing.T) {
	n := quietNode(t, 100, "10", 10)
	v := &gossip.View{Self: "edge-1", Members: []gossip.Member{{Node: "edge-1", Writer: uint64(n.writer)}, {Node: "edge-2", Writer: 22}, {Node: "edge-3", Writer: 33}}}
	v.Known = append(slices.Clone(v.Members), gossip.Member{Node: "edge-4", Writer: 44, State: gossip.Left})
	a := &authority{reachable: 2}
	a.reach.add(0)
	a.reach.add(1)
	for _, c := range []struct {
		node        string
		incarnation uint64
		may, all    bool // all: when every member is reachable
	}{
		{"edge-1", uint64(n.writer), true, true},
		{"edge-1", 1, false, false},
		{"edge-2", 22, true, true},
		{"edge-2", 21, false, false},
		{"edge-3", 33, true, true},
		{"edge-3", 32, true, false}, // cut off: it may have started again without our hearing of it
		{"edge-4", 44, true, false},
		{"stranger", 5, true, true},
	} {
		if got := n.mayWriteIn(v, a, c.node, c.incarnation); got != c.may {
			t.Errorf("%s %d behind a cut: %v", c.node, c.incarnation, got)
		}
		whole := &authority{reachable: 3}
		for i := range 3 {
			whole.reach.add(i)
		}
		if got := n.mayWriteIn(v, whole, c.node, c.incarnation); got != c.all {
			t.Errorf("%s %d: %v", c.node, c.incarnation, got)
		}
	}
}

// What a draft says is not stored, neither in a segment nor on the disk. Its buckets are, and a draft of
// the same file has them back; a node that counts them already counts them once.
func TestADraftIsStoredWithoutItsLimits(t *testing.T) {
	d := draftNode(t, 100, "10", 1000)
	d.cfg.DataDir = t.TempDir()
	d.Take("bench", "alice", 60)
	kept := packAll(t, &segments{n: d})
	d.writeLimits()
	if len(kept[limitsSeg]) > 0 {
		t.Errorf("its limits are stored, in %d payloads", len(kept[limitsSeg]))
	}
	if _, err := os.Stat(filepath.Join(d.cfg.DataDir, "limits")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("its limits are on the disk:", err)
	}
	clock := (&segments{n: d}).Clock()
	again := draftNode(t, 100, "10", 1000)
	joinAll(t, &segments{n: again}, kept, clock, time.Now())
	wantLevel(t, again, "alice", 40)

	n := quietNode(t, 100, "10", 1000)
	n.settled.Store(true)
	for _, m := range []*Node{d, n} {
		m.refill.shown[crdt.Quorum].Store(int64(5 * time.Minute))
	}
	d.limitsMu.Lock()
	d.agree(n.file)
	d.limitsMu.Unlock()
	if d.writeLimits(); d.readLimits() == nil || len(packAll(t, &segments{n: d})[limitsSeg]) == 0 {
		t.Error("what is agreed is not stored")
	}
	from, to := &replica{n: d}, &replica{n: n}
	payload, _ := from.Pack(nil, from.Drain(nil), 1<<16)
	if _, _, err := to.Unpack(payload, nil); err != nil {
		t.Fatal(err)
	}
	wantLevel(t, n, "alice", 40) // nothing was paid for five minutes that the draft knew nothing of
	g := &segments{n: n}
	g.past.over = true
	joinAll(t, g, kept, clock, time.Now())
	wantLevel(t, n, "alice", 40)
}

// What was stored under limits that are this node's own file is restored, also when the store that
// has those limits is out of reach.
func TestARestoreRecognisesItsOwnFile(t *testing.T) {
	n := quietNode(t, 100, "10", 1000)
	n.Take("bench", "alice", 60)
	kept := packAll(t, &segments{n: n})
	delete(kept, limitsSeg)
	fresh := draftNode(t, 100, "10", 1000)
	joinAll(t, &segments{n: fresh}, kept, (&segments{n: n}).Clock(), time.Now())
	wantLevel(t, fresh, "alice", 40)
}

// Packing and joining beside takes: the race detector is one judge, the sum of the slots the other.
func TestPackAndJoinBesideTakes(t *testing.T) {
	n := quietNode(t, 1_000_000, "1", 10_000)
	n.settled.Store(true)
	g := &segments{n: n}
	done := make(chan struct{})
	var takers sync.WaitGroup
	for w := range 2 {
		takers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			for range 50_000 {
				n.Take("bench", fmt.Sprint("key-", r.IntN(2000)), 1)
			}
		})
	}
	go func() { takers.Wait(); close(done) }()
	var last stored
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		g.Changes(nil)
		last = packAll(t, g)
		joinAll(t, g, last, g.Clock(), time.Now())
	}
	fresh := quietNode(t, 1_000_000, "1", 10_000)
	joinAll(t, &segments{n: fresh}, last, g.Clock(), time.Now())
	taken := crdt.Milli(0)
	for i := range 2000 {
		b, _ := fresh.Look("bench", fmt.Sprint("key-", i))
		for _, s := range b.Slots {
			taken += s.Taken
		}
	}
	if taken != 100_000*crdt.Token {
		t.Errorf("100,000 tokens were taken, %v are stored", tokens(taken))
	}
}

func TestAPackEndsWithItsContext(t *testing.T) {
	n := quietNode(t, 100, "10", 1000)
	n.Take("bench", "alice", 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := (&segments{n: n}).Pack(ctx, []int{1, 2, 3}, func(int, []byte) error { return nil }); err == nil {
		t.Error("it went on")
	}
}

func FuzzStoredClock(f *testing.F) {
	k := storedClock{members: 3, clock: crdt.Clock{"a": {1, 2, 3}, "edge-1": {1 << 50, 1<<50 - 7, 1 << 51}}}
	f.Add(k.append(nil, "edge-1"))
	f.Add((&storedClock{clock: crdt.Clock{}}).append(nil, ""))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := decodeStoredClock(b)
		if err == nil && string(k.append(nil, "any")) != string(b) {
			t.Error("another encoding of the same")
		}
	})
}

// What does not fit is the others' components.
func TestAStoredClockKeepsTheOwnComponent(t *testing.T) {
	k := storedClock{clock: crdt.Clock{"zz": {7, 7, 7}}}
	for i := range 1000 {
		k.clock[fmt.Sprintf("%s-%d", strings.Repeat("n", 110), i)] = crdt.Components{1, 1, 1}
	}
	b := k.append(nil, "zz")
	got, err := decodeStoredClock(b)
	if err != nil || len(b) > persist.MaxClock || got.clock["zz"] != (crdt.Components{7, 7, 7}) || len(got.clock) < 300 {
		t.Errorf("%d bytes, %d components, %v", len(b), len(got.clock), err)
	}
}
