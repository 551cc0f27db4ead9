package node

import (
	"fmt"
	"slices"

	"github.com/openclaw/edge/crdt"
)

// Request is one take of a batch.
type Request struct {
	Limit, Key string
	Cost       int64 // tokens
}

// TakeAll answers many takes at once. With atomic, all are taken or none, and no backup
// bucket serves. An error names the request that can never succeed; nothing was taken then.
func (n *Node) TakeAll(reqs []Request, atomic bool) ([]Decision, error) {
	limits := make([]*Limit, len(reqs))
	for i, q := range reqs {
		l, err := n.admissible(q.Limit, q.Key, q.Cost)
		if err != nil {
			return nil, fmt.Errorf("takes[%d]: %w", i, err)
		}
		limits[i] = l
	}
	if atomic {
		return n.takeAtomic(limits, reqs), nil
	}
	ds := make([]Decision, len(reqs))
	for i, q := range reqs {
		ds[i] = Decision{Limit: limits[i], Cost: q.Cost}
		n.take(&ds[i], q.Key)
	}
	return ds, nil
}

// takeAtomic locks every shard concerned, in order, so that nobody sees a part of it.
func (n *Node) takeAtomic(limits []*Limit, reqs []Request) []Decision {
	hashes := make([]uint64, len(reqs))
	var involved []int
	for i, q := range reqs {
		hashes[i] = n.table.hash(uint16(limits[i].Index), q.Key)
		overflow := n.table.hash(uint16(limits[i].Index), "")
		involved = append(involved, shardNumber(hashes[i]), shardNumber(overflow))
	}
	slices.Sort(involved)
	involved = slices.Compact(involved)
	for _, i := range involved {
		n.table.shards[i].mu.Lock()
	}
	defer func() {
		for _, i := range involved {
			n.table.shards[i].mu.Unlock()
		}
	}()
	for i, l := range limits {
		limits[i] = n.current(l)
	}

	// Find every bucket first: making one may evict another, so none is looked at before all
	// are there. A bucket made for this batch is full and could be evicted for the next one;
	// then it shows below as gone, and is found again as the overflow bucket.
	type spot struct {
		s     *shard
		place uint32
	}
	spots := make([]spot, len(reqs))
	need := make(map[spot]crdt.Milli, len(reqs))
	for i, q := range reqs {
		s := n.table.shard(hashes[i])
		e, place := n.meet(s, limits[i], limits[i].reading(), hashes[i], q.Key)
		if e == nil {
			h := n.table.hash(uint16(limits[i].Index), "")
			s = n.table.shard(h)
			_, place = n.meet(s, limits[i], limits[i].reading(), h, "")
		}
		spots[i] = spot{s, place}
	}
	ok := true
	for i, q := range reqs {
		if spots[i].place == 0 {
			ok = false
			continue
		}
		need[spots[i]] += crdt.Milli(q.Cost) * crdt.Token
		e := spots[i].s.at(spots[i].place)
		if !e.live() || int(e.limit) != limits[i].Index || e.key != q.Key && e.key != "" {
			ok = false // evicted for another key of this very batch
			continue
		}
		if e.Advance(&limits[i].terms, limits[i].reading()) {
			spots[i].s.touch(e, spots[i].place)
		}
		ok = ok && e.Level(&limits[i].terms) >= need[spots[i]]
	}
	ds := make([]Decision, len(reqs))
	for i, q := range reqs {
		if ok {
			ds[i] = Decision{Limit: limits[i], Cost: q.Cost}
			n.takeAt(&ds[i], spots[i].s, limits[i].reading(), spots[i].s.at(spots[i].place), spots[i].place)
			n.waits(&ds[i])
			continue
		}
		ds[i] = n.notTaken(spots[i].s, spots[i].place, limits[i], q, need[spots[i]])
	}
	return ds
}

// notTaken is the decision on one request of a batch that failed as a whole.
func (n *Node) notTaken(s *shard, place uint32, l *Limit, q Request, need crdt.Milli) Decision {
	d := Decision{Limit: l, Cost: q.Cost, Level: l.Capacity}
	s.reject(l.Index)
	if place != 0 {
		if e := s.at(place); e.live() && int(e.limit) == l.Index {
			d.Level = e.Level(&l.terms)
		}
	}
	d.RetryAfter = n.patience(l, need-d.Level)
	d.ResetAfter = d.RetryAfter
	return d
}
