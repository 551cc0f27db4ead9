package node

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/gossip"
)

// reserver is a node that has settled; its daemon ticks when told.
func reserver(t testing.TB) *Node {
	n := quietNode(t, 1000, "1/h", 10)
	n.settled.Store(true)
	return n
}

func mustReserve(t testing.TB, n *Node, key string, cost int64, ttl time.Duration) Reserved {
	t.Helper()
	out, err := n.Reserve(tokenLimit(n), key, cost, ttl)
	if err != nil || !out.Take.Allowed {
		t.Fatalf("reserve %d of %s at %s: %+v, %v", cost, key, n.cfg.Node, out, err)
	}
	return out
}

// tokenLimit is the limit that a test reserves from: its node's last.
func tokenLimit(n *Node) string { return n.cfg.Limits[len(n.cfg.Limits)-1].Name }

func mustSettle(t testing.TB, n *Node, id string, used int64) Settled {
	t.Helper()
	out, err := n.Settle(id, used)
	if err != nil {
		t.Fatalf("settle with %d at %s: %v", used, n.cfg.Node, err)
	}
	return out
}

func wantLevel(t testing.TB, n *Node, key string, want crdt.Milli) {
	t.Helper()
	b, err := n.Look(tokenLimit(n), key)
	if err != nil || b.Level != want*crdt.Token {
		t.Errorf("%s: %s has %s tokens, want %d (%v)", n.cfg.Node, key, appendTokens(nil, b.Level), want, err)
	}
}

// wantRefusal tells when an error is another refusal, or none.
func wantRefusal(t testing.TB, err error, status int, detail string) {
	t.Helper()
	var r *Refusal
	if !errors.As(err, &r) || r.Status != status || !strings.Contains(r.Detail, detail) {
		t.Errorf("%v; want %d: %s", err, status, detail)
	}
}

// One node, from the estimate to the use, whichever is more; a second settlement says so.
func TestASettlementReplacesTheEstimate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := reserver(t)
		less, more := mustReserve(t, n, "alice", 100, time.Minute), mustReserve(t, n, "alice", 200, time.Minute)
		if left := time.Until(less.Expires); left < time.Minute || left > time.Minute+time.Second || less.ID == more.ID {
			t.Errorf("expires in %v", left)
		}
		wantLevel(t, n, "alice", 700)
		for i, c := range []struct {
			id    string
			used  int64
			again bool
			left  crdt.Milli
		}{{less.ID, 30, false, 770}, {less.ID, 30, true, 770}, {more.ID, 950, false, 20}, {more.ID, 950, true, 20}} {
			out := mustSettle(t, n, c.id, c.used)
			if !out.Known || !out.Applied || out.Again != c.again || out.Used != c.used || out.Estimate.Key != "alice" || out.Estimate.Limit != "bench" {
				t.Errorf("step %d: %+v", i, out)
			}
			wantLevel(t, n, "alice", c.left)
		}
		_, err := n.Settle(less.ID, 31)
		wantRefusal(t, err, 409, "30 tokens were used")
		none := mustReserve(t, n, "alice", 20, time.Minute)
		mustSettle(t, n, none.ID, 0)
		wantLevel(t, n, "alice", 20)
		if out, err := n.Reserve("bench", "alice", 21, time.Minute); err != nil || out.Take.Allowed || out.ID != "" {
			t.Errorf("a dry bucket: %+v, %v", out, err)
		}
		time.Sleep(7 * time.Minute)
		n.tickReservations()
		wantLevel(t, n, "alice", 20)
		if c := &n.reservations.counts; c.reserved.Load() != 3 || c.settled.Load() != 3 || c.repeated.Load() != 2 || c.contradicted.Load() != 1 || c.refused.Load() != 1 || c.freed.Load() != 0 {
			t.Errorf("%+v", c)
		}
	})
}

// Who never settles gets the estimate back, once, and not before its time. Who settles within five
// minutes after it pays; later is too late.
func TestAnAbandonedReservationFreesItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := reserver(t)
		out := mustReserve(t, n, "alice", 100, 90*time.Second)
		late := mustReserve(t, n, "bob", 100, time.Second)
		end := mustReserve(t, n, "carol", 100, 1500*time.Millisecond)
		time.Sleep(time.Until(out.Expires))
		for range 3 {
			n.tickReservations()
		}
		wantLevel(t, n, "alice", 900)
		wantLevel(t, n, "bob", 1000)
		time.Sleep(time.Second)
		for range 3 {
			n.tickReservations()
			wantLevel(t, n, "alice", 1000)
		}
		if s := n.reservations.inStates(); s != [reservationStates]int{reservationFreed: 3} || n.reservations.counts.freed.Load() != 3 {
			t.Errorf("in states %v, freed %d", s, n.reservations.counts.freed.Load())
		}
		time.Sleep(time.Until(late.Expires.Add(crdt.ReservationKept)))
		if s := mustSettle(t, n, late.ID, 40); !s.Applied || s.Again {
			t.Errorf("%+v", s)
		}
		wantLevel(t, n, "bob", 960)
		time.Sleep(2 * time.Second)
		_, err := n.Settle(end.ID, 40)
		wantRefusal(t, err, 410, "take what was used")
		wantLevel(t, n, "carol", 1000)
		time.Sleep(2 * time.Minute)
		n.tickReservations()
		r := &n.reservations
		if r.held.Load() != 0 || len(r.byID)+len(r.due)+len(r.queue)+len(r.uneven) > 0 || r.states != [reservationStates]int{} {
			t.Errorf("at the end: %+v", r)
		}
		wantLevel(t, n, "bob", 960)
		again := mustReserve(t, n, "alice", 100, time.Second)
		mustSettle(t, n, again.ID, 10)
		wantLevel(t, n, "alice", 990)
	})
}

func TestIDsThatAreNoneAreRefused(t *testing.T) {
	n, other := reserver(t), reserver(t)
	other.cfg.Cluster = "another"
	id := mustReserve(t, n, "alice", 100, time.Minute).ID
	if len(id) != 32 || strings.Contains(id, "alice") {
		t.Errorf("%q", id)
	}
	raw, _ := base64.RawURLEncoding.DecodeString(id)
	for i := range raw { // every bit counts
		b := slices.Clone(raw)
		b[i] ^= 1 << (i % 8)
		_, err := n.Settle(base64.RawURLEncoding.EncodeToString(b), 1)
		wantRefusal(t, err, 404, "no such reservation")
	}
	_, err := other.Settle(id, 1)
	wantRefusal(t, err, 404, "no such reservation")
	for _, text := range []string{"", "x", id[:31], id + "A", id[:31] + "=", strings.Repeat("/", 32), strings.Repeat("x", 5000)} {
		_, err := n.Settle(text, 1)
		wantRefusal(t, err, 400, "it has 32 letters")
	}
	for _, used := range []int64{-1, crdt.MaxUsed + 1} {
		_, err := n.Settle(id, used)
		wantRefusal(t, err, 400, "write a whole number of 0 to 1000000000")
	}
	future := n.newReservationID(time.Now().Add(2 * time.Hour).Unix())
	_, err = n.Settle(reservationText(future), 1)
	wantRefusal(t, err, 404, "no such reservation")
	for _, ttl := range []time.Duration{0, -time.Second, time.Second - 1, time.Hour + 1} {
		_, err := n.Reserve("bench", "alice", 1, ttl)
		wantRefusal(t, err, 400, "write 1s to 1h0m0s")
	}
	_, err = n.Reserve("bench", "alice", 1001, time.Minute)
	wantRefusal(t, err, 400, "more than the capacity")
	if _, err := n.Reserve("nope", "alice", 1, time.Minute); !errors.Is(err, ErrUnknownLimit) {
		t.Error(err)
	}
	wantLevel(t, n, "alice", 900)
	if held := len(n.reservations.byID); held != 1 {
		t.Errorf("%d reservations: what was refused is remembered", held)
	}
}

// Beyond the bounds nothing is taken and nothing noted; what peers say has a quarter more room.
func TestReservationsAreBounded(t *testing.T) {
	n, peer := reserver(t), reserver(t)
	n.reservations.bounds = reservationBounds{all: 8, waiting: 2}
	unknown := func() string { return reservationText(n.newReservationID(time.Now().Add(time.Minute).Unix())) }
	first := unknown()
	if out := mustSettle(t, n, first, 5); out.Known || out.Applied || out.Again {
		t.Errorf("%+v", out)
	}
	if out := mustSettle(t, n, first, 5); out.Known || !out.Again {
		t.Errorf("%+v", out)
	}
	mustSettle(t, n, unknown(), 5)
	_, err := n.Settle(unknown(), 5)
	wantRefusal(t, err, 503, "settle sooner")
	for range 6 {
		mustReserve(t, n, "alice", 10, time.Minute)
	}
	_, err = n.Reserve("bench", "alice", 10, time.Minute)
	wantRefusal(t, err, 503, "shorter ttl")
	wantLevel(t, n, "alice", 940)
	for range 5 {
		mustReserve(t, peer, "alice", 10, time.Minute)
	}
	exchange(t, &replica{n: peer}, &replica{n: n}, 1200)
	if held, c := len(n.reservations.byID), &n.reservations.counts; held != 10 || c.unkept.Load() != 3 || c.full.Load() != 2 {
		t.Errorf("%d held, %d not kept, %d times full", held, c.unkept.Load(), c.full.Load())
	}
	wantLevel(t, n, "alice", 890) // its bucket came all the same
}

// A peer's reservation that ends later than any can is not kept: it would stay for years.
func TestWhatEndsTooLateIsNotKept(t *testing.T) {
	n, peer := reserver(t), reserver(t)
	now := time.Now()
	for _, ends := range []time.Duration{time.Minute, 2 * time.Hour} {
		id := peer.newReservationID(now.Add(ends).Unix())
		rec := peer.reservations.meet(id, now.Unix(), false, peer.reservations.bounds)
		rec.Settle(5)
		peer.reservations.touch(rec, false)
	}
	exchange(t, &replica{n: peer}, &replica{n: n}, 1200)
	if held, early := len(n.reservations.byID), n.reservations.counts.early.Load(); held != 1 || early != 1 {
		t.Errorf("%d held, %d refused as too late; want one of each", held, early)
	}
}

// What the backup or the overflow bucket served is not given back to the key's own.
func TestWhatWasServedApartStaysApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := reserver(t)
		def := n.force.Load().byName["bench"].Definition
		def.Backup, def.MaxBuckets = &crdt.Backup{Capacity: 50 * crdt.Token, Rate: def.Rate}, 1
		redefine(t, n, 2, def)
		n.cfg.Limits[0] = def
		mustReserve(t, n, "alice", 1000, time.Hour)
		n.failover.Store(true)
		out := mustReserve(t, n, "alice", 20, time.Minute)
		if !out.Take.Backup {
			t.Errorf("%+v", out)
		}
		if s := mustSettle(t, n, out.ID, 5); !s.Applied || s.Estimate.Cost != 20 {
			t.Errorf("%+v", s)
		}
		abandoned := mustReserve(t, n, "alice", 20, time.Minute)
		over := mustReserve(t, n, "bob", 300, time.Minute)
		if s := mustSettle(t, n, over.ID, 900); !s.Estimate.Apart {
			t.Errorf("what the overflow bucket served is not told apart: %+v", s)
		}
		time.Sleep(time.Until(abandoned.Expires) + 2*time.Second)
		n.tickReservations()
		wantLevel(t, n, "alice", 0)
		n.failover.Store(false)
		n.refill.state.Store(&authority{single: true})
		b, _ := n.Look("bench", "bob")
		l := n.force.Load().byName["bench"]
		all, more := Decision{Limit: l, Cost: 700}, Decision{Limit: l, Cost: 1}
		n.take(&all, "")
		n.take(&more, "")
		if b.Level != 1000*crdt.Token || !all.Allowed || more.Allowed {
			t.Errorf("the overflow bucket was given back to, or charged: %+v, %+v", all, more)
		}
	})
}

// A settlement that overtakes its reservation waits for it.
func TestASettlementMayOvertakeItsReservation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := reserver(t), reserver(t)
		from, to := &replica{n: a}, &replica{n: b}
		out := mustReserve(t, a, "alice", 100, time.Minute)
		if s := mustSettle(t, b, out.ID, 30); s.Known || s.Applied {
			t.Errorf("%+v", s)
		}
		if _, err := b.Settle(out.ID, 31); err == nil {
			t.Error("two figures on one node")
		}
		exchange(t, from, to, 1200)
		b.tickReservations()
		exchange(t, to, from, 1200) // both call themselves edge-1: either may bear it
		a.tickReservations()
		exchange(t, from, to, 1200)
		b.tickReservations()
		wantLevel(t, a, "alice", 970)
		wantLevel(t, b, "alice", 970)
		if s := b.reservations.inStates(); s != [reservationStates]int{reservationSettled: 1} {
			t.Errorf("in states %v", s)
		}
	})
}

// A node that has started again leaves a reservation alone until what it restores is settled: a
// bucket that is still to come would look full, and have no room for a credit.
func TestARestartedNodeWaitsForItsPast(t *testing.T) {
	a, b := reserver(t), reserver(t)
	b.settled.Store(false)
	id := mustReserve(t, a, "alice", 100, time.Minute).ID
	from, to := &replica{n: a}, &replica{n: b}
	ids := from.Drain(nil)
	pass := func(ids []uint32) {
		payload, _ := from.Pack(nil, ids, 1<<16)
		if _, _, err := to.Unpack(payload, nil); err != nil {
			t.Fatal(err)
		}
	}
	pass(ids[len(ids)-1:]) // the reservation alone
	mustSettle(t, b, id, 30)
	b.tickReservations()
	wantLevel(t, b, "alice", 1000)
	pass(ids)
	b.tickReservations()
	wantLevel(t, b, "alice", 900)
	b.settled.Store(true)
	b.tickReservations()
	wantLevel(t, b, "alice", 970)
}

// A bucket that was evicted meanwhile is full: a credit finds no room there, and a charge does.
func TestABucketThatIsGoneIsFull(t *testing.T) {
	n := reserver(t)
	less, more := mustReserve(t, n, "alice", 100, time.Minute), mustReserve(t, n, "bob", 100, time.Minute)
	for i := range n.table.shards {
		s := &n.table.shards[i]
		s.each(func(e *entry, place uint32) { n.evict(s, n.force.Load().byName["bench"], place) })
	}
	if s := mustSettle(t, n, less.ID, 30); !s.Applied {
		t.Errorf("%+v", s)
	}
	mustSettle(t, n, more.ID, 130)
	wantLevel(t, n, "alice", 1000)
	wantLevel(t, n, "bob", 970)
}

// The heir is one member, the same for all who know the roster, and another for another reservation.
func TestAReservationHasOneHeir(t *testing.T) {
	n := reserver(t)
	v := viewOf("edge-1", "edge-2", "edge-3")
	share := map[string]int{}
	for range 300 {
		id := n.newReservationID(1)
		name := heir(v, id)
		share[name]++
		if less := heir(viewOf("edge-1", "edge-2"), id); name != "edge-3" && less != name {
			t.Fatalf("%s's, and without edge-3 %s's", name, less)
		}
	}
	if len(share) != 3 || share["edge-1"] < 60 || share["edge-2"] < 60 || share["edge-3"] < 60 {
		t.Error(fmt.Sprint(share))
	}
}

func viewOf(names ...string) *gossip.View {
	v := &gossip.View{}
	for _, name := range names {
		v.Members = append(v.Members, gossip.Member{Node: name})
	}
	return v
}
