package node

import (
	"hash/maphash"
	"math/bits"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/openclaw/edge/crdt"
)

// ratings is what people said about subjects: beside the buckets, with items of its own for
// gossip (ratings_replica.go) and segments of its own for the stores (ratings_segment.go).
// Nothing is ever evicted, so there are bounds; what is beyond them is refused.
//
//	shard ─▶ subjects, by name: up, down, rank ─▶ page, page, …: crdt.Rating each
//	  │         └─ ordered by name, with the best below each: ratings_rank.go
//	  └─▶ pages by place: an item of gossip is one of them
//
// A subject's named votes lie in pages by the low bits of the rater's hash (linear hashing: a
// page more for every pageVotes votes), so that one vote on a subject with a million raters
// sends some pageVotes registers and not a million. Pages are this node's own affair: what
// travels is a part of a rating, which joins wherever it comes to.
type ratings struct {
	shards   [shards]ratingShard
	seed     maphash.Seed
	bounds   ratingBounds
	subjects atomic.Int64
	votes    atomic.Int64 // registers, withdrawn ones included
	changed  changes      // segments
	counts   ratingCounts
}

// ratingBounds are how much there may be. What peers admitted meanwhile is kept up to a quarter
// beyond them.
type ratingBounds struct {
	subjects int64 // some 230 bytes each
	votes    int64 // named ones on all subjects: 16 to 32 bytes each
	raters   int64 // named ones on one subject
}

var defaultRatingBounds = ratingBounds{subjects: 2_000_000, votes: 20_000_000, raters: 1_000_000}

func (b ratingBounds) ofPeers() ratingBounds {
	return ratingBounds{b.subjects + b.subjects/4, b.votes + b.votes/4, b.raters + b.raters/4}
}

// ratingCounts is for the metrics.
type ratingCounts struct {
	counted, unchanged, limited, full atomic.Uint64 // requests to rate
	early, unkept                     atomic.Uint64 // votes of peers
}

type ratingShard struct {
	mu       sync.Mutex // guards everything below; never held across I/O or a channel
	subjects map[string]*subject
	root     *subject      // of the order by name
	pages    []*ratingPage // by place; 0 is nobody's
	dirty    []uint32      // places changed here since the last drain, each once
}

// pageVotes is how many votes a page has on average, before there is one more.
const pageVotes = 32

// ratingPage is one item of gossip.
type ratingPage struct {
	crdt.Rating
	of      *subject
	place   uint32
	dirty   bool
	changed int64 // ns of the refill clock's local time: what has rested is audited
}

type subject struct {
	ratingPage // the first, and most have no other; anonymous votes are in it
	more       []*ratingPage
	name       string
	up, down   int64 // of all pages
	held       int64 // registers of all pages
	rankNode
	segment uint8
}

func (r *ratings) init(seed maphash.Seed) {
	r.seed, r.bounds = seed, defaultRatingBounds
	for i := range r.shards {
		r.shards[i].subjects = make(map[string]*subject)
		r.shards[i].pages = []*ratingPage{nil}
	}
}

func (r *ratings) shard(name string) (*ratingShard, int) {
	i := int(maphash.String(r.seed, name) >> (64 - shardBits))
	return &r.shards[i], i
}

// ratingSegmentOf is the same on every node and for good.
func ratingSegmentOf(name string) uint8 {
	return uint8(xxhash.Sum64String(name) >> (64 - segmentBits))
}

// meet finds a subject or makes it; nil: there are too many. Caller holds s.mu.
func (r *ratings) meet(s *ratingShard, name string, most int64) *subject {
	if sub := s.subjects[name]; sub != nil {
		return sub
	}
	if r.subjects.Load() >= most || !s.hasRoom() {
		return nil
	}
	name = strings.Clone(name)
	sub := &subject{name: name, segment: ratingSegmentOf(name)}
	sub.of = sub
	sub.rankNode = rankNode{rank: noRank, priority: rand.Uint32(), best: sub}
	s.place(&sub.ratingPage)
	s.subjects[name] = sub
	s.root = s.root.insert(sub)
	r.subjects.Add(1)
	return sub
}

// ratingItem marks the ids of ratings' pages among those of buckets: the highest bit of a place.
const ratingItem = 1 << (localBits - 1)

func (s *ratingShard) hasRoom() bool { return len(s.pages) < ratingItem>>1 } // the next bit is the reservations'

func (s *ratingShard) place(p *ratingPage) {
	p.place = uint32(len(s.pages))
	s.pages = append(s.pages, p)
}

// page is where a rater's vote belongs.
func (sub *subject) page(rater uint64) *ratingPage {
	n := uint64(1 + len(sub.more))
	i := rater & (1<<bits.Len64(n) - 1)
	if i >= n {
		i = rater & (1<<(bits.Len64(n)-1) - 1)
	}
	if i == 0 {
		return &sub.ratingPage
	}
	return sub.more[i-1]
}

// split gives the subject one more page when its pages are full. The new one is told as a change
// of this node's own: an id noted for the old page no longer stands for all that it did.
func (r *ratings) split(s *ratingShard, sub *subject, now int64) {
	n := uint64(1 + len(sub.more))
	if sub.held <= int64(n)*pageVotes || !s.hasRoom() {
		return
	}
	high := uint64(1) << (bits.Len64(n) - 1)
	from := &sub.ratingPage
	if i := n - high; i > 0 {
		from = sub.more[i-1]
	}
	p := &ratingPage{Rating: from.Split(2*high-1, n), of: sub}
	s.place(p)
	sub.more = append(sub.more, p)
	r.touch(s, p, now)
}

// touch notes that the next round is to send a page.
func (r *ratings) touch(s *ratingShard, p *ratingPage, now int64) {
	p.changed = now
	if !p.dirty {
		p.dirty = true
		s.dirty = append(s.dirty, p.place)
	}
}

// settle brings the subject's sums, rank and segment up to date with a change of one page,
// whose counts were up and down and which had held registers.
func (r *ratings) settle(s *ratingShard, p *ratingPage, up, down, held int64) {
	sub := p.of
	nowUp, nowDown := p.Counts()
	sub.up += nowUp - up
	sub.down += nowDown - down
	grown := int64(len(p.Votes())) - held
	sub.held += grown
	r.votes.Add(grown)
	s.root.rerank(sub, rankOf(sub.up, sub.down))
	r.changed.note(1 << sub.segment)
}

// change does something to a page, and what has to follow if it did anything.
func (r *ratings) change(s *ratingShard, p *ratingPage, now int64, do func() bool) bool {
	up, down := p.Counts()
	held := int64(len(p.Votes()))
	if !do() {
		return false
	}
	p.changed = now
	r.settle(s, p, up, down, held)
	return true
}

// maxAhead is how far beyond this node's wall clock a peer's vote may be stamped. Further ones
// are refused and counted: nothing but a vote later still would ever win over them. When the
// clock is mended that is wrong, be it theirs or ours, the audit brings what was refused.
const maxAhead = 24 * time.Hour

// join takes in a part of a rating that a peer or a store holds. It appends the ids of the pages
// that it belongs to, and counts those that learnt. What came from a store is to be told to peers.
func (n *Node) joinRating(e *crdt.RatingEntry, horizon crdt.Stamp, stored bool, ids []uint32) ([]uint32, int) {
	r := &n.ratings
	if early := e.Rating.DropAfter(horizon); early > 0 {
		r.counts.early.Add(uint64(early))
	}
	votes := e.Rating.Votes()
	if len(votes)+len(e.Rating.Slots()) == 0 {
		return ids, 0
	}
	s, shard := r.shard(string(e.Subject))
	s.mu.Lock()
	defer s.mu.Unlock()
	bounds, now := r.bounds.ofPeers(), n.refill.local.Load()
	sub := r.meet(s, string(e.Subject), bounds.subjects)
	if sub == nil {
		r.counts.unkept.Add(uint64(max(1, len(votes))))
		return ids, 0
	}
	learnt, first := 0, len(ids)
	note := func(p *ratingPage, grew bool) {
		if grew {
			learnt++
			if stored {
				r.touch(s, p, now)
			}
		}
		id := uint32(shard)<<localBits | ratingItem | p.place
		for _, known := range ids[first:] {
			if known == id {
				return
			}
		}
		ids = append(ids, id)
	}
	for _, v := range votes {
		p := sub.page(v.Rater)
		if !p.Has(v.Rater) && (sub.held >= bounds.raters || r.votes.Load() >= bounds.votes) {
			r.counts.unkept.Add(1)
			continue
		}
		note(p, r.change(s, p, now, func() bool { return p.Put(v) }))
		r.split(s, sub, now)
	}
	if len(e.Rating.Slots()) > 0 {
		p := &sub.ratingPage
		note(p, r.change(s, p, now, func() bool { return p.JoinSlots(&e.Rating) }))
	}
	return ids, learnt
}

// wallNow is the wall clock that votes are stamped by.
func (n *Node) wallNow() time.Time { return time.Now().Add(n.cfg.WallAhead) }
