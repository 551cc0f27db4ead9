package crdt

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/vmihailenco/msgpack/v5"
)

// A batch of ratings is a sequence of msgpack values, in the manner of the batch of buckets
// (wire.go); its first byte tells them apart:
//
//	┌────────┬──────┬─ writers ─┬─ entries, to the end ──────────────────┐
//	│ format │ base │ array of  │ array of 2 + 4·slots + 3·votes:        │
//	│ uint 2 │ ms   │ uint64    │  subject  slots  …slots…  …votes…      │
//	└────────┴──────┴───────────┴────────────────────────────────────────┘
//	slot: writer#  serial  up  down
//	vote: rater  ms−base  count·4 + value + 1        (ascending by rater)
//
// base is the milliseconds of the first vote; 0 without one. A rating with many votes is several
// entries: each of them is a rating, and they join.
const ratingsFormat = 2

// MaxSubject is the longest subject of a rating, in bytes.
const MaxSubject = 255

// maxVotes is how many votes an entry may have.
const maxVotes = 256

// RatingPacker builds batches of ratings. The zero value is ready; it keeps its memory between
// batches.
type RatingPacker struct {
	base    uint64
	votes   int
	writers []Writer
	head    bytes.Buffer
	body    bytes.Buffer
	enc     *msgpack.Encoder
	entries int
}

// Reset begins a new batch.
func (p *RatingPacker) Reset() {
	p.base, p.votes, p.writers, p.entries = 0, 0, p.writers[:0], 0
	p.body.Reset()
}

// Len is an upper bound of the batch's size in bytes.
func (p *RatingPacker) Len() int { return 1 + 9 + 5 + 9*len(p.writers) + p.body.Len() }

// Entries counts what was added since Reset.
func (p *RatingPacker) Entries() int { return p.entries }

// Add appends a rating if the batch stays within max bytes or is still empty, and tells whether
// it did. One that holds nothing is added at no cost.
func (p *RatingPacker) Add(subject string, r *Rating, max int) bool {
	base, seen, entries, writers, body := p.base, p.votes, p.entries, len(p.writers), p.body.Len()
	votes, slots := r.votes, r.Slots()
	for len(votes) > 0 || len(slots) > 0 {
		n := min(maxVotes, len(votes))
		p.entry(subject, slots, votes[:n])
		votes, slots = votes[n:], nil
	}
	if entries > 0 && (p.Len() > max || len(p.writers) > maxWriters) {
		p.base, p.votes, p.entries, p.writers = base, seen, entries, p.writers[:writers]
		p.body.Truncate(body)
		return false
	}
	return true
}

func (p *RatingPacker) entry(subject string, slots []Slot, votes []Vote) {
	if p.enc == nil {
		p.enc = msgpack.NewEncoder(&p.body)
	}
	e := p.enc
	e.EncodeArrayLen(2 + 4*len(slots) + 3*len(votes))
	e.EncodeString(subject)
	e.EncodeUint(uint64(len(slots)))
	for _, s := range slots {
		i := slices.Index(p.writers, s.Writer)
		if i < 0 {
			i = len(p.writers)
			p.writers = append(p.writers, s.Writer)
		}
		e.EncodeUint(uint64(i))
		e.EncodeUint(uint64(s.Serial))
		e.EncodeUint(uint64(s.P))
		e.EncodeUint(uint64(s.N))
	}
	for _, v := range votes {
		ms := uint64(v.Stamp() >> stampCount)
		if p.votes == 0 {
			p.base = ms
		}
		p.votes++
		e.EncodeUint(v.Rater)
		e.EncodeInt(int64(ms - p.base))
		e.EncodeUint(v.word & (1<<(stampCount+voteBits) - 1))
	}
	p.entries++
}

// Append appends the finished batch to dst; nothing if nothing was added.
func (p *RatingPacker) Append(dst []byte) []byte {
	if p.entries == 0 {
		return dst
	}
	p.head.Reset()
	e := msgpack.NewEncoder(&p.head)
	e.EncodeUint(ratingsFormat)
	e.EncodeUint(p.base)
	e.EncodeArrayLen(len(p.writers))
	for _, w := range p.writers {
		e.EncodeUint(uint64(w))
	}
	dst = append(dst, p.head.Bytes()...)
	return append(dst, p.body.Bytes()...)
}

// RatingEntry is one entry of a batch: a rating, or a part of one.
type RatingEntry struct {
	Subject []byte
	Rating  Rating
}

// RatingUnpacker reads a batch of ratings: Open, then Next until it yields nil.
type RatingUnpacker struct {
	r       reader
	base    uint64
	votes   int // seen so far
	used    int // writers seen so far
	writers []Writer
	entry   RatingEntry
	anon    PNCounter
	entries int
}

// Open reads the head of a batch. The batch must not change while it is read.
func (u *RatingUnpacker) Open(batch []byte) error {
	*u = RatingUnpacker{r: reader{src: batch}, writers: u.writers[:0], entry: u.entry, anon: u.anon}
	if f := u.r.uint(255); f != ratingsFormat {
		u.r.fail(fmt.Sprintf("format %d, want %d", f, ratingsFormat))
	}
	u.base = u.r.uint(maxMillis)
	for n := u.r.array(maxWriters); n > 0 && u.r.err == nil; n-- {
		u.writers = append(u.writers, Writer(u.r.uint(1<<64-1)))
	}
	sorted := slices.Sorted(slices.Values(u.writers))
	if len(slices.Compact(sorted)) < len(u.writers) {
		u.r.fail("name twice")
	}
	return u.failed()
}

func (u *RatingUnpacker) failed() error {
	if u.r.err != nil {
		return fmt.Errorf("%w of ratings: %w", ErrBatch, u.r.err)
	}
	return nil
}

// Next reads the next entry, which is valid until the call after; nil at the end.
func (u *RatingUnpacker) Next() (*RatingEntry, error) {
	if u.r.err == nil && u.r.left() > 0 {
		u.next()
		if u.r.err == nil {
			u.entries++
			return &u.entry, nil
		}
	}
	switch {
	case u.entries == 0:
		u.r.fail("nothing in it")
	case u.used < len(u.writers):
		u.r.fail("unused names")
	case u.votes == 0 && u.base != 0:
		u.r.fail("base of no vote")
	}
	return nil, u.failed()
}

func (u *RatingUnpacker) next() {
	r := &u.r
	n := r.array(2 + 4*maxSlots + 3*maxVotes)
	u.entry.Subject = r.string(1, MaxSubject)
	slots := int(r.uint(maxSlots))
	votes := n - 2 - 4*slots
	if r.err == nil && (n <= 2 || n > r.left()+2 || votes < 0 || votes%3 != 0 || votes > 3*maxVotes) {
		r.fail("entry of wrong length")
	}
	if r.err != nil {
		return
	}
	u.entry.Rating = Rating{votes: u.entry.Rating.votes[:0]}
	if slots > 0 {
		u.anon = PNCounter{slots: u.anon.slots[:0]}
		u.entry.Rating.anon = &u.anon
	}
	for ; slots > 0 && r.err == nil; slots-- {
		u.slot()
	}
	for ; votes > 0 && r.err == nil; votes -= 3 {
		u.vote()
	}
}

func (u *RatingUnpacker) slot() {
	i := int(u.r.uint(maxWriters))
	if i >= len(u.writers) || i > u.used {
		u.r.fail("name out of order")
		return
	}
	u.used = max(u.used, i+1)
	s := Slot{SlotID{u.writers[i], uint32(u.r.uint(1<<32 - 1))}, int64(u.r.uint(maxBallots)), int64(u.r.uint(maxBallots))}
	if u.anon.find(s.SlotID) != nil {
		u.r.fail("slot twice")
	}
	u.anon.slots = append(u.anon.slots, s)
	u.anon.sum += s.P - s.N
}

func (u *RatingUnpacker) vote() {
	to := &u.entry.Rating
	v := Vote{Rater: u.r.uint(1<<64 - 1)}
	ahead := u.r.int(maxMillis)
	low := u.r.uint(1<<(stampCount+voteBits) - 1)
	ms := int64(u.base) + ahead
	switch {
	case len(to.votes) > 0 && to.votes[len(to.votes)-1].Rater >= v.Rater:
		u.r.fail("raters out of order")
	case u.votes == 0 && ahead != 0:
		u.r.fail("base of another vote")
	case ms < 0 || ms > maxMillis || low&voteMask == voteMask:
		u.r.fail("impossible vote")
	}
	u.votes++
	v.word = uint64(ms)<<(stampCount+voteBits) | low
	to.votes = append(to.votes, v)
	to.count(v, 1)
}
