package node

import (
	"github.com/openclaw/edge/crdt"
)

// Stats is what a scrape needs. It walks the table in strides: takes hardly wait.
func (n *Node) Stats() Stats {
	v := n.gossip.View()
	a := n.refill.state.Load()
	g := n.gossip.Stats()
	speeds := n.refill.speedsNow()
	s := Stats{
		AliveMembers: a.reachable, UnreachableMembers: max(0, len(v.Members)-a.reachable), ExpectedMembers: len(v.Members),
		Speed:          speeds,
		FramesReceived: g.FramesReceived, FramesDropped: g.FramesDropped,
		BytesSent: g.BytesOut, BytesReceived: g.BytesIn, Repairs: g.Repairs,
	}
	s.FramesDropped["impossible"] = n.impossible.Load()
	s.FramesDropped["no_memory"] = n.unkept.Load()
	for i := range v.Members {
		if m := &v.Members[i]; m.Node != v.Self {
			s.Peers = append(s.Peers, PeerStats{Peer: m.Node, Lag: m.Lag, Skew: m.Skew})
		}
	}
	s.Store = n.storeStats()
	settled := n.settled.Load()
	force := n.force.Load()
	of := make([]LimitStats, len(force.byID))
	for i := range n.table.shards {
		n.table.shards[i].count(of)
	}
	n.table.walk(func(_ int, e *entry, _ uint32) {
		if l := force.at(e); l != nil && e.Epoch == l.terms.Epoch {
			of[l.Index].add(e.LevelAt(&l.terms, l.reading()), l.Capacity)
		}
	})
	for i, l := range force.byID {
		if l == nil {
			continue
		}
		st := &of[i]
		st.Name, st.Capacity = l.Name, l.Capacity
		st.ConfiguredRate = l.Rate.PerSecond()
		st.OfferedRate = st.ConfiguredRate * speeds[l.Policy]
		if settled {
			st.Refilled = tokens(l.granted())
		}
		st.Drift = n.Drift(l.Name)
		if st.Live == 0 {
			st.CurrentTokens = int64(l.Capacity / crdt.Token)
		}
		s.Limits = append(s.Limits, *st)
	}
	return s
}

// count adds one shard's events.
func (s *shard) count(of []LimitStats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(int(s.recent.limit))
	for i := range min(len(s.tally), len(of)) {
		t, st := &s.tally[i], &of[i]
		st.Allowed += t.allowed
		st.Rejected += t.rejected
		st.Backup += t.backup
		st.Overflow += t.overflow
		st.EvictedFull += t.evictedFull
		st.EvictedMemory += t.evictedMemory
	}
}

// add adds one bucket's level.
func (st *LimitStats) add(level, capacity crdt.Milli) {
	if level >= capacity {
		return
	}
	st.Live++
	if level < crdt.Token {
		st.Dry++
	}
	if level > 0 {
		st.CurrentTokens += int64(level / crdt.Token)
	} else {
		st.Debt -= level
	}
}
