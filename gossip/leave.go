package gossip

import "time"

const (
	flushFor    = 2 * time.Second
	leaveRounds = 4 // ticks in which a leaver says so
)

// leaver is the end of a run: flush, say goodbye, stop.
type leaver struct {
	until   time.Time
	version uint64 // of our last own change: what is relayed meanwhile others can tell, too
	said    int
}

func (v *leaver) begin(l *loop) {
	l.now = time.Now()
	l.drain()
	v.until, v.version = l.now.Add(flushFor), l.version
}

// tick reports that all is done.
func (v *leaver) tick(l *loop) bool {
	if !l.claimed {
		return true
	}
	if v.said == 0 && (l.flushed(v.version) || l.now.After(v.until)) {
		e := l.roster[l.cfg.Node]
		e.State, e.Counter = Left, l.roster.next()
		v.said = 1
		l.merge([]entry{e})
		l.publish()
	}
	for _, p := range l.peers {
		p.next = l.now // every peer, every tick: a leaver has no time for rounds
	}
	if v.said > 0 {
		v.said++
	}
	return v.said > leaveRounds
}

// flushed says that every peer that still hears us has our changes up to version.
func (l *loop) flushed(version uint64) bool {
	for _, p := range l.peers {
		alive := p.proven > 0 && l.now.Sub(l.start)-time.Duration(p.proven) < l.cfg.Lease
		if alive && p.has[l.cfg.Writer] < version {
			return false
		}
	}
	return true
}
