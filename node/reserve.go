package node

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/openclaw/edge/crdt"
)

// How long an estimate may be kept for who reserved it.
const (
	minReserveTTL     = time.Second
	maxReserveTTL     = time.Hour
	defaultReserveTTL = time.Minute
)

// Reserved is the answer to a reservation. Without Take.Allowed there is none.
type Reserved struct {
	Take    Decision
	ID      string
	Expires time.Time // unless it is settled, the estimate is given back then
}

// Settled is the answer to a settlement.
type Settled struct {
	Known    bool // false: noted, and this node has not heard of the reservation yet
	Estimate crdt.Estimate
	Used     int64
	Applied  bool // the bucket bears it; false: the node that answers for it has yet to say so
	Again    bool // the same had been recorded before
}

// Reserve takes an estimate of cost whole tokens from the bucket of limit and key, and keeps it
// for ttl, rounded up to the second in which it ends: within that time, and some minutes beyond,
// Settle replaces it by what was used, on any node, however often it is sent; if nobody does, it
// is given back. The error is ErrUnknownLimit or a *Refusal, and then nothing was taken.
//
// What the backup bucket or the overflow bucket served stays as it is: a node's own allowance and a
// bucket shared by strangers are nothing that another node could give back to.
func (n *Node) Reserve(limit, key string, cost int64, ttl time.Duration) (Reserved, error) {
	l, err := n.admissible(limit, key, cost)
	if err != nil {
		return Reserved{}, err
	}
	if ttl < minReserveTTL || ttl > maxReserveTTL {
		return Reserved{}, refuse("a ttl of %v: write %v to %v, as in ttl=90s, and somewhat more than the call takes that is reserved for", ttl, minReserveTTL, maxReserveTTL)
	}
	now := n.wallNow()
	id := n.newReservationID(now.Add(ttl + time.Second - 1).Unix())
	r := &n.reservations
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.byID) >= r.bounds.all {
		r.counts.full.Add(1)
		return Reserved{}, errReservationsFull
	}
	d := Decision{Limit: l, Cost: cost}
	n.take(&d, key)
	if !d.Allowed {
		r.counts.refused.Add(1)
		return Reserved{Take: d}, nil
	}
	rec := r.meet(id, now.Unix(), true, r.bounds)
	rec.Estimate = crdt.Estimate{Limit: d.Limit.Name, Key: strings.Clone(key), Node: n.cfg.Node, Cost: cost, Apart: d.Backup || d.shared}
	if !rec.Apart {
		rec.Bear(n.writer, cost)
	}
	r.restate(rec, now.Unix())
	r.touch(rec, true)
	r.note(rec, n.refill.local.Load())
	r.counts.reserved.Add(1)
	return Reserved{Take: d, ID: reservationText(id), Expires: time.Unix(id.Deadline(), 0).UTC()}, nil
}

// Settle records what a reservation has really used, of 0 to crdt.MaxUsed whole tokens. The same
// again changes nothing; another figure is refused where the first is known, and where it is not,
// the larger one will hold. The error is a *Refusal.
func (n *Node) Settle(id string, used int64) (Settled, error) {
	now := n.wallNow().Unix()
	rid, err := n.reservationID(id, now)
	if err != nil {
		return Settled{}, err
	}
	if used < 0 || used > crdt.MaxUsed {
		return Settled{}, refuse("%d tokens used: write a whole number of 0 to %d", used, crdt.MaxUsed)
	}
	r := &n.reservations
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.meet(rid, now, false, r.bounds)
	if rec == nil {
		r.counts.full.Add(1)
		return Settled{}, errReservationsFull
	}
	before, again := rec.Used()
	switch {
	case again && before != used:
		r.counts.contradicted.Add(1)
		return Settled{}, &Refusal{http.StatusConflict, fmt.Sprintf("this reservation is settled: %d tokens were used, and that stays; credit or take the difference, if it was wrong", before)}
	case again:
		r.counts.repeated.Add(1)
	default:
		rec.Settle(used)
		r.counts.settled.Add(1)
		r.touch(rec, false)
		r.note(rec, n.refill.local.Load())
		n.review(rec, now)
	}
	return Settled{Known: rec.Known(), Estimate: rec.Estimate, Used: used, Again: again,
		Applied: rec.Known() && rec.Target(now) == rec.Net()}, nil
}

var errReservationsFull = &Refusal{http.StatusServiceUnavailable, "this node knows as many reservations as it may (openclaw_reservations_held): settle sooner and reserve for a shorter ttl, " +
	"as each is remembered until five minutes after it; until then POST /v1/take and /v1/credit do without one"}

// newReservationID is one that nobody guesses.
func (n *Node) newReservationID(deadline int64) crdt.ReservationID {
	var random [16]byte
	rand.Read(random[:]) // never fails
	id := crdt.NewReservationID(random, deadline)
	n.checkReservationID(&id)
	return id
}

// checkReservationID fills in the check, and tells whether it was right. It tells a slip from a
// reservation that has not come here yet, and one cluster's from another's; a secret it is not.
func (n *Node) checkReservationID(id *crdt.ReservationID) bool {
	sum := sha256.Sum256(append(id[:20:20], n.cfg.Cluster...))
	right := [4]byte(sum[:4]) == [4]byte(id[20:])
	copy(id[20:], sum[:4])
	return right
}

func reservationText(id crdt.ReservationID) string {
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// reservationID reads an ID that may still be settled.
func (n *Node) reservationID(text string, now int64) (id crdt.ReservationID, err error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != len(id) {
		return id, refuse("%.64q is no reservation's id: it has %d letters, digits, '-' and '_'; write what POST /v1/reserve answered", text, base64.RawURLEncoding.EncodedLen(len(id)))
	}
	id = crdt.ReservationID(b)
	switch {
	case !n.checkReservationID(&id) || early(&id, now):
		return id, &Refusal{http.StatusNotFound, "no such reservation: this cluster has never made that id; write what POST /v1/reserve answered"}
	case id.Absent(now):
		return id, &Refusal{http.StatusGone, fmt.Sprintf("this reservation ended at %s, its estimate was given back, and it is not remembered any more: take what was used with POST /v1/take, and reserve for longer",
			time.Unix(id.Deadline(), 0).UTC().Format(time.RFC3339))}
	}
	return id, nil
}

// early tells whether an ID ends later than any clock would have it: it would be kept too long.
func early(id *crdt.ReservationID, now int64) bool {
	return id.Deadline() > now+int64((maxReserveTTL+crdt.ReservationKept)/time.Second)
}
