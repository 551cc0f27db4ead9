package node

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"unicode/utf8"

	"github.com/openclaw/edge/crdt"
)

// Ballot is one request to rate.
type Ballot struct {
	Subject string
	Vote    int    // 1 or -1; 0 withdraws a vote
	Rater   string // who votes; "": nobody says
	Once    string // without a rater: the request's idempotency key; "": every request counts
	Payer   string // the key whose bucket of the limit for ratings a token is taken from
}

// Rating is what is said about a subject.
type Rating struct {
	Subject  string
	Up, Down int64
	Wilson   float64 // see wilsonLower
}

// Rated is the answer to a ballot. Nothing was recorded if the take was not allowed.
type Rated struct {
	Take    Decision
	Rating  Rating
	Changed bool // false: the same vote had been counted before
}

// maxRater is the longest rater or idempotency key, in bytes: as a bucket's key.
const maxRater = crdt.MaxKey

// Rate takes a token from the payer's bucket and records the vote. The error is a *Refusal, and
// then nothing was taken.
//
// A vote with a rater is that rater's register: again it changes nothing, another one replaces
// it, 0 withdraws it. One without a rater, but with an idempotency key, is the register of that
// key: the client that draws a key for each vote and sends it again with each try is counted
// once, whatever nodes its tries reach, also on both sides of a cut and after a restart. (Why
// not a memory of recent keys beside a counter: it would be one node's, and a retry goes to
// another when it matters.) One with neither is counted each time that it comes.
func (n *Node) Rate(b Ballot) (Rated, error) {
	if err := b.check(); err != nil {
		return Rated{}, err
	}
	rater := b.register()
	if err := n.ratings.admit(&b, rater); err != nil {
		n.ratings.counts.full.Add(1)
		return Rated{}, err
	}
	d, err := n.Take(n.cfg.RatingsLimit, b.Payer, 1)
	if errors.Is(err, ErrUnknownLimit) {
		return Rated{}, &Refusal{http.StatusNotFound, fmt.Sprintf("ratings take from the limit %q, and no such limit is in force: write the name of one of GET /v1/limits under ratings.limit", n.cfg.RatingsLimit)}
	}
	if err != nil {
		return Rated{}, err
	}
	out := Rated{Take: d}
	if !d.Allowed {
		n.ratings.counts.limited.Add(1)
		return out, nil
	}
	var full bool
	if out.Rating, out.Changed, full = n.record(&b, rater); full { // another request took the last room
		n.Credit(n.cfg.RatingsLimit, b.Payer, 1)
		n.ratings.counts.full.Add(1)
		return Rated{}, errFull(&b)
	}
	if out.Changed {
		n.ratings.counts.counted.Add(1)
	} else {
		n.ratings.counts.unchanged.Add(1)
	}
	return out, nil
}

func (b *Ballot) check() error {
	switch {
	case b.Subject == "" || len(b.Subject) > crdt.MaxSubject || !utf8.ValidString(b.Subject):
		return refuse("the subject has %d bytes; write 1 to %d of UTF-8, and hash longer ones", len(b.Subject), crdt.MaxSubject)
	case b.Vote < -1 || b.Vote > 1:
		return refuse("a vote of %d; write 1, -1, or 0 to withdraw one", b.Vote)
	case len(b.Rater) > maxRater || !utf8.ValidString(b.Rater):
		return refuse("the rater has %d bytes; write up to %d of UTF-8, and hash longer ones", len(b.Rater), maxRater)
	case len(b.Once) > maxRater:
		return refuse("the Idempotency-Key has %d bytes; write up to %d", len(b.Once), maxRater)
	case b.Vote == 0 && b.Rater == "" && b.Once == "":
		return refuse("an anonymous vote cannot be found again to withdraw it: send the rater, or the Idempotency-Key that it was given with")
	}
	return nil
}

// register is the hash that a ballot's vote is kept under; 0: it is kept under none. Of a secure
// hash 64 bits: nobody finds a rater whose vote would replace another's, and no two of a million
// raters meet but once in 40 million subjects. The subject goes into it, so that what is stored
// does not tell which votes are one person's.
func (b *Ballot) register() uint64 {
	kind, id := byte('r'), b.Rater
	if id == "" {
		kind, id = 'o', b.Once
	}
	if id == "" {
		return 0
	}
	text := append(make([]byte, 0, 2+crdt.MaxSubject+maxRater), kind, byte(len(b.Subject)))
	sum := sha256.Sum256(append(append(text, b.Subject...), id...))
	return max(1, binary.BigEndian.Uint64(sum[:]))
}

// admit refuses what there is no room for.
func (r *ratings) admit(b *Ballot, rater uint64) error {
	s, _ := r.shard(b.Subject)
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := s.subjects[b.Subject]
	if sub == nil && (r.subjects.Load() >= r.bounds.subjects || !s.hasRoom()) || !r.fits(sub, rater) {
		return errFull(b)
	}
	return nil
}

// fits tells whether there is a register for the rater, or room for one more. Caller holds the
// lock of the subject's shard.
func (r *ratings) fits(sub *subject, rater uint64) bool {
	switch {
	case rater == 0 || sub != nil && sub.page(rater).Has(rater):
		return true
	case sub != nil && sub.held >= r.bounds.raters:
		return false
	}
	return r.votes.Load() < r.bounds.votes
}

func errFull(b *Ballot) error {
	return &Refusal{http.StatusInsufficientStorage, fmt.Sprintf("there is no room for another vote on %q: this cluster holds as many subjects, votes, or raters of this subject as it may "+
		"(openclaw_ratings_subjects, openclaw_ratings_votes); votes that it knows can still be changed; for more, run a second cluster", b.Subject)}
}

// record records an admitted vote. full: there was no room.
func (n *Node) record(b *Ballot, rater uint64) (out Rating, changed, full bool) {
	r, stamp := &n.ratings, crdt.StampAt(n.wallNow())
	s, _ := r.shard(b.Subject)
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := r.meet(s, b.Subject, r.bounds.subjects)
	if sub == nil || !r.fits(sub, rater) {
		return out, false, true
	}
	now := n.refill.local.Load()
	p := &sub.ratingPage
	if rater != 0 {
		p = sub.page(rater)
		changed = r.change(s, p, now, func() bool { return p.Vote(rater, b.Vote, stamp) })
	} else {
		up, down := int64(max(0, b.Vote)), int64(max(0, -b.Vote))
		changed = r.change(s, p, now, func() bool { return p.Add(crdt.SlotID{Writer: n.writer}, up, down) })
		full = !changed
	}
	if changed {
		r.touch(s, p, now)
		r.split(s, sub, now)
	}
	return sub.rating(), changed, full
}

func (sub *subject) rating() Rating {
	return Rating{sub.name, sub.up, sub.down, max(0, sub.rank)}
}

// LookRating is what is said about a subject; nothing yet about one that nobody has rated.
func (n *Node) LookRating(name string) Rating {
	s, _ := n.ratings.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if sub := s.subjects[name]; sub != nil {
		return sub.rating()
	}
	return Rating{Subject: name}
}

// TopRatings is the best k of the subjects whose names begin with prefix: by Wilson's lower
// bound, then by score, then by name. Subjects without a vote are not among them.
func (n *Node) TopRatings(k int, prefix string) []Rating {
	ranking := n.ratings.top(k, prefix)
	out := make([]Rating, len(ranking))
	for i, r := range ranking {
		out[i] = Rating{r.name, r.up, r.down, r.rank}
	}
	return out
}
