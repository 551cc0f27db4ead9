package crdt

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// ballots is the dumb reference of a rating: maps, and an order that is spelled out.
type ballots struct {
	votes map[uint64]ballot
	anon  map[SlotID][2]int64
}

type ballot struct {
	stamp Stamp
	value int
}

func newBallots() *ballots { return &ballots{map[uint64]ballot{}, map[SlotID][2]int64{}} }

func (b *ballots) join(o *ballots) {
	for rater, v := range o.votes {
		mine, met := b.votes[rater]
		if !met || v.stamp > mine.stamp || v.stamp == mine.stamp && v.value > mine.value {
			b.votes[rater] = v
		}
	}
	for id, s := range o.anon {
		b.anon[id] = [2]int64{max(b.anon[id][0], s[0]), max(b.anon[id][1], s[1])}
	}
}

func (b *ballots) vote(rater uint64, value int, now Stamp) {
	old, met := b.votes[rater]
	if !met || old.value != value {
		if met {
			now = max(now, old.stamp+1)
		}
		b.votes[rater] = ballot{now, value}
	}
}

func (b *ballots) counts() (up, down int64) {
	for _, v := range b.votes {
		if v.value == 1 {
			up++
		} else if v.value == -1 {
			down++
		}
	}
	for _, s := range b.anon {
		up, down = up+s[0], down+s[1]
	}
	return up, down
}

// contents is what a rating holds, told as the reference holds it.
func contents(r *Rating) *ballots {
	b := newBallots()
	for _, v := range r.Votes() {
		b.votes[v.Rater] = ballot{v.Stamp(), v.Value()}
	}
	for _, s := range r.Slots() {
		b.anon[s.SlotID] = [2]int64{s.P, s.N}
	}
	return b
}

func (b *ballots) equal(o *ballots) bool {
	return maps.Equal(b.votes, o.votes) && maps.Equal(b.anon, o.anon)
}

func copyOf(r *Rating) *Rating {
	c := &Rating{}
	c.Join(r)
	return c
}

func joinedRatings(a, b *Rating) *Rating {
	c := copyOf(a)
	c.Join(b)
	return c
}

func same(a, b *Rating) bool {
	upA, downA := a.Counts()
	upB, downB := b.Counts()
	return contents(a).equal(contents(b)) && upA == upB && downA == downB
}

// drawRatings lets replicas with clocks of their own vote and hear of each other, each beside
// its reference.
func drawRatings(t *rapid.T) (ratings []*Rating, references []*ballots) {
	for range 3 {
		ratings, references = append(ratings, &Rating{}), append(references, newBallots())
	}
	for range rapid.IntRange(0, 30).Draw(t, "steps") {
		i, j := rapid.IntRange(0, 2).Draw(t, "replica"), rapid.IntRange(0, 2).Draw(t, "other")
		switch rapid.IntRange(0, 4).Draw(t, "step") {
		case 0:
			up := rapid.Int64Range(0, 2).Draw(t, "up")
			id := SlotID{Writer(i + 1), 0}
			ratings[i].Add(id, up, 1)
			s := references[i].anon[id]
			references[i].anon[id] = [2]int64{s[0] + up, s[1] + 1}
		case 1:
			ratings[i].Join(ratings[j])
			references[i].join(references[j])
		default:
			rater, value := uint64(rapid.IntRange(0, 4).Draw(t, "rater")), rapid.IntRange(-1, 1).Draw(t, "vote")
			now := Stamp(rapid.IntRange(1, 6).Draw(t, "now")) // clocks jump and collide
			ratings[i].Vote(rater, value, now)
			references[i].vote(rater, value, now)
		}
	}
	return ratings, references
}

func TestARatingIsWhatItsReferenceSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ratings, references := drawRatings(t)
		for i, r := range ratings {
			up, down := r.Counts()
			wantUp, wantDown := references[i].counts()
			if !contents(r).equal(references[i]) || up != wantUp || down != wantDown {
				t.Fatalf("%+v, %d up, %d down; want %+v, %d, %d", contents(r), up, down, references[i], wantUp, wantDown)
			}
			if !slices.IsSortedFunc(r.votes, func(a, b Vote) int { return int(int64(a.Rater) - int64(b.Rater)) }) {
				t.Fatalf("not in order: %+v", r.votes)
			}
		}
	})
}

func TestJoinOfRatingsIsASemilattice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, _ := drawRatings(t)
		a, b, c := r[0], r[1], r[2]
		ab := joinedRatings(a, b)
		switch {
		case !same(ab, joinedRatings(b, a)):
			t.Fatalf("not commutative:\n%+v\n%+v", contents(a), contents(b))
		case !same(joinedRatings(ab, c), joinedRatings(a, joinedRatings(b, c))):
			t.Fatalf("not associative:\n%+v\n%+v\n%+v", contents(a), contents(b), contents(c))
		case !same(joinedRatings(a, a), a) || copyOf(ab).Join(ab):
			t.Fatalf("not idempotent: %+v", contents(a))
		case copyOf(ab).Join(a) || copyOf(ab).Join(b):
			t.Fatalf("not an upper bound: %+v", contents(ab))
		case copyOf(a).Join(b) != !same(ab, a):
			t.Fatalf("learnt %v:\n%+v\n%+v", copyOf(a).Join(b), contents(a), contents(b))
		}
	})
}

// Whatever is done to a rating, what it was is below what it is.
func TestEveryVoteInflates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, _ := drawRatings(t)
		was, is := copyOf(r[0]), r[0]
		rater, value := uint64(rapid.IntRange(0, 5).Draw(t, "rater")), rapid.IntRange(-1, 1).Draw(t, "vote")
		if rapid.Bool().Draw(t, "named") {
			changed := is.Vote(rater, value, Stamp(rapid.IntRange(1, 6).Draw(t, "now")))
			if changed == same(was, is) {
				t.Fatalf("changed %v: %+v to %+v", changed, contents(was), contents(is))
			}
			if is.Vote(rater, value, 100) {
				t.Fatal("the same vote again changed something")
			}
			if again := copyOf(was); again.Join(is) && !same(again, is) {
				t.Fatalf("%+v\nis not below\n%+v", contents(was), contents(is))
			}
		} else {
			is.Add(SlotID{1, 0}, 1, 0)
		}
		if copyOf(is).Join(was) {
			t.Fatalf("%+v\nis not below\n%+v", contents(was), contents(is))
		}
	})
}

// A change wins wherever it is made, though an earlier vote has a stamp of next year; and a
// withdrawal holds against the vote that it withdrew.
func TestAChangeWinsOverAClockThatIsAhead(t *testing.T) {
	now := StampAt(time.Unix(1_800_000_000, 0))
	var here, there Rating
	there.Vote(7, 1, now+365*24*3600*1000<<stampCount)
	old := copyOf(&there)
	here.Join(&there)
	here.Vote(7, 0, now)
	there.Join(&here)
	here.Join(old)
	for _, r := range []*Rating{&here, &there} {
		if up, down := r.Counts(); up != 0 || down != 0 || len(r.Votes()) != 1 {
			t.Errorf("%d up, %d down, %d registers", up, down, len(r.Votes()))
		}
	}
	if n := here.DropAfter(now); n != 1 || len(here.Votes()) != 0 {
		t.Errorf("%d dropped, %d stay", n, len(here.Votes()))
	}
}

// The parts of a rating join to the whole, and count as it does.
func TestPartsJoinToTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, _ := drawRatings(t)
		whole, rest := copyOf(r[0]), r[0]
		bit := uint64(1) << rapid.IntRange(0, 2).Draw(t, "bit")
		part := rest.Split(bit, bit)
		upA, downA := rest.Counts()
		upB, downB := part.Counts()
		if up, down := whole.Counts(); up != upA+upB || down != downA+downB {
			t.Fatalf("%d and %d up, %d and %d down, of %d and %d", upA, upB, downA, downB, up, down)
		}
		for _, v := range part.Votes() {
			if v.Rater&bit == 0 || rest.Has(v.Rater) {
				t.Fatalf("%d is in the wrong part", v.Rater)
			}
		}
		if !same(joinedRatings(rest, &part), whole) {
			t.Fatalf("%+v\nand %+v\nof  %+v", contents(rest), contents(&part), contents(whole))
		}
	})
}

// Slots have a limit, and a full slot counts no more: what nobody could decode is never made.
func TestSlotsOfARatingAreBounded(t *testing.T) {
	var a, b Rating
	for i := range maxSlots {
		a.Add(SlotID{Writer(i + 1), 0}, 1, 0)
	}
	b.Add(SlotID{maxSlots + 1, 0}, 1, 0)
	b.Add(SlotID{1, 0}, 5, 0)
	if a.Add(SlotID{maxSlots + 1, 0}, 1, 0) {
		t.Error("one slot too many")
	}
	a.Join(&b)
	if up, _ := a.Counts(); up != maxSlots+4 || len(a.Slots()) != maxSlots {
		t.Errorf("%d up in %d slots", up, len(a.Slots()))
	}
	if !b.Add(SlotID{1, 0}, maxBallots-5, 0) || b.Add(SlotID{1, 0}, 1, 0) {
		t.Error("a slot counts further than a decoder reads, or not so far")
	}
}

func goldenRatings() []byte {
	now := StampAt(time.Unix(1_800_000_000, 0))
	var latte, mocha Rating
	for i := range 5 {
		latte.Vote(0x9e3779b97f4a7c15*uint64(i+1), i%3-1, now+Stamp(i*i*1000<<stampCount+i))
	}
	latte.Add(SlotID{1<<40 + 7, 0}, 300, 2)
	mocha.Vote(3, 1, now-1)
	mocha.Add(SlotID{1<<40 + 7, 0}, 0, 1)
	mocha.Add(SlotID{9, 0}, 1, 0)
	var p RatingPacker
	p.Add("coffee/latte", &latte, 1<<20)
	p.Add("coffee/mocha", &mocha, 1<<20)
	return p.Append(nil)
}

func TestGoldenRatings(t *testing.T) { golden(t, "ratings", goldenRatings()) }

// Whatever goes into a batch comes out of it, and the batch is as small as promised; a large
// rating comes in parts.
func TestABatchOfRatingsBringsBackWhatWentIn(t *testing.T) {
	var p RatingPacker
	var u RatingUnpacker
	rapid.Check(t, func(t *rapid.T) {
		p.Reset()
		var in []*Rating
		most := rapid.IntRange(60, 400).Draw(t, "most")
		for range rapid.IntRange(1, 4).Draw(t, "draws") {
			ratings, _ := drawRatings(t)
			for _, r := range ratings {
				if len(r.Votes())+len(r.Slots()) > 0 && p.Add(fmt.Sprint("s", len(in)), r, most) {
					in = append(in, r)
				}
			}
		}
		wire := p.Append(nil)
		if len(in) > 0 && len(wire) > p.Len() || len(in) > 1 && len(wire) > most {
			t.Fatalf("%d bytes, said %d, allowed %d", len(wire), p.Len(), most)
		}
		if len(in) == 0 {
			return
		}
		out, err := unpackRatings(&u, wire)
		for i, r := range in {
			if got := out[fmt.Sprint("s", i)]; err != nil || got == nil || !same(got, r) {
				t.Fatalf("%v: %+v came back as %+v", err, contents(r), got)
			}
		}
	})
	var large Rating
	for i := range uint64(3 * maxVotes) {
		large.Vote(i, 1, Stamp(i))
	}
	p.Reset()
	p.Add("large", &large, 0)
	out, err := unpackRatings(&u, p.Append(nil))
	if err != nil || !same(out["large"], &large) || p.Entries() != 3 {
		t.Errorf("%d entries, %v", p.Entries(), err)
	}
}

// unpackRatings joins the entries of a batch by subject.
func unpackRatings(u *RatingUnpacker, wire []byte) (map[string]*Rating, error) {
	out := map[string]*Rating{}
	err := u.Open(wire)
	for err == nil {
		var e *RatingEntry
		if e, err = u.Next(); e == nil {
			break
		}
		if out[string(e.Subject)] == nil {
			out[string(e.Subject)] = &Rating{}
		}
		out[string(e.Subject)].Join(&e.Rating)
	}
	return out, err
}
