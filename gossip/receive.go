package gossip

import "time"

// message is what memberlist handed us, copied, and when.
type message struct {
	bytes []byte
	at    time.Time
}

// receive takes in one frame: first who it is from, then what it says of the link, then its
// sections. Whatever is wrong with it is counted and harmless.
func (l *loop) receive(m message) {
	f, err := decodeFrame(m.bytes)
	switch {
	case err != nil:
		l.g.counts.drop(dropGarbage)
		return
	case f.cluster != l.net.cluster:
		l.g.counts.drop(dropCluster)
		return
	case f.writer == l.cfg.Writer:
		l.g.counts.drop(dropUnknown) // our own, reflected
		return
	}
	if f.entries != nil {
		l.merge(f.entries)
	}
	p := l.sender(f)
	if p == nil || l.fatal != nil {
		return
	}
	if f.to == l.cfg.Writer && f.echo > l.sent { // of what was never sent
		l.g.counts.drop(dropEcho)
		return
	}
	fresh := f.seq > p.seqIn
	if fresh {
		if err := l.st.Heard(p.Node, f.header, p.heardAt.IsZero()); err != nil {
			l.g.counts.drop(dropRefused)
			l.log.Debug("frame refused", "peer", p.Node, "err", err)
			return
		}
	}
	l.g.counts.heard(p.Node)
	p.heard(f, fresh, m.at)
	if f.to == l.cfg.Writer {
		p.prove(f, m.at.Add(l.cfg.WallAhead), l.mono(m.at))
	}
	for _, k := range f.vector {
		p.raise(k.writer, k.version, l.now)
	}
	l.sections(p, f)
}

// sender is the peer that f is from; nil: a frame that is to go no further.
func (l *loop) sender(f *frame) *peer {
	e, known := l.roster[f.node]
	switch {
	case !known || f.writer != e.Writer && f.counter > e.Counter:
		l.g.counts.drop(dropUnknown)
		return nil
	case f.writer == e.Writer && e.State == Joined:
		return l.byNode[f.node] // nil: somebody has our name
	case f.writer == e.Writer && e.State == Left && f.entries != nil:
		return nil // its last word
	}
	l.g.counts.drop(dropStale)
	if f.writer == e.Writer {
		l.tell(e)
	}
	return nil
}

// tell sends the roster to one who is out of it without knowing, at most once a second.
func (l *loop) tell(e entry) {
	if !l.claimed || l.now.Sub(l.told) < time.Second {
		return
	}
	l.told = l.now
	p := newPeer(e, l.cfg.RoundWAN, l.now)
	l.begin(p, 0)
	if len(l.rosterWire) <= l.room() {
		l.buf = appendSection(l.buf, kindRoster, l.rosterWire)
		l.flush(p)
	} else {
		l.stream(p, 0, kindRoster, l.rosterWire)
	}
}

func (l *loop) sections(p *peer, f *frame) {
	if f.behind && l.phase == Synced {
		l.sync.behind(l, p)
	}
	if f.want != nil {
		l.serveDump(p, f.want)
	}
	for i := range f.deltas {
		l.takeDelta(&f.deltas[i])
	}
	if f.chunk != nil {
		l.sync.take(l, p, f.chunk)
	}
	if f.auditAsk != nil {
		l.audit.asked(l, p, f.auditAsk)
	}
	if f.auditTell != nil {
		l.audit.told(l, p, f.auditTell)
	}
	if f.auditItems != nil {
		l.audit.items(l, p, f.auditItems)
	}
}
