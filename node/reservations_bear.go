package node

import (
	"github.com/cespare/xxhash/v2"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/gossip"
)

// Who brings a bucket to what it is to bear for a reservation: the node that made it, as long as it
// is a member, in whatever incarnation; once it has left or was forgotten, an heir. Nobody else,
// also not behind a cut: what is settled there counts when the one who answers for it hears of it.
// Until then the estimate stays taken, which is the safe side. Should two take themselves for
// that one, as rosters on two sides of a cut may differ, their accounts show it (crdt.Reservation)
// and it is set right.
//
// Bucket and account change under one lock, which a drain holds as well: both are in one round of
// gossip. A kill -9 loses that round, or a part of its frames. So what a bucket bears more goes out
// before the reservation that says so, and what it bears less after it: between the two, tokens
// are missing and none are given twice. A later change that overtakes a frame can turn that round;
// the error is that one reservation, once. The like holds for a snapshot (reservations_segment.go).
//
// What is not covered: a settlement that stays behind a cut beyond the end of its reservation
// (the estimate was freed and the use is not taken), and one whose node stays dead, but a member,
// for so long (the estimate is never freed). `openclawctl forget` is for the second.

// reviewMost is how many reservations one tick of the refill daemon may look at: some 100 µs.
const reviewMost = 256

// tickReservations does what is due.
func (n *Node) tickReservations() {
	r := &n.reservations
	if r.held.Load() == 0 || n.refill.isStopping() { // what is not told any more is the heir's
		return
	}
	now := n.wallNow().Unix()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.age(now, reviewMost)
	if s := n.standing(); s != r.seen {
		r.seen = s
		for rec := range r.uneven {
			r.enqueue(rec)
		}
	}
	k := min(reviewMost, len(r.queue))
	for _, rec := range r.queue[:k] {
		if rec.queued = false; rec.place != 0 {
			n.review(rec, now)
		}
	}
	if r.queue = r.queue[k:]; len(r.queue) == 0 {
		r.queue = nil
	}
}

// standing is ripe when what this node has restored is settled: before, a bucket may be
// missing that a reservation goes with.
func (n *Node) standing() standing {
	k := n.keeper.Load()
	return standing{n.gossip.View().Roster, n.settled.Load() && (k == nil || k.rounds.Load())}
}

// review brings the bucket to what it is to bear, if that is this node's to do. Caller holds mu.
func (n *Node) review(rec *reservation, now int64) {
	r := &n.reservations
	r.restate(rec, now)
	more := rec.Target(now) - rec.Net()
	if more == 0 {
		delete(r.uneven, rec)
		return
	}
	r.uneven[rec] = struct{}{}
	if !n.answersFor(rec) {
		return
	}
	if more < 0 && r.paused {
		r.later = append(r.later, rec)
		return
	}
	if !rec.Bear(n.writer, more) {
		return
	}
	delete(r.uneven, rec)
	n.bring(rec, more)
	if _, settled := rec.Used(); !settled && more < 0 {
		r.counts.freed.Add(1)
	}
	r.touch(rec, more > 0)
	rec.changed = n.refill.local.Load()
	r.changed.note(1 << reservationSegmentOf(rec.ID))
}

// bring takes so many tokens more from the bucket, or below 0 credits them: whole, or clipped as
// any credit, or to the debt that is not forgiven anyway. A bucket that there is no memory for is
// full, as is one of a limit that was removed: that which is moved there nobody would ever see.
func (n *Node) bring(rec *reservation, more int64) {
	l := n.force.Load().byName[rec.Limit]
	if l == nil {
		return
	}
	h := n.table.hash(uint16(l.Index), rec.Key)
	s := n.table.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	l = n.current(l)
	reading := l.reading()
	e, place := n.meet(s, l, reading, h, rec.Key)
	if e == nil {
		return
	}
	amount, moved := crdt.Milli(more)*crdt.Token, crdt.Milli(0)
	if more < 0 {
		moved = e.Credit(&l.terms, reading, -amount, n.slot())
	} else {
		moved = e.Charge(&l.terms, reading, amount, n.slot())
	}
	if moved > 0 {
		s.touch(e, place)
	}
}

// answersFor tells whether a reservation is this node's to bear. One that it made in this run it
// knows all about; of others only when what it restored is settled.
func (n *Node) answersFor(rec *reservation) bool {
	v := n.gossip.View()
	if !rec.BorneBy(n.writer) && !n.standing().ripe {
		return false
	}
	for i := range v.Members {
		if v.Members[i].Node == rec.Node {
			return rec.Node == n.cfg.Node
		}
	}
	if len(v.Members) == 0 { // not in a cluster yet
		return rec.Node == n.cfg.Node
	}
	return heir(v, rec.ID) == n.cfg.Node
}

// heir is the member that answers for a reservation whose node is gone: by rendezvous over all of
// them, reachable or not, so that both sides of a cut name the same one.
func heir(v *gossip.View, id crdt.ReservationID) string {
	best, name, key := uint64(0), "", xxhash.Sum64(id[:])
	for i := range v.Members {
		node := v.Members[i].Node
		if s := mix(xxhash.Sum64String(node), key); name == "" || s > best {
			best, name = s, node
		}
	}
	return name
}
