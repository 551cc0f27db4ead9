package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/persist"
)

// Ratings are kept in segments of their own: rating_votes:v00 to v63, by a hash of the subject.
// They are data and not allowances, so their keys never expire. A payload is one batch of
// ratings. They need neither the limits nor the refill clock to be judged.
const (
	votesPrefix   = "rating_votes"
	votesSegs     = bucketSegs
	firstVotesSeg = 1 + bucketSegs // of persist's numbers
)

func votesSpecs() (specs []persist.SegmentSpec) {
	for i := range votesSegs {
		specs = append(specs, persist.SegmentSpec{Name: fmt.Sprintf("v%02d", i), Prefix: votesPrefix})
	}
	return specs
}

func holdsVotes(segment string) bool { return strings.HasPrefix(segment, "v") } // others: digits, "limits", or r and a digit

// packVotes emits the payloads of some votes' segments, packAtOnce of them a walk.
func (g *segments) packVotes(ctx context.Context, which []int, emit func(segment int, payload []byte) error) error {
	for ; len(which) > 0; which = which[min(packAtOnce, len(which)):] {
		if err := g.packSomeVotes(ctx, which[:min(packAtOnce, len(which))], emit); err != nil {
			return err
		}
	}
	return nil
}

func (g *segments) packSomeVotes(ctx context.Context, which []int, emit func(segment int, payload []byte) error) error {
	var to [votesSegs]*crdt.RatingPacker
	packers := make([]crdt.RatingPacker, len(which))
	for k, segment := range which {
		to[segment-firstVotesSeg] = &packers[k]
	}
	flush := func(k int) error {
		g.buf = packers[k].Append(g.buf[:0])
		packers[k].Reset()
		if len(g.buf) == 0 {
			return nil
		}
		return emit(which[k], g.buf)
	}
	for i := range g.n.ratings.shards {
		for place := uint32(1); place > 0; {
			if err := ctx.Err(); err != nil {
				return err
			}
			next, full := g.n.ratings.shards[i].pack(place, &to)
			if full >= 0 {
				for k, segment := range which {
					if segment == firstVotesSeg+full {
						if err := flush(k); err != nil {
							return err
						}
					}
				}
			}
			place = next
		}
	}
	for k := range which {
		if err := flush(k); err != nil {
			return err
		}
	}
	return nil
}

// pack adds the pages from a place on to the packers of their segments, some at a time, so that
// votes hardly wait. It returns the place to go on from (0: there is none) and the segment whose
// packer is full, or -1.
func (s *ratingShard) pack(place uint32, to *[votesSegs]*crdt.RatingPacker) (next uint32, full int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for end := place + packStride; place < uint32(len(s.pages)); place++ {
		if place == end {
			return place, -1
		}
		page := s.pages[place]
		packer := to[page.of.segment]
		if packer != nil && !packer.Add(page.of.name, &page.Rating, packBytes) {
			return place, int(page.of.segment)
		}
	}
	return 0, -1
}

// joinVotes joins a payload. Its votes are as old as the segment, or come from a clock that was
// ahead of its writer's: they are judged by what the writer took for the time.
func (g *segments) joinVotes(payload []byte, at time.Time) error {
	if now := g.n.wallNow(); at.Before(now) {
		at = now
	}
	horizon := crdt.StampAt(at.Add(maxAhead))
	if err := g.ratingReader.Open(payload); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	for {
		e, err := g.ratingReader.Next()
		if err != nil {
			return fmt.Errorf("node: %w", err)
		}
		if e == nil {
			return nil
		}
		g.ids, _ = g.n.joinRating(e, horizon, true, g.ids[:0])
	}
}
