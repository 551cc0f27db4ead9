package node

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openclaw/edge/crdt"
)

// crowd is a node with reservations of many keys, some of them settled, beside ratings and takes.
func crowd(t testing.TB, count int) (n *Node, ids []string) {
	n = quietNode(t, 1_000_000, "1/h", 10_000)
	n.cfg.RatingsLimit = "bench"
	n.settled.Store(true)
	for i := range count {
		ids = append(ids, mustReserve(t, n, fmt.Sprint("key-", i%50), int64(1+i), time.Minute).ID)
		if i%3 == 0 {
			mustSettle(t, n, ids[i], int64(i/2))
		}
		n.vote(t, fmt.Sprint("subject-", i%20), fmt.Sprint("rater-", i), 1)
		n.Take("bench", fmt.Sprint("other-", i), 1)
	}
	mustSettle(t, n, reservationText(n.newReservationID(time.Now().Add(time.Minute).Unix())), 7)
	return n, ids
}

// wantSame compares what two nodes hold of reservations, and of what their buckets bear.
func wantSame(t testing.TB, a, b *Node) {
	t.Helper()
	r, o := &a.reservations, &b.reservations
	if len(r.byID) != len(o.byID) || r.states != o.states {
		t.Fatalf("%d %v and %d %v", len(r.byID), r.states, len(o.byID), o.states)
	}
	for id, rec := range r.byID {
		if other := o.byID[id]; other == nil || sumReservation(&rec.Reservation, 1) != sumReservation(&other.Reservation, 1) {
			t.Fatalf("%+v\nand %+v", rec, other)
		}
	}
	for i := range 50 {
		mine, _ := a.Look("bench", fmt.Sprint("key-", i))
		theirs, _ := b.Look("bench", fmt.Sprint("key-", i))
		if mine.Level != theirs.Level {
			t.Fatalf("key-%d: %d and %d", i, mine.Level, theirs.Level)
		}
	}
}

// Payloads of every size have reservations, ratings and buckets side by side, within their bound,
// and bring all of it.
func TestReservationsTravelBesideTheRest(t *testing.T) {
	for _, most := range []int{200, 450, 1200, 1 << 18} {
		a, _ := crowd(t, 300)
		b := quietNode(t, 1_000_000, "1/h", 10_000)
		b.settled.Store(true)
		from, to := &replica{n: a}, &replica{n: b}
		if n := exchange(t, from, to, most); most > 1<<16 && n != 1 {
			t.Errorf("%d payloads", n)
		}
		wantSame(t, a, b)
		for i := range 20 {
			r := a.LookRating(fmt.Sprint("subject-", i))
			wantCounts(t, b, r.Subject, r.Up, r.Down)
		}
		if len(to.Drain(nil)) > 1 {
			t.Error("what a peer said is told as a change of this node's own")
		}
	}
}

// What a bucket bears more goes out before the reservation, and what it bears less behind it.
func TestTheSafeSideGoesOutFirst(t *testing.T) {
	n, _ := crowd(t, 0)
	rep := &replica{n: n}
	rep.Drain(nil)
	place := func(id string) uint32 {
		rid, _ := n.reservationID(id, 0)
		return reservationItem | n.reservations.byID[rid].place
	}
	at := func(ids []uint32, id uint32) int { return slices.Index(ids, id) }
	bucket := func(ids []uint32) int {
		return slices.IndexFunc(ids, func(id uint32) bool { return id&ratingItem == 0 })
	}
	id := mustReserve(t, n, "alice", 100, time.Minute).ID
	if ids := rep.Drain(nil); at(ids, place(id)) != 1 || bucket(ids) != 0 {
		t.Errorf("reserved: %x", ids)
	}
	mustSettle(t, n, id, 10)
	if ids := rep.Drain(nil); at(ids, place(id)) != 0 || bucket(ids) != 1 {
		t.Errorf("credited: %x", ids)
	}
	more := mustReserve(t, n, "alice", 100, time.Minute).ID
	rep.Drain(nil)
	mustSettle(t, n, more, 300)
	if ids := rep.Drain(nil); at(ids, place(more)) != 1 || bucket(ids) != 0 || len(ids) != 2 {
		t.Errorf("charged: %x", ids)
	}
	if len(rep.Drain(nil)) > 0 {
		t.Error("told again")
	}
}

func TestAScanHasEveryReservation(t *testing.T) {
	a, _ := crowd(t, 300)
	b := quietNode(t, 1_000_000, "1/h", 10_000)
	b.settled.Store(true)
	from, to := &replica{n: a}, &replica{n: b}
	var ids []uint32
	for cursor, calls := uint64(0), 0; calls == 0 || cursor != 0; calls++ {
		var some []uint32
		if some, cursor = from.Scan(cursor, nil, 7); len(some) > 7 || calls > 1000 {
			t.Fatalf("%d ids, call %d", len(some), calls)
		}
		ids = append(ids, some...)
	}
	payload, covered := from.Pack(nil, ids, 1<<20)
	if got, learnt, err := to.Unpack(payload, nil); err != nil || covered != len(ids) || learnt < 301 || len(got) < 301 {
		t.Fatalf("%d of %d, %d learnt, %v", covered, len(ids), learnt, err)
	}
	wantSame(t, a, b)
}

// The audit finds what is missing, once it has rested, and nothing near its end.
func TestTheAuditSeesReservations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := crowd(t, 100)
		b := quietNode(t, 1_000_000, "1/h", 10_000)
		b.settled.Store(true)
		from, to := &replica{n: a}, &replica{n: b}
		exchange(t, from, to, 1200)
		sums := func(p *replica) []uint64 {
			s := make([]uint64, 1024)
			p.eachAuditedReservation(len(s), func(_ uint32, i int, sum uint64) { s[i] += sum })
			return s
		}
		if slices.Max(sums(from)) > 0 {
			t.Error("audited before it rested")
		}
		rest := func(n *Node) { n.refill.local.Add(int64(n.quiet())) }
		rest(a)
		rest(b)
		if !slices.Equal(sums(from), sums(to)) || slices.Max(sums(from)) == 0 {
			t.Fatal("differ, or nothing was audited")
		}
		mustReserve(t, a, "alice", 1, time.Minute)
		rest(a)
		point := from.AuditPoint(nil)
		ours, theirs := make([]uint64, 64), make([]uint64, 64)
		from.Audit(point, ours)
		to.Audit(point, theirs)
		var mended []uint32
		for i := range ours {
			if ours[i] != theirs[i] {
				mended, _ = from.AuditRange(point, i, len(ours), mended)
			}
		}
		payload, _ := from.Pack(nil, mended, 1<<20)
		if _, _, err := to.Unpack(payload, nil); err != nil {
			t.Fatal(err)
		}
		if len(b.reservations.byID) != len(a.reservations.byID) {
			t.Errorf("%d and %d", len(a.reservations.byID), len(b.reservations.byID))
		}
		time.Sleep(time.Minute + crdt.ReservationKept/2 + 2*time.Second)
		if slices.Max(sums(from)) > 0 {
			t.Error("audited near its end, when clocks may differ about it")
		}
	})
}

func TestPayloadsOfReservationsOfOtherFormsAreRefused(t *testing.T) {
	n, _ := crowd(t, 1)
	rep := &replica{n: n}
	good, _ := rep.Pack(nil, rep.Drain(nil), 1200)
	if good[0] != payloadWithReservations {
		t.Fatalf("%x", good)
	}
	for name, b := range map[string][]byte{
		"cut off": good[:good[1]], "a longer length": append([]byte{payloadWithReservations, good[1] | 0x80, 0}, good[2:]...), "no length": {4}, "nothing": {4, 0},
		"reservations cut off": {4, 1, 5}, "twice": append([]byte{4, good[1]}, append(slices.Clone(good[2:2+good[1]]), good...)...), "a later kind": append([]byte{6}, good[1:]...),
	} {
		if _, learnt, err := (&replica{n: reserver(t)}).Unpack(b, nil); err == nil || learnt > 0 && name != "twice" {
			t.Errorf("%s: %d learnt, %v", name, learnt, err)
		}
	}
}

// Every change has a segment's number; what is packed is joined, to be told to peers. Without
// reservations there is no segment more, and no list of keys more to ask a store for.
func TestReservationsAreStoredAndRestored(t *testing.T) {
	a, ids := crowd(t, 300)
	g := &segments{n: a}
	numbers := g.Changes(nil)
	for i := range reservationSegs {
		if numbers[firstReservationsSeg+i] == 0 {
			t.Errorf("segment %d has no number", i)
		}
	}
	mustSettle(t, a, ids[1], 5)
	rid, _ := a.reservationID(ids[1], 0)
	later := g.Changes(nil)
	for i := range reservationSegs {
		if changed := later[firstReservationsSeg+i] > numbers[firstReservationsSeg+i]; changed != (i == reservationSegmentOf(rid)) {
			t.Errorf("segment %d has changed: %v", i, changed)
		}
	}
	b := quietNode(t, 1_000_000, "1/h", 10_000)
	b.settled.Store(true)
	h, kept := &segments{n: b}, packAll(t, g)
	joinAll(t, h, kept, g.Clock(), time.Now())
	joinAll(t, h, kept, g.Clock(), time.Now())
	wantSame(t, a, b)
	c := quietNode(t, 1_000_000, "1/h", 10_000)
	c.settled.Store(true)
	exchange(t, &replica{n: b}, &replica{n: c}, 1200)
	wantSame(t, a, c)

	none, prefixes := reserver(t), map[string]bool{}
	none.Take("bench", "alice", 1)
	for segment := range packAll(t, &segments{n: none}) {
		if segment >= firstReservationsSeg {
			t.Errorf("segment %d is stored without reservations", segment)
		}
	}
	for _, spec := range segmentSpecs() {
		prefixes[spec.Prefix] = true
		if held := holdsReservations(spec.Name); held != strings.HasPrefix(spec.Name, "r") || held != (spec.TTL == reservationsTTL) || held && holdsVotes(spec.Name) {
			t.Errorf("%+v", spec)
		}
	}
	if len(prefixes) != 2 {
		t.Errorf("keys to list: %v", prefixes)
	}
}

// While a snapshot is packed a bucket may bear more, but not less: what is stored of it is no
// less than what the reservations beside it say.
func TestCreditsWaitForASnapshot(t *testing.T) {
	n, _ := crowd(t, 0)
	less, more := mustReserve(t, n, "alice", 100, time.Minute), mustReserve(t, n, "bob", 100, time.Minute)
	which := []int{firstReservationsSeg, firstReservationsSeg + 1, firstReservationsSeg + 2, firstReservationsSeg + 3}
	packed := 0
	(&segments{n: n}).Pack(t.Context(), which, func(int, []byte) error {
		if packed++; packed > 1 {
			return nil
		}
		if out := mustSettle(t, n, less.ID, 30); out.Applied || !out.Known {
			t.Errorf("%+v", out)
		}
		mustSettle(t, n, more.ID, 130)
		n.tickReservations()
		return nil
	})
	level := func(key string) int64 {
		b, _ := n.Look("bench", key)
		return int64(1_000_000*crdt.Token-b.Level) / int64(crdt.Token)
	}
	if level("alice") != 100 || level("bob") != 130 {
		t.Errorf("alice bears %d, bob %d", level("alice"), level("bob"))
	}
	n.tickReservations()
	if level("alice") != 30 {
		t.Errorf("alice bears %d", level("alice"))
	}
}

// What memory a reservation costs, and what the daemon's tick with many of them.
func TestWhatAReservationCosts(t *testing.T) {
	n := reserver(t)
	if a := testing.AllocsPerRun(100, n.tickReservations); a > 0 {
		t.Errorf("%v allocations a tick without reservations", a)
	}
	n, _ = crowd(t, 3000)
	for range 3000/reviewMost + 1 {
		n.tickReservations()
	}
	if q := len(n.reservations.queue); q > 0 {
		t.Errorf("%d in the queue after so many ticks as it needs", q)
	}
}

func BenchmarkTickOfReservations(b *testing.B) {
	for _, count := range []int{0, 1000, 100_000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			n := quietNode(b, 1_000_000_000, "1/h", 10_000)
			n.settled.Store(true)
			for range count {
				mustReserve(b, n, "alice", 1, time.Hour)
			}
			for len(n.reservations.queue) > 0 {
				n.tickReservations()
			}
			b.ReportAllocs()
			for b.Loop() {
				n.tickReservations()
			}
		})
	}
}

// Whatever of the three kinds comes first, and whatever follows: no payload is over its bound but
// that of one item.
func TestNoOrderOfItemsOverfillsAPayload(t *testing.T) {
	n, _ := crowd(t, 6)
	rep := &replica{n: n}
	all := rep.Drain(nil)[1:] // without the limits
	for most := 30; most < 300; most += 3 {
		for _, first := range all {
			for _, next := range all {
				if payload, covered := rep.Pack(nil, []uint32{first, next}, most); covered < 1 || covered > 1 && len(payload) > most {
					t.Fatalf("%x, %x: %d items in %d bytes of %d", first, next, covered, len(payload), most)
				}
			}
		}
	}
}
