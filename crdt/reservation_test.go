package crdt

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

const reservedUntil = 1_800_000_000

func reservation(n byte, cost int64, by Writer) *Reservation {
	r := &Reservation{ID: NewReservationID([16]byte{n}, reservedUntil)}
	r.Estimate = Estimate{Limit: "per-user", Key: "alice", Node: "edge-1", Cost: cost}
	r.Bear(by, cost)
	return r
}

func copyReservation(r *Reservation) *Reservation {
	c := *r
	c.account = r.account.clone()
	return &c
}

// sameReservation ignores the order of slots, which is each node's own.
func sameReservation(a, b *Reservation) bool {
	slots := func(r *Reservation) map[Slot]bool {
		return maps.Collect(func(yield func(Slot, bool) bool) {
			for _, s := range r.Account() {
				yield(s, true)
			}
		})
	}
	return a.ID == b.ID && a.used == b.used && a.Estimate == b.Estimate && a.Net() == b.Net() && maps.Equal(slots(a), slots(b))
}

// What the bucket is to bear, from the reservation to long after.
func TestTheTargetOfAReservation(t *testing.T) {
	open := reservation(1, 100, 7)
	settled, apart := reservation(1, 100, 7), reservation(1, 100, 7)
	settled.Settle(30)
	apart.Estimate.Apart, apart.account = true, PNCounter{}
	apart.Settle(500)
	waiting := &Reservation{ID: open.ID}
	waiting.Settle(30)
	for _, c := range []struct {
		what string
		r    *Reservation
		now  int64
		want int64
	}{
		{"open", open, reservedUntil - 60, 100}, {"in its last second", open, reservedUntil, 100}, {"abandoned", open, reservedUntil + 1, 0},
		{"settled", settled, reservedUntil - 60, 30}, {"settled, long ago", settled, reservedUntil + 200, 30},
		{"apart", apart, reservedUntil - 60, 0}, {"waiting", waiting, reservedUntil - 60, 0},
	} {
		if got := c.r.Target(c.now); got != c.want {
			t.Errorf("%s: the target is %d, want %d", c.what, got, c.want)
		}
	}
	if open.ID.Absent(reservedUntil+300) || !open.ID.Absent(reservedUntil+301) {
		t.Error("remembered for other than five minutes")
	}
}

// mesh is copies of one reservation on several nodes, and of the bucket that bears it: two values,
// that travel together. A node moves what it thinks is missing, whatever the others do.
type mesh struct {
	nodes  []*Reservation
	bucket []*PNCounter
}

func (m *mesh) exchange(from, to int) {
	m.nodes[to].Join(m.nodes[from])
	m.bucket[to].Join(m.bucket[from])
}

func (m *mesh) review(i int, now int64) {
	if more := m.nodes[i].Target(now) - m.nodes[i].Net(); more != 0 {
		m.nodes[i].Bear(Writer(i+1), more)
		m.bucket[i].Raise(SlotID{Writer(i + 1), 1}, max(0, -more), max(0, more))
	}
}

// Whoever reviews a reservation, in whatever order and however often, and whatever the others know
// of it: when all have met and one has looked once more, the bucket bears exactly what was used.
func TestWhoeverBearsItTheBucketEndsAtTheTarget(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &mesh{}
		for range 4 {
			m.nodes = append(m.nodes, &Reservation{ID: NewReservationID([16]byte{1}, reservedUntil)})
			m.bucket = append(m.bucket, &PNCounter{})
		}
		cost := rapid.Int64Range(1, 1000).Draw(t, "cost")
		m.nodes[0] = reservation(1, cost, 1)
		m.bucket[0].Raise(SlotID{1, 1}, 0, cost)
		now, most := int64(reservedUntil-60), int64(-1)
		node := rapid.IntRange(0, len(m.nodes)-1)
		for range rapid.IntRange(0, 40).Draw(t, "steps") {
			i := node.Draw(t, "node")
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0:
				used := rapid.Int64Range(0, 2000).Draw(t, "used")
				m.nodes[i].Settle(used)
				most = max(most, used)
			case 1:
				now = max(now, reservedUntil-60+rapid.Int64Range(0, 120).Draw(t, "now"))
			case 2:
				m.exchange(i, node.Draw(t, "to"))
			default:
				m.review(i, now)
			}
		}
		meet := func() {
			for range len(m.nodes) {
				for i := range m.nodes {
					m.exchange(i, (i+1)%len(m.nodes))
				}
			}
		}
		meet()
		m.review(2, now)
		meet()
		want := cost
		if most >= 0 {
			want = most
		} else if now > reservedUntil {
			want = 0
		}
		for i, r := range m.nodes {
			bears := -m.bucket[i].Value()
			if r.Net() != want || r.Target(now) != want || bears != want || !sameReservation(r, m.nodes[0]) {
				t.Fatalf("node %d: the bucket bears %d, the account says %d, want %d", i, bears, r.Net(), want)
			}
		}
	})
}

func drawReservation(t *rapid.T) *Reservation {
	r := &Reservation{ID: NewReservationID([16]byte{rapid.Byte().Draw(t, "id")}, reservedUntil)}
	if rapid.Bool().Draw(t, "settled") {
		r.Settle(rapid.Int64Range(0, MaxUsed).Draw(t, "used"))
	}
	if r.used > 0 && rapid.IntRange(0, 3).Draw(t, "known") == 0 {
		return r
	}
	name := rapid.SampledFrom([]string{"per-user", "per-ip", "edge-1", "edge-2"})
	r.Estimate = Estimate{Limit: name.Draw(t, "limit"), Key: rapid.StringN(1, 20, 80).Draw(t, "key"), Node: name.Draw(t, "node"),
		Cost: rapid.Int64Range(1, MaxUsed).Draw(t, "cost"), Apart: rapid.IntRange(0, 3).Draw(t, "apart") == 0}
	if !r.Apart {
		for w := range rapid.IntRange(1, 4).Draw(t, "writers") {
			r.Bear(Writer(w*w+1), rapid.Int64Range(1, MaxUsed).Draw(t, "n"))
			r.Bear(Writer(w*w+1), -rapid.Int64Range(0, MaxUsed).Draw(t, "p"))
		}
	}
	return r
}

func TestReservationsJoinByTheLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawReservation(t), drawReservation(t), drawReservation(t)
		b.ID, c.ID = a.ID, a.ID
		join := func(rs ...*Reservation) *Reservation {
			out := copyReservation(rs[0])
			for _, r := range rs[1:] {
				grew := out.Join(r)
				if out.Join(r) || grew && sameReservation(out, rs[0]) {
					t.Fatal("learnt what it knew")
				}
			}
			return out
		}
		if x, y := join(a, b), join(b, a); !sameReservation(x, y) {
			t.Fatalf("%+v\nand %+v", x, y)
		}
		if x, y := join(join(a, b), c), join(a, join(b, c)); !sameReservation(x, y) {
			t.Fatalf("%+v\nand %+v", x, y)
		}
	})
}

// What has been used already is taken below 0 too, but not further than debt is not forgiven.
func TestAChargeGoesIntoDebt(t *testing.T) {
	tr := terms(100*Token, rate(t, "10"))
	tr.MaxDebt = 130 * Token
	b := NewBucket(tr, 0)
	id := SlotID{7, 1}
	for i, c := range []struct{ n, took, level Milli }{{80, 80, 20}, {80, 80, -60}, {80, 70, -130}, {80, 0, -130}} {
		if took := b.Charge(tr, 0, c.n*Token, id); took != c.took*Token || b.Level(tr) != c.level*Token {
			t.Errorf("charge %d: took %d, level %d; want %+v", i, took/Token, b.Level(tr)/Token, c)
		}
	}
	if took := b.Charge(tr, second, 5*Token, id); took != 5*Token || b.Slots()[0].N != 235_000 {
		t.Errorf("a second later: took %d, slots %+v", took, b.Slots())
	}
}

func TestAnAccountHasRoomForSoManyWriters(t *testing.T) {
	r := reservation(1, 100, 1)
	for w := Writer(2); w <= maxBearers; w++ {
		if !r.Bear(w, 1) {
			t.Fatalf("no room for writer %d", w)
		}
	}
	if r.Bear(maxBearers+1, 1) || !r.Bear(1, 1) || r.Net() != 100+maxBearers {
		t.Errorf("net %d", r.Net())
	}
	if o := reservation(1, 100, maxBearers+1); r.Join(o) || len(r.Account()) != maxBearers {
		t.Errorf("%d writers after a join", len(r.Account()))
	}
	var p ReservationPacker
	p.Add(r, 1<<20)
	if out, err := unpackReservations(p.Append(nil)); err != nil || !sameReservation(out[0], r) {
		t.Error("not decoded: ", err)
	}
}

func goldenReservations() []byte {
	open, moved, waiting := reservation(1, 800, 1<<40+7), reservation(2, 90, 1<<40+7), &Reservation{ID: NewReservationID([16]byte{3}, reservedUntil)}
	moved.Settle(1000)
	moved.Bear(9, 910)
	moved.Key, moved.Node = "bob", "edge-2"
	waiting.Settle(0)
	apart := &Reservation{ID: NewReservationID([16]byte{4}, reservedUntil+60), Estimate: Estimate{Limit: "per-ip", Key: "192.0.2.1", Node: "edge-1", Cost: 1, Apart: true}}
	var p ReservationPacker
	for _, r := range []*Reservation{open, moved, waiting, apart} {
		p.Add(r, 1<<20)
	}
	return p.Append(nil)
}

func TestGoldenReservations(t *testing.T) { golden(t, "reservations", goldenReservations()) }

func unpackReservations(wire []byte) (all []*Reservation, err error) {
	var u ReservationUnpacker
	if err := u.Open(wire); err != nil {
		return nil, err
	}
	for {
		r, err := u.Next()
		if r == nil || err != nil {
			return all, err
		}
		all = append(all, r)
	}
}

// Whatever goes into a batch comes out of it, and the batch is as small as promised.
func TestABatchOfReservationsBringsBackWhatWentIn(t *testing.T) {
	var p ReservationPacker
	rapid.Check(t, func(t *rapid.T) {
		p.Reset()
		var in []*Reservation
		most := rapid.IntRange(60, 600).Draw(t, "most")
		for range rapid.IntRange(1, 8).Draw(t, "draws") {
			if r := drawReservation(t); p.Add(r, most) && (r.Known() || r.used > 0) {
				in = append(in, r)
			}
		}
		wire := p.Append(nil)
		if len(wire) > p.Len() || len(in) > 1 && len(wire) > most {
			t.Fatalf("%d bytes, said %d, allowed %d", len(wire), p.Len(), most)
		}
		if len(in) == 0 {
			if len(wire) > 0 {
				t.Fatalf("%x of nothing", wire)
			}
			return
		}
		out, err := unpackReservations(wire)
		if err != nil || !slices.EqualFunc(in, out, sameReservation) {
			t.Fatalf("%v\n%+v came back as\n%+v", err, in, out)
		}
	})
	p.Reset()
	p.Add(reservation(1, 800, 7), 1200)
	first := p.Len()
	p.Add(reservation(2, 800, 7), 1200)
	if each := p.Len() - first; each > 45 {
		t.Errorf("one more of the same limit, node and key costs %d bytes", each)
	}
	if bytes.Count(p.Append(nil), []byte("per-user")) != 1 {
		t.Error("a name twice")
	}
	for i := range byte(200) {
		p.Add(reservation(i, 1, Writer(i)), 1200)
	}
	if n := p.Entries(); p.Len() > 1200 || n < 20 {
		t.Error(fmt.Sprint(n, " of them in ", p.Len(), " bytes"))
	}
}
