package node

import (
	"github.com/openclaw/edge/crdt"
)

// allowance is a backup bucket: node-local, on the local monotonic clock, replicated to
// nobody. It belongs to a bucket and goes with it.
type allowance struct {
	level crdt.Milli
	at    crdt.Instant // local time of the level
}

// takeBackup serves a dry bucket from its backup while the limit's authority is lost or
// the operator has switched failover on. Caller holds the shard's lock.
func (n *Node) takeBackup(s *shard, l *Limit, place uint32, want crdt.Milli) (crdt.Milli, bool) {
	if l.Backup == nil || !n.refill.lost(l.Policy) && !n.failover.Load() {
		return 0, false
	}
	now := crdt.Instant(n.refill.local.Load())
	a, ok := s.backup[place]
	if !ok {
		a = allowance{level: l.Backup.Capacity, at: now}
	}
	a.refill(l, now)
	if ok = a.level >= want; ok {
		a.level -= want
	}
	if s.backup == nil {
		s.backup = make(map[uint32]allowance)
	}
	s.backup[place] = a
	return a.level, ok
}

func (a *allowance) refill(l *Limit, now crdt.Instant) {
	a.level = min(l.Backup.Capacity, a.level+l.backup.Fill(a.at, now))
	a.at = now
}

// dropFullBackups forgets the allowances that have refilled: as good as new. Caller holds
// the shard's lock.
func (n *Node) dropFullBackups(s *shard) {
	now := crdt.Instant(n.refill.local.Load())
	f := n.force.Load()
	for place, a := range s.backup {
		l := f.byID[s.at(place).limit]
		if l == nil || l.Backup == nil {
			delete(s.backup, place)
			continue
		}
		if a.refill(l, now); a.level >= l.Backup.Capacity {
			delete(s.backup, place)
		}
	}
}
