package gossip

import (
	"errors"
	"fmt"
)

// merge joins es into the roster and does what follows from it.
func (l *loop) merge(es []entry) {
	changed, cut := l.roster.join(es)
	if cut > 0 {
		l.g.counts.dropped[dropRoster].Add(uint64(cut))
	}
	if changed {
		l.rosterChanged()
		l.checkSelf()
	}
}

// rosterChanged follows the roster with everything that is derived from it.
func (l *loop) rosterChanged() {
	es := l.roster.sorted()
	l.entries = es
	l.fpAll, l.fpJoined = fingerprints(es)
	l.rosterWire = appendEntries(nil, es)
	wire := l.rosterWire
	l.net.roster.Store(&wire)
	if me, ok := l.roster[l.cfg.Node]; !ok || me.State != Forgotten {
		l.saveLater(es)
	}
	old := l.byNode
	l.byNode = make(map[string]*peer, len(es))
	l.regions = make(map[uint64]string, len(es))
	l.peers = l.peers[:0]
	for _, e := range es {
		if e.Node == l.cfg.Node || e.State != Joined {
			continue
		}
		p := old[e.Node]
		if p == nil || p.entry != e {
			p = l.rejoined(p, e)
		}
		l.byNode[e.Node] = p
		l.regions[e.Writer] = e.Region
		l.peers = append(l.peers, p)
	}
}

// rejoined is the peer for entry e, which was p (nil: nobody) so far.
func (l *loop) rejoined(p *peer, e entry) *peer {
	round := l.cfg.RoundWAN
	if e.Region == l.cfg.Region {
		round = l.cfg.RoundRegion
	}
	fresh := newPeer(e, round, l.now)
	if p == nil || p.Writer != e.Writer {
		return fresh
	}
	p.entry, p.address, p.round = e, fresh.address, round
	return p
}

// saveLater hands the roster to the saver; an older one still waiting there is replaced.
func (l *loop) saveLater(es []entry) {
	if !l.claimed { // nothing of ours yet: a start that fails leaves the file as it was
		return
	}
	select {
	case <-l.save:
	default:
	}
	l.save <- es
}

// checkSelf looks whether our own entry is still ours.
func (l *loop) checkSelf() {
	me, ok := l.roster[l.cfg.Node]
	if !l.claimed || !ok || me.State == Joined && me.Writer == l.cfg.Writer {
		return
	}
	switch {
	case me.State == Forgotten:
		l.fatal = ErrForgotten
	case me.Writer == l.cfg.Writer: // left, by our own doing
	case !l.checking:
		l.checking = true
		l.net.suspect(me)
	}
}

// claim puts us into the roster with a counter above all that we know.
func (l *loop) claim() {
	me, known := l.roster[l.cfg.Node]
	if known && me.State == Forgotten && l.hadFile && !l.claimed {
		l.fatal = ErrForgotten
		return
	}
	first := !l.claimed
	l.claimed = true
	others := len(l.peers) > 0
	l.founded = l.founded || first && len(l.roster) == 0
	l.merge([]entry{{Node: l.cfg.Node, Region: l.cfg.Region, Addr: l.addr, Writer: l.cfg.Writer,
		Counter: l.roster.next(), State: Joined}})
	l.vec.raise(l.cfg.Writer, l.version)
	if first {
		l.sync.begin(l, others)
	}
}

func (l *loop) forget(node string) error {
	e, ok := l.roster[node]
	switch {
	case node == l.cfg.Node:
		return errors.New("gossip: a node cannot forget itself: stop it, it leaves")
	case !ok || e.State == Forgotten:
		return fmt.Errorf("%w: %q", ErrUnknown, node)
	}
	e.State, e.Counter = Forgotten, l.roster.next()
	l.merge([]entry{e})
	l.publish()
	return nil
}
