package node

import (
	pq "container/heap"
	"math"
	"strings"
)

// The subjects of a shard are a treap ordered by name, and every node knows the best subject
// below it. So the best of all names with a prefix, however many those are, are found by going
// down where the best ones are: some log n steps for each of them, and none for the others.
//
// (Why own code: trees of libraries are ordered by one thing. By score, a prefix has to skip
// whatever else is good; by name, it has to look at all that it covers.)
type rankNode struct {
	left, right *subject
	best        *subject // of this one and all below
	rank        float64  // wilsonLower, or noRank
	priority    uint32   // random: higher ones lie above
}

// noRank is of subjects without a vote: they are in no ranking.
const noRank = -1

// rankOf is what a subject is ranked by.
func rankOf(up, down int64) float64 {
	if up+down == 0 {
		return noRank
	}
	return wilsonLower(up, down)
}

// wilsonZ is the quantile of the normal distribution that leaves 2.5 % on either side.
const wilsonZ = 1.959963984540054

// wilsonLower is the lower bound of the 95 % Wilson score interval for the part of up in all
// votes: what the part may well be if the votes are a sample of those to come. Few votes count
// for less than many: 1 of 1 is 0.21, 90 of 100 is 0.83. 0 without a vote.
//
// E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal
// of the American Statistical Association 22 (1927), 209-212: with p = up/n,
// (p + z²/2n − z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n).
func wilsonLower(up, down int64) float64 {
	n := float64(up + down)
	if n == 0 {
		return 0
	}
	p, z2 := float64(up)/n, wilsonZ*wilsonZ
	low := (p + z2/(2*n) - wilsonZ*math.Sqrt(p*(1-p)/n+z2/(4*n*n))) / (1 + z2/n)
	return max(0, math.Round(low*1e9)/1e9) // machines differ in the last bits, and rankings must not
}

// ranked is a subject as it was when it was looked at.
type ranked struct {
	name     string
	up, down int64
	rank     float64
}

func (sub *subject) ranked() ranked { return ranked{sub.name, sub.up, sub.down, sub.rank} }

// before is the order of a ranking, the same on every node: rank, then score, then name.
func (a *ranked) before(b *ranked) bool {
	switch {
	case a.rank != b.rank:
		return a.rank > b.rank
	case a.up-a.down != b.up-b.down:
		return a.up-a.down > b.up-b.down
	}
	return a.name < b.name
}

func (sub *subject) before(o *subject) bool {
	a, b := sub.ranked(), o.ranked()
	return a.before(&b)
}

// pull finds the best below again, after a change there.
func (sub *subject) pull() {
	sub.best = sub
	if l := sub.left; l != nil && l.best.before(sub.best) {
		sub.best = l.best
	}
	if r := sub.right; r != nil && r.best.before(sub.best) {
		sub.best = r.best
	}
}

// insert adds a subject whose name is not there, and returns what is now on top.
func (sub *subject) insert(in *subject) *subject {
	switch {
	case sub == nil:
		return in
	case in.name < sub.name:
		sub.left = sub.left.insert(in)
		if up := sub.left; up.priority > sub.priority {
			sub.left, up.right = up.right, sub
			sub.pull()
			sub = up
		}
	default:
		sub.right = sub.right.insert(in)
		if up := sub.right; up.priority > sub.priority {
			sub.right, up.left = up.left, sub
			sub.pull()
			sub = up
		}
	}
	sub.pull()
	return sub
}

// rerank gives a subject in the tree its rank, and mends the bests on the way to it.
func (sub *subject) rerank(of *subject, rank float64) {
	switch {
	case sub == of:
		of.rank = rank
	case of.name < sub.name:
		sub.left.rerank(of, rank)
	default:
		sub.right.rerank(of, rank)
	}
	sub.pull()
}

// candidate is a subject, or the best of all below it.
type candidate struct {
	sub   *subject
	alone bool
}

func (c candidate) best() *subject {
	if c.alone {
		return c.sub
	}
	return c.sub.best
}

// candidates is a heap with the best one on top.
type candidates []candidate

func (h candidates) Len() int           { return len(h) }
func (h candidates) Less(i, j int) bool { return h[i].best().before(h[j].best()) }
func (h candidates) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *candidates) Push(x any)        { *h = append(*h, x.(candidate)) }
func (h *candidates) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}

// cover adds what holds all names with the prefix below sub, and no other. above and below: all
// names here are known not to lie before, and not behind, those with the prefix.
func (h *candidates) cover(sub *subject, prefix string, above, below bool) {
	switch {
	case sub == nil:
	case above && below:
		*h = append(*h, candidate{sub, false})
	case strings.HasPrefix(sub.name, prefix):
		*h = append(*h, candidate{sub, true})
		h.cover(sub.left, prefix, above, true)
		h.cover(sub.right, prefix, true, below)
	case sub.name < prefix:
		h.cover(sub.right, prefix, above, below)
	default:
		h.cover(sub.left, prefix, above, below)
	}
}

// top appends the best of the shard with a prefix, up to k, in order, as long as they come before
// bound (nil: any). Caller holds s.mu.
func (s *ratingShard) top(out []ranked, k int, prefix string, bound *ranked) []ranked {
	var h candidates
	h.cover(s.root, prefix, prefix == "", prefix == "")
	pq.Init(&h)
	for k > 0 && len(h) > 0 {
		best := h[0].best().ranked()
		if best.rank == noRank || bound != nil && !best.before(bound) {
			break
		}
		c := pq.Pop(&h).(candidate)
		if c.alone || c.sub.best == c.sub {
			out = append(out, best)
			k--
		} else {
			pq.Push(&h, candidate{c.sub, true})
		}
		if !c.alone {
			for _, child := range []*subject{c.sub.left, c.sub.right} {
				if child != nil {
					pq.Push(&h, candidate{child, false})
				}
			}
		}
	}
	return out
}

// top is the best k subjects whose names have the prefix. Shards are looked at one after the
// other: each only for what comes before the k best so far.
func (r *ratings) top(k int, prefix string) []ranked {
	var best, more, merged []ranked
	for i := range r.shards {
		var bound *ranked
		if len(best) == k {
			bound = &best[k-1]
		}
		s := &r.shards[i]
		s.mu.Lock()
		more = s.top(more[:0], k, prefix, bound)
		s.mu.Unlock()
		merged = mergeRanked(merged[:0], best, more, k)
		best, merged = merged, best
	}
	return best
}

// mergeRanked appends the first k of two rankings to dst.
func mergeRanked(dst, a, b []ranked, k int) []ranked {
	for len(dst) < k && len(a)+len(b) > 0 {
		if len(b) == 0 || len(a) > 0 && a[0].before(&b[0]) {
			dst, a = append(dst, a[0]), a[1:]
		} else {
			dst, b = append(dst, b[0]), b[1:]
		}
	}
	return dst
}
