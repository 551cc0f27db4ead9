package crdt

import (
	"slices"
	"time"
)

// Stamp is a hybrid logical clock: milliseconds since 1970, and below them 16 bits that count
// what happens within one. It is compared as a number.
type Stamp uint64

const (
	stampCount = 16        // bits below the milliseconds
	maxMillis  = 1<<45 - 1 // the year 3084
	maxBallots = 1<<40 - 1 // of one anonymous slot, each way: the sum over maxSlots fits
	voteBits   = 2         // of a vote's word: the vote, plus 1
	voteMask   = 1<<voteBits - 1
)

// StampAt is the lowest stamp of t's millisecond.
func StampAt(t time.Time) Stamp {
	return Stamp(min(max(0, t.UnixMilli()), maxMillis)) << stampCount
}

// Vote is one rater's register. Of two, the one with the higher stamp holds; with equal stamps,
// the higher vote: so the word alone is the order, and its maximum the join.
type Vote struct {
	Rater uint64 // a hash that the caller chose; it need not be random for Rating to be right
	word  uint64
}

// Value is 1, -1, or 0 for a vote that was withdrawn.
func (v Vote) Value() int { return int(v.word&voteMask) - 1 }

// Stamp is when the vote was given, by its node's clock; or just after the vote it replaced.
func (v Vote) Stamp() Stamp { return Stamp(v.word >> voteBits) }

// Word is stamp and value in one number, for hashes over a state.
func (v Vote) Word() uint64 { return v.word }

// Rating is votes on one subject, or some of them: any part of a rating is a rating, and joins
// with the others. The zero value has none and is ready to use.
//
// Named votes are last-write-wins registers. A withdrawn one stays, as a vote of 0: what was
// forgotten would come back from the next node that has not heard of the withdrawal. There is
// no clock beside the registers', as nothing is decided between two of them: a change is
// stamped now, or just above what it replaces if that is later, so it wins on whatever node it
// is made, however far ahead somebody's clock was.
//
// Anonymous votes are slots of a PN-counter, one a writer: P up, N down.
type Rating struct {
	votes    []Vote // by Rater
	anon     *PNCounter
	up, down uint32 // of votes
}

// Vote sets a rater's vote: 1, -1, or 0 to withdraw it. The same again changes nothing.
func (r *Rating) Vote(rater uint64, value int, now Stamp) (changed bool) {
	i, met := r.find(rater)
	if met {
		if r.votes[i].Value() == value {
			return false
		}
		now = max(now, r.votes[i].Stamp()+1)
	}
	return r.Put(Vote{rater, uint64(now)<<voteBits | uint64(value+1)})
}

// Put joins one register.
func (r *Rating) Put(v Vote) (learnt bool) {
	i, met := r.find(v.Rater)
	if met && r.votes[i].word >= v.word {
		return false
	}
	if met {
		r.count(r.votes[i], ^uint32(0))
		r.votes[i] = v
	} else {
		r.votes = slices.Insert(r.votes, i, v)
	}
	r.count(v, 1)
	return true
}

func (r *Rating) find(rater uint64) (int, bool) {
	return slices.BinarySearchFunc(r.votes, rater, func(v Vote, rater uint64) int {
		switch {
		case v.Rater < rater:
			return -1
		case v.Rater > rater:
			return 1
		}
		return 0
	})
}

// count adds by to what a vote counts for; by wraps around to subtract.
func (r *Rating) count(v Vote, by uint32) {
	switch v.Value() {
	case 1:
		r.up += by
	case -1:
		r.down += by
	}
}

// Has tells whether there is a register for the rater.
func (r *Rating) Has(rater uint64) bool {
	_, met := r.find(rater)
	return met
}

// Add counts anonymous votes, up and down of them, in the slot id, which must be the caller's
// own. False: the slot is full, or the slots are, and nothing was counted.
func (r *Rating) Add(id SlotID, up, down int64) bool {
	if r.anon == nil {
		r.anon = &PNCounter{}
	}
	s := r.anon.find(id)
	if s == nil && len(r.anon.slots) >= maxSlots || s != nil && (s.P > maxBallots-up || s.N > maxBallots-down) {
		return false
	}
	r.anon.Raise(id, up, down)
	return true
}

// Join makes r the least upper bound of both. Slots beyond what a decoder takes are left out.
func (r *Rating) Join(o *Rating) (learnt bool) {
	for _, v := range o.votes {
		learnt = r.Put(v) || learnt
	}
	return r.JoinSlots(o) || learnt
}

// JoinSlots joins the anonymous votes alone.
func (r *Rating) JoinSlots(o *Rating) (learnt bool) {
	if o.anon == nil {
		return false
	}
	if r.anon == nil {
		r.anon = &PNCounter{}
	}
	theirs := o.anon
	if len(r.anon.slots)+len(theirs.slots) > maxSlots {
		theirs = r.anon.fitting(theirs)
	}
	learnt, _ = r.anon.Join(theirs)
	return learnt
}

// fitting is o without the slots for which c has no room.
func (c *PNCounter) fitting(o *PNCounter) *PNCounter {
	room := maxSlots - len(c.slots)
	fit := &PNCounter{}
	for _, s := range o.slots {
		if c.find(s.SlotID) == nil {
			if room == 0 {
				continue
			}
			room--
		}
		fit.slots = append(fit.slots, s)
		fit.sum += s.P - s.N
	}
	return fit
}

// Split moves the registers of every rater with rater&mask == to into a rating of their own.
func (r *Rating) Split(mask, to uint64) Rating {
	var out Rating
	r.votes = slices.DeleteFunc(r.votes, func(v Vote) bool {
		if v.Rater&mask != to {
			return false
		}
		out.votes = append(out.votes, v)
		out.count(v, 1)
		return true
	})
	r.up -= out.up
	r.down -= out.down
	r.votes = slices.Clone(r.votes) // give back what is free now
	return out
}

// DropAfter forgets registers stamped later than horizon and says how many those were.
func (r *Rating) DropAfter(horizon Stamp) (dropped int) {
	was := len(r.votes)
	r.votes = slices.DeleteFunc(r.votes, func(v Vote) bool {
		late := v.Stamp() > horizon
		if late {
			r.count(v, ^uint32(0))
		}
		return late
	})
	return was - len(r.votes)
}

// Counts is the votes up and down, anonymous ones included.
func (r *Rating) Counts() (up, down int64) {
	up, down = int64(r.up), int64(r.down)
	for _, s := range r.Slots() {
		up += s.P
		down += s.N
	}
	return up, down
}

// Votes and Slots are the rating's own memory: to be read, under the owner's lock.
func (r *Rating) Votes() []Vote { return r.votes }

func (r *Rating) Slots() []Slot {
	if r.anon == nil {
		return nil
	}
	return r.anon.slots
}
