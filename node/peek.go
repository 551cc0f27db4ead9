package node

import "github.com/openclaw/edge/crdt"

// peek answers as a take of cost would, and takes nothing. Peers hear nothing of it.
func (n *Node) peek(l *Limit, key string, cost int64) Decision {
	h := n.table.hash(uint16(l.Index), key)
	s := n.table.shard(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	l = n.current(l)
	r := l.reading()
	d := Decision{Limit: l, Cost: cost, Level: l.Capacity}
	want := crdt.Milli(cost) * crdt.Token
	e, place := s.find(h, uint16(l.Index), key)
	if e != nil {
		n.renew(s, l, r, e, place)
		d.Level = max(s.at(place).LevelAt(&l.terms, r), -l.terms.MaxDebt)
	}
	if d.Allowed = d.Level >= want; !d.Allowed && e != nil {
		if left, on := n.takeBackup(s, l, place, 0); on && left >= want {
			d.Allowed, d.Backup, d.Level = true, true, left
		}
	}
	if !d.Allowed {
		d.RetryAfter = n.patience(l, want-d.Level)
		d.ResetAfter = d.RetryAfter
	}
	return d
}
