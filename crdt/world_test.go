package crdt

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// doubt is how far beyond its own reading a node of the tests accepts a mark.
const doubt = Instant(600e6)

const second = Instant(1e9)

func rate(t testing.TB, text string) Rate {
	t.Helper()
	r, err := ParseRate(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// terms of a limit with one rate, a debt that is never forgiven and no eviction.
func terms(capacity Milli, r Rate) *Terms {
	d := Definition{Name: "l", Capacity: capacity, Rate: r, MaxBuckets: 1}
	return &Terms{Definition: d, Epoch: 1, Pieces: []Piece{{Rate: r}}, MaxDebt: 1 << 50, Idle: Never}
}

// replica is one node's copy of one bucket, kept as package node keeps it: by the receive
// rule and the eviction rule of design.md, section 3.
type replica struct {
	terms  *Terms
	writer Writer
	serial uint32 // raised whenever a bucket is forgotten
	r      Instant
	bucket *Bucket // nil: absent
}

func (n *replica) slot() SlotID { return SlotID{n.writer, n.serial} }

func (n *replica) forget() {
	n.bucket = nil
	n.serial++
}

// meet is the bucket at n's reading, after the eviction rule.
func (n *replica) meet() *Bucket {
	if n.bucket != nil && n.bucket.Absent(n.terms, n.r) {
		n.forget()
	}
	if n.bucket == nil {
		b := NewBucket(n.terms, n.r)
		n.bucket = &b
	}
	return n.bucket
}

func (n *replica) take(m Milli) bool { return n.meet().Take(n.terms, n.r, m, n.slot()) }

func (n *replica) level() Milli {
	b := n.meet()
	b.Advance(n.terms, n.r)
	return b.Level(n.terms)
}

// receive is the receive rule: both to n's reading, or to the incoming mark if that lies
// beyond by at most the doubt; then join.
func (n *replica) receive(m *Bucket) (learnt, lacks bool) {
	at := max(n.r, m.Mark)
	if at > n.r+doubt || m.Epoch != n.terms.Epoch {
		return false, false
	}
	in := m.Clone()
	if n.bucket != nil && n.bucket.Absent(n.terms, at) {
		n.forget()
	}
	if in.Absent(n.terms, at) {
		return false, n.bucket != nil
	}
	in.Advance(n.terms, at)
	if n.bucket == nil {
		n.bucket = &in
		return true, false
	}
	n.bucket.Advance(n.terms, at)
	return n.bucket.Join(&in)
}

// adopt moves n to a later definition.
func (n *replica) adopt(next *Terms, from Instant) {
	if n.bucket != nil && next.Epoch > n.bucket.Epoch {
		n.bucket.Convert(n.terms, next, from, from)
	}
	n.terms = next
}

// quiet lets everybody hear everybody at one common reading until nobody lacks anything.
// Who learns, or meets a state that lacks something of its own, sends again. It fails if
// that does not end.
func quiet(t failer, nodes []*replica) {
	together(nodes)
	dirty := slices.Repeat([]bool{true}, len(nodes))
	for range 20 * len(nodes) {
		i := slices.Index(dirty, true)
		if i < 0 {
			return
		}
		dirty[i] = false
		if nodes[i].bucket == nil {
			continue
		}
		for j, n := range nodes {
			if j == i {
				continue
			}
			learnt, lacks := n.receive(nodes[i].bucket)
			dirty[j] = dirty[j] || learnt || lacks
		}
	}
	t.Fatalf("%d replicas still send after %d messages", len(nodes), 20*len(nodes)*len(nodes))
}

// together brings all nodes to one reading, no earlier than any mark.
func together(nodes []*replica) {
	var at Instant
	for _, n := range nodes {
		at = max(at, n.r)
		if n.bucket != nil {
			at = max(at, n.bucket.Mark)
		}
	}
	for _, n := range nodes {
		n.r = at
	}
}

type failer interface{ Fatalf(string, ...any) }

// equal tells whether two states are one, in any order of slots.
func equal(a, b *Bucket) bool {
	if a.Epoch != b.Epoch || a.Gen != b.Gen || a.Filled != b.Filled || a.Mark != b.Mark ||
		a.Touched != b.Touched || a.sum != b.sum || len(a.slots) != len(b.slots) {
		return false
	}
	for _, s := range a.slots {
		if o := b.find(s.SlotID); o == nil || *o != s {
			return false
		}
	}
	return true
}

func joined(a, b *Bucket) *Bucket {
	c := a.Clone()
	c.Join(b)
	return &c
}

// below is the order of the lattice: a ⊑ b.
func below(a, b *Bucket) bool { return equal(joined(b, a), b) }

// history is a random schedule on a few replicas that only sometimes hear each other,
// with every state that was ever sent.
type history struct {
	nodes []*replica
	sent  []Bucket
}

// mutations of a replica's bucket, each by its name.
var mutations = map[string]func(t *rapid.T, n *replica, b *Bucket){
	"advance": func(t *rapid.T, n *replica, b *Bucket) {
		n.r += Instant(rapid.Int64Range(1, 3e9).Draw(t, "ns"))
		b.Advance(n.terms, n.r)
	},
	"take":       func(t *rapid.T, n *replica, b *Bucket) { b.Take(n.terms, n.r, amount(t), n.slot()) },
	"credit":     func(t *rapid.T, n *replica, b *Bucket) { b.Credit(n.terms, n.r, amount(t), n.slot()) },
	"regenerate": func(t *rapid.T, n *replica, b *Bucket) { b.Regenerate(n.terms, n.r) },
}

func amount(t *rapid.T) Milli { return Milli(rapid.Int64Range(1, 6000).Draw(t, "milli")) }

var allSteps = []string{"advance", "take", "take", "credit", "send", "receive", "receive", "evict", "regenerate", "adopt"}

// drawHistory plays 5 to 60 steps: mutations, messages of any age, evictions of full
// buckets, new generations, and a new definition that every node adopts when it likes;
// without some of them, if so wished.
func drawHistory(t *rapid.T, without ...string) *history {
	steps := slices.DeleteFunc(slices.Clone(allSteps), func(s string) bool { return slices.Contains(without, s) })
	r := Rate{1, 1e6} // one token a second
	epochs := []*Terms{terms(10*Token, r), terms(7*Token, r)}
	epochs[1].Epoch = 1 << 16
	for _, e := range epochs {
		e.MaxDebt, e.Idle = 12*Token, 5*second
	}
	h := &history{}
	for i := range rapid.IntRange(2, 4).Draw(t, "nodes") {
		h.nodes = append(h.nodes, &replica{terms: epochs[0], writer: Writer(i + 1), serial: 1})
	}
	for range rapid.IntRange(5, 60).Draw(t, "steps") {
		n := h.nodes[rapid.IntRange(0, len(h.nodes)-1).Draw(t, "node")]
		switch op := rapid.SampledFrom(steps).Draw(t, "op"); op {
		case "send":
			h.sent = append(h.sent, n.meet().Clone())
		case "receive":
			if len(h.sent) > 0 {
				n.receive(&h.sent[rapid.IntRange(0, len(h.sent)-1).Draw(t, "message")])
			}
		case "evict":
			if n.bucket != nil && n.bucket.Full(n.terms, n.r) {
				n.forget()
			}
		case "adopt":
			if rapid.IntRange(0, 5).Draw(t, "rarely") == 0 && n.terms == epochs[0] {
				n.adopt(epochs[1], n.r)
			}
		default:
			if op != "regenerate" || rapid.IntRange(0, 5).Draw(t, "rarely") == 0 {
				mutations[op](t, n, n.meet())
			}
		}
	}
	return h
}

// draw is a reachable state: a replica's own, or one that was sent long ago.
func (h *history) draw(t *rapid.T) *Bucket {
	if i := rapid.IntRange(0, len(h.nodes)+len(h.sent)-1).Draw(t, "state"); i >= len(h.nodes) {
		return &h.sent[i-len(h.nodes)]
	} else {
		return h.nodes[i].meet()
	}
}
