package node

import (
	"github.com/openclaw/edge/crdt"
)

// Stats is what a scrape needs. It walks the table a chunk at a time: takes hardly wait.
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
	settled := n.settled.Load()
	force := n.force.Load()
	of := make([]LimitStats, len(force.byID))
	for i := range n.table.shards {
		n.table.shards[i].count(force, of)
	}
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

// count adds one shard's buckets and events.
func (s *shard) count(force *inForce, of []LimitStats) {
	s.mu.Lock()
	for i := range min(len(s.tally), len(of)) {
		t, st := &s.tally[i], &of[i]
		st.Allowed += t.allowed
		st.Rejected += t.rejected
		st.Backup += t.backup
		st.Overflow += t.overflow
		st.EvictedFull += t.evictedFull
		st.EvictedMemory += t.evictedMemory
	}
	s.mu.Unlock()
	s.walk(func(e *entry, _ uint32) {
		l := force.at(e)
		if l == nil || e.Epoch != l.terms.Epoch {
			return
		}
		level := e.LevelAt(&l.terms, crdt.Instant(l.shown.Load()))
		if level >= l.Capacity {
			return
		}
		st := &of[l.Index]
		st.Live++
		if level < crdt.Token {
			st.Dry++
		}
		if level > 0 {
			st.CurrentTokens += int64(level / crdt.Token)
		} else {
			st.Debt -= level
		}
	})
}
