package node

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
)

// ratingNode is a node whose bucket never runs dry.
func ratingNode(t testing.TB) *Node {
	n := quietNode(t, 1_000_000_000, "1", 10)
	n.cfg.RatingsLimit = "bench"
	n.settled.Store(true)
	return n
}

// vote rates, and must be allowed to.
func (n *Node) vote(t testing.TB, subject, rater string, value int) Rated {
	t.Helper()
	out, err := n.Rate(Ballot{Subject: subject, Vote: value, Rater: rater, Payer: "payer"})
	if err != nil || !out.Take.Allowed {
		t.Fatalf("%q on %q: %+v, %v", rater, subject, out, err)
	}
	return out
}

// wantCounts tells when a node has counted something else.
func wantCounts(t testing.TB, n *Node, subject string, up, down int64) {
	t.Helper()
	if r := n.LookRating(subject); r.Up != up || r.Down != down {
		t.Errorf("%s: %s has %d up, %d down; want %d, %d", n.cfg.Node, subject, r.Up, r.Down, up, down)
	}
}

func TestANamedVoteCountsOnceChangesAndIsWithdrawn(t *testing.T) {
	n := ratingNode(t)
	for i, step := range []struct {
		rater    string
		vote     int
		changed  bool
		up, down int64
	}{
		{"alice", 1, true, 1, 0}, {"alice", 1, false, 1, 0}, {"bob", 1, true, 2, 0}, {"alice", -1, true, 1, 1},
		{"alice", -1, false, 1, 1}, {"alice", 0, true, 1, 0}, {"alice", 0, false, 1, 0}, {"carol", 0, true, 1, 0},
	} {
		out := n.vote(t, "latte", step.rater, step.vote)
		if out.Changed != step.changed || out.Rating.Up != step.up || out.Rating.Down != step.down {
			t.Errorf("step %d: %+v", i, out)
		}
	}
	wantCounts(t, n, "latte", 1, 0)
	wantCounts(t, n, "mocha", 0, 0)
	if got := n.ratings.subjects.Load(); got != 1 {
		t.Errorf("%d subjects: to look at one makes none", got)
	}
}

func TestAnonymousVotesCountOnceOnlyWithAKey(t *testing.T) {
	n := ratingNode(t)
	for range 2 {
		n.Rate(Ballot{Subject: "latte", Vote: 1, Once: "7f3a", Payer: "ip"})
		n.Rate(Ballot{Subject: "latte", Vote: -1, Payer: "ip"})
	}
	wantCounts(t, n, "latte", 1, 2)
	n.vote(t, "latte", "7f3a", 1) // a rater of that name is somebody else
	wantCounts(t, n, "latte", 2, 2)
}

// Formula and figures of Wilson's interval, as published tables have them.
func TestWilsonLower(t *testing.T) {
	for _, c := range []struct {
		up, down int64
		want     float64
	}{{0, 0, 0}, {1, 0, 0.20655}, {0, 9, 0}, {10, 0, 0.72247}, {90, 10, 0.82563}, {5, 5, 0.23659}, {600, 400, 0.56930}} {
		if got := wilsonLower(c.up, c.down); math.Abs(got-c.want) > 5e-5 || got < 0 {
			t.Errorf("%d of %d: %.5f, want %.5f", c.up, c.up+c.down, got, c.want)
		}
	}
}

// The ranking by the tree is the one that sorting everything gives, for every prefix.
func TestTopIsWhatSortingWouldGive(t *testing.T) {
	n := ratingNode(t)
	r := rand.New(rand.NewPCG(1, 1))
	names := []string{"a", "a/", "b", "b\xc3\xbc"}
	for i := range 600 {
		names = append(names, fmt.Sprintf("%c/%d", 'a'+i%3, r.IntN(1<<20)))
	}
	for range 4000 {
		n.vote(t, names[r.IntN(len(names))], fmt.Sprint("rater-", r.IntN(12)), r.IntN(3)-1)
	}
	for _, prefix := range []string{"", "a", "a/", "a/1", "b", "b\xc3", "c/9", "d", names[7]} {
		var all []ranked
		for _, name := range names {
			if v := n.LookRating(name); strings.HasPrefix(name, prefix) && v.Up+v.Down > 0 {
				all = append(all, ranked{name, v.Up, v.Down, v.Wilson})
			}
		}
		slices.SortFunc(all, func(a, b ranked) int {
			if a.before(&b) {
				return -1
			}
			return 1
		})
		for _, k := range []int{1, 10, 100, 1000} {
			want := all[:min(k, len(all))]
			got := n.ratings.top(k, prefix)
			if !slices.Equal(got, want) {
				t.Fatalf("top %d of %q: %d of them, want %d\n got %v\nwant %v", k, prefix, len(got), len(want), got[:min(5, len(got))], want[:min(5, len(want))])
			}
		}
	}
}

func TestRatingsHaveBounds(t *testing.T) {
	n := ratingNode(t)
	n.ratings.bounds = ratingBounds{subjects: 2, votes: 5, raters: 3}
	for i, c := range []struct {
		subject, rater string
		ok             bool
	}{
		{"a", "1", true}, {"a", "2", true}, {"a", "3", true}, {"a", "4", false}, {"a", "", true},
		{"b", "1", true}, {"c", "1", false}, {"c", "", false}, {"b", "2", true}, {"b", "3", false}, {"a", "3", true},
	} {
		b, _ := n.Look("bench", "payer")
		_, err := n.Rate(Ballot{Subject: c.subject, Vote: 1 - 2*(i%2), Rater: c.rater, Payer: "payer"})
		var refusal *Refusal
		if (err == nil) != c.ok || err != nil && (!errors.As(err, &refusal) || refusal.Status != 507) {
			t.Errorf("%d: %v", i, err)
		}
		if after, _ := n.Look("bench", "payer"); (after.Level == b.Level) == c.ok {
			t.Errorf("%d: ok is %v, and the level went from %v to %v", i, c.ok, b.Level, after.Level)
		}
	}
	if n.ratings.subjects.Load() != 2 || n.ratings.votes.Load() != 5 {
		t.Errorf("%d subjects, %d votes", n.ratings.subjects.Load(), n.ratings.votes.Load())
	}
}

// What peers admitted while a cut hid it from this node is kept up to a quarter beyond the
// bounds, and no further.
func TestRatingsOfPeersHaveBounds(t *testing.T) {
	a, b := ratingNode(t), ratingNode(t)
	b.ratings.bounds = ratingBounds{subjects: 4, votes: 8, raters: 4}
	for i := range 6 {
		for subject := range 7 {
			a.vote(t, fmt.Sprint("subject-", subject), fmt.Sprint("rater-", i), 1)
		}
	}
	exchange(t, &replica{n: a}, &replica{n: b}, 1200)
	most := int64(0)
	for _, r := range b.TopRatings(10, "") {
		most = max(most, r.Up)
	}
	if s, v := b.ratings.subjects.Load(), b.ratings.votes.Load(); s != 5 || v != 10 || most > 5 || b.ratings.counts.unkept.Load() != 32 {
		t.Errorf("%d subjects, %d votes, %d of one, %d not kept", s, v, most, b.ratings.counts.unkept.Load())
	}
}

// Votes by thousands go from node to node in frames, page by page, and end in the same state;
// what one of them makes of its pages is its own affair.
func TestManyVotesTravelInPages(t *testing.T) {
	a, b := ratingNode(t), ratingNode(t)
	from, to := &replica{n: a}, &replica{n: b}
	from.Drain(nil)
	r := rand.New(rand.NewPCG(2, 2))
	said := map[string]int{}
	most := 0
	for i := range 3000 {
		rater, vote := fmt.Sprint("rater-", r.IntN(2000)), r.IntN(3)-1
		said[rater] = vote
		a.vote(t, "latte", rater, vote)
		b.vote(t, fmt.Sprint("own-", i%7), rater, 1)
		if i%10 == 9 {
			most = max(most, exchange(t, from, to, 1200))
		}
	}
	exchange(t, from, to, 1200)
	var up, down int64
	for _, v := range said {
		up, down = up+int64(max(0, v)), down+int64(max(0, -v))
	}
	wantCounts(t, a, "latte", up, down)
	wantCounts(t, b, "latte", up, down)
	if pages := 1 + len(a.ratings.subject("latte").more); pages < 30 || pages > 70 {
		t.Errorf("%d pages for %d votes", pages, len(said))
	}
	if most > 30 { // ten votes change ten pages of three quarters of a kilobyte at most
		t.Errorf("%d frames for ten votes", most)
	}
	x, _ := a.Look("bench", "payer")
	y, _ := b.Look("bench", "payer")
	if len(y.Slots) != 2 || y.Level != x.Level-3000*crdt.Token { // b has paid for its own as well
		t.Errorf("of the tokens paid for votes %+v are known here, %+v there", x, y)
	}
	sums := func(p *replica) []uint64 {
		p.n.refill.local.Add(int64(time.Hour))
		s := make([]uint64, 1024)
		if err := p.Audit(p.AuditPoint(nil), s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	exchange(t, to, from, 1200)
	exchange(t, from, to, 1200)
	ours, theirs := sums(from), sums(to)
	zero := 0
	for i := range ours {
		if ours[i] != theirs[i] {
			t.Fatalf("range %d differs after everything was exchanged", i)
		}
		if ours[i] == 0 {
			zero++
		}
	}
	if zero == len(ours) {
		t.Fatal("nothing was audited")
	}
	b.ratings.early(t)
	a.vote(t, "latte", "late", 1)
	if ours, theirs = sums(from), sums(to); slices.Equal(ours, theirs) {
		t.Fatal("the audit does not see that a vote is missing")
	}
	var mended []uint32
	for i := range ours {
		if ours[i] != theirs[i] {
			ids, err := from.AuditRange(from.AuditPoint(nil), i, len(ours), nil)
			if err != nil {
				t.Fatal(err)
			}
			mended = append(mended, ids...)
		}
	}
	payload, _ := from.Pack(nil, mended, 1<<20)
	if _, learnt, err := to.Unpack(payload, nil); err != nil || learnt != 1 {
		t.Fatalf("%d learnt, %v", learnt, err)
	}
	wantCounts(t, b, "latte", up+1, down)
}

// exchange sends what from has changed, in payloads of most bytes, and says how many those were.
func exchange(t testing.TB, from, to *replica, most int) (payloads int) {
	t.Helper()
	for ids := from.Drain(nil); len(ids) > 0; payloads++ {
		payload, covered := from.Pack(nil, ids, most)
		if covered < 1 || len(payload) > most && covered > 1 {
			t.Fatalf("%d items in %d bytes", covered, len(payload))
		}
		if len(payload) > 0 {
			if _, _, err := to.Unpack(payload, nil); err != nil {
				t.Fatal(err)
			}
		}
		ids = ids[covered:]
	}
	return payloads
}

func (r *ratings) subject(name string) *subject {
	s, _ := r.shard(name)
	return s.subjects[name]
}

// early checks that nothing was refused so far.
func (r *ratings) early(t testing.TB) {
	t.Helper()
	if e, u := r.counts.early.Load(), r.counts.unkept.Load(); e+u > 0 {
		t.Fatalf("%d votes refused by the clock, %d for memory", e, u)
	}
}

// A first sync and a relay: whatever is scanned arrives, also what a peer of a peer said.
func TestAScanHasEveryRating(t *testing.T) {
	a, b := ratingNode(t), ratingNode(t)
	for i := range 500 {
		a.vote(t, fmt.Sprint("subject-", i%100), fmt.Sprint("rater-", i), 1)
		a.Rate(Ballot{Subject: fmt.Sprint("subject-", i%100), Vote: -1, Payer: "payer"})
	}
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
	got, learnt, err := to.Unpack(payload, nil)
	if err != nil || covered != len(ids) || learnt < 100 || len(got) < 100 {
		t.Fatalf("%d of %d, %d learnt, %v", covered, len(ids), learnt, err)
	}
	for i := range 100 {
		wantCounts(t, b, fmt.Sprint("subject-", i), 5, 5)
	}
	if n := len(to.Drain(nil)); n > 1 { // the limits: gossip knows from Unpack what it may have to relay
		t.Errorf("%d items are changes of this node's own", n)
	}
}

// What the clocks of peers say beyond a day is refused, counted, and brought by a later audit.
func TestAVoteOfTheDayAfterTomorrowIsRefused(t *testing.T) {
	a, b := ratingNode(t), ratingNode(t)
	a.cfg.WallAhead = 48 * time.Hour
	a.vote(t, "latte", "alice", 1)
	a.vote(t, "latte", "", 1)
	from, to := &replica{n: a}, &replica{n: b}
	exchange(t, from, to, 1200)
	wantCounts(t, b, "latte", 1, 0)
	if b.ratings.counts.early.Load() != 1 {
		t.Errorf("%d refused", b.ratings.counts.early.Load())
	}
	b.cfg.WallAhead = 25 * time.Hour
	ids, _ := from.Scan(ratingsFrom, nil, 10)
	payload, _ := from.Pack(nil, ids, 1200)
	to.Unpack(payload, nil)
	wantCounts(t, b, "latte", 2, 0)
}

func TestPayloadsOfOtherFormsAreRefused(t *testing.T) {
	n := ratingNode(t)
	n.vote(t, "latte", "alice", 1)
	rep := &replica{n: n}
	good, _ := rep.Pack(nil, rep.Drain(nil), 1200)
	if good[0] != payloadWithRatings {
		t.Fatalf("%x", good)
	}
	long := append([]byte{payloadWithRatings, good[1] | 0x80, 0}, good[2:]...)
	for name, b := range map[string][]byte{"cut off": good[:good[1]], "a longer length": long, "no length": {3}, "nothing": {3, 0}, "ratings cut off": {3, 1, 2}} {
		if _, learnt, err := (&replica{n: ratingNode(t)}).Unpack(b, nil); err == nil || learnt > 0 {
			t.Errorf("%s: %d learnt, %v", name, learnt, err)
		}
	}
}

// Every vote has a segment's number; what is packed is joined, to be told to peers.
func TestRatingsAreStoredAndRestored(t *testing.T) {
	a, b := ratingNode(t), ratingNode(t)
	g := &segments{n: a}
	before := g.Changes(nil)
	for i := range 3000 {
		a.vote(t, fmt.Sprint("subject-", i%40), fmt.Sprint("rater-", i), 1-i%3)
	}
	after := g.Changes(nil)
	for i := range 40 {
		if segment := firstVotesSeg + int(ratingSegmentOf(fmt.Sprint("subject-", i))); after[segment] <= before[segment] {
			t.Errorf("subject %d: segment %d has no number", i, segment)
		}
	}
	h := &segments{n: b}
	kept := packAll(t, g)
	joinAll(t, h, kept, g.Clock(), time.Now())
	joinAll(t, h, kept, g.Clock(), time.Now())
	for i := range 40 {
		r := a.LookRating(fmt.Sprint("subject-", i))
		wantCounts(t, b, r.Subject, r.Up, r.Down)
	}
	if v := b.ratings.votes.Load(); v != 3000 {
		t.Errorf("%d votes", v)
	}
	c := ratingNode(t)
	exchange(t, &replica{n: b}, &replica{n: c}, 1200)
	r := a.LookRating("subject-7")
	wantCounts(t, c, "subject-7", r.Up, r.Down)
	if got := ratingSegmentOf("latte"); got != 6 { // part of what is stored
		t.Errorf("latte is in segment %d", got)
	}
	for i, spec := range segmentSpecs() {
		if votes := i >= firstVotesSeg && i < firstReservationsSeg; votes != (spec.Prefix == votesPrefix) || votes != holdsVotes(spec.Name) || votes != (spec.TTL == 0) {
			t.Errorf("segment %d: %+v", i, spec)
		}
	}
}
