package gossip

import (
	"errors"
	"time"
)

// First sync: a new start has an empty vector. It asks one peer for everything ("want", in
// every frame to it); that peer sends chunks by stream, a few ahead of what the wants
// acknowledge, and its vector as of the beginning on the last one. With that vector in, the
// ordinary deltas go on where the dump began. A peer that fell below the others' logs does
// the same while it stays synced.
//
// What a broken-off dump taught us stands in no log and no vector: should its sender be gone,
// we alone have it. An early audit finds that out.
const (
	dumpWindow  = 4               // chunks sent ahead of the acknowledged ones
	scanBatch   = 4096            // ids taken from Scan at once
	syncSilence = 5 * time.Second // then another peer is asked
	syncLimit   = 15 * time.Second
	syncAlone   = 10 * time.Second // nobody heard for so long: go on alone
	syncPicky   = 3 * time.Second  // so long only a synced peer is asked
	dumpExpires = 10 * time.Second
)

// syncer is the asking side.
type syncer struct {
	began   time.Time
	wants   bool // there is something to fetch
	current want
	peer    string // whom we ask, "" nobody yet
	heard   time.Time
	last    uint64 // number of the last chunk, once known
	ended   bool   // last is known
	asked   map[string]time.Time
	final   []mark
	acks    int  // frames in which a finished dump is still acknowledged
	prior   want // that dump's last want
	from    string
	synced  bool // the peer said that it has the cluster's when it was asked
	fully   bool // what was fetched came from one who has the cluster's
}

// begin is called once, with the claim.
func (s *syncer) begin(l *loop, others bool) {
	s.began, s.asked = l.now, make(map[string]time.Time)
	if !others {
		l.phase, l.note = Synced, "no other member: nothing to fetch"
		return
	}
	l.phase, l.note = Syncing, "fetching what the others have"
	s.wants = true
}

// behind says that p has what we lack, and cannot resend it.
func (s *syncer) behind(l *loop, p *peer) {
	if s.wants {
		return
	}
	s.wants = true
	s.ask(l, p)
	l.log.Info("too far behind for deltas: fetching everything", "told_by", p.Node)
}

// want is what a frame to p asks for; nil: nothing.
func (s *syncer) want(p *peer) *want {
	switch {
	case s.wants && s.peer == p.Node:
		return &s.current
	case s.acks > 0 && s.from == p.Node:
		s.acks--
		return &s.prior
	}
	return nil
}

func (s *syncer) tick(l *loop) {
	if l.phase == Syncing {
		switch age := l.now.Sub(s.began); {
		case age > syncLimit:
			l.phase, l.note = Synced, "first sync timed out; it goes on in the background"
		case age > syncAlone && s.choose(l, true) == nil && s.peer == "":
			l.phase, l.note = Synced, "no member was reachable; the first sync waits for one"
		}
		if l.phase == Synced {
			l.log.Warn("first sync not done", "reason", l.note)
		}
	}
	if l.phase == Synced && len(l.peers) == 0 {
		s.wants, s.peer = false, ""
	}
	s.wants = s.wants || s.outdone(l)
	if !s.wants || s.peer != "" && l.now.Sub(s.heard) < syncSilence && l.byNode[s.peer] != nil {
		return
	}
	if p := s.choose(l, l.now.Sub(s.began) > syncPicky); p != nil {
		s.ask(l, p)
	}
}

// outdone tells whether all that this node has fetched came from nodes that had only their own,
// and now one is heard that has the cluster's.
func (s *syncer) outdone(l *loop) bool {
	return l.phase == Synced && !s.fully && !l.st.Agreed() && s.choose(l, false) != nil
}

// fetched is View.Fetched.
func (s *syncer) fetched(l *loop) bool { return l.phase == Synced && !s.wants && !s.outdone(l) }

// choose prefers who is synced, of our region, and was not asked for longest.
func (s *syncer) choose(l *loop, any bool) *peer {
	var best *peer
	better := func(p, q *peer) bool {
		if p.synced != q.synced {
			return p.synced
		}
		if a, b := s.asked[p.Node], s.asked[q.Node]; !a.Equal(b) {
			return a.Before(b)
		}
		return p.Region == l.cfg.Region && q.Region != l.cfg.Region
	}
	for _, p := range l.peers {
		if l.silent(p) || !p.synced && !any {
			continue
		}
		if best == nil || better(p, best) {
			best = p
		}
	}
	return best
}

func (s *syncer) ask(l *loop, p *peer) {
	if len(s.asked) > maxRoster {
		clear(s.asked)
	}
	s.asked[p.Node] = l.now
	if s.current.base > 0 || s.current.mask != 0 {
		l.audit.soon(l)
	}
	s.peer, s.synced, s.heard, s.ended, s.final = p.Node, p.synced, l.now, false, nil
	s.current = want{id: l.cfg.Writer ^ uint64(l.now.UnixNano())}
	p.next = l.now // at the next tick
}

// take joins a chunk, in whatever order they come.
func (s *syncer) take(l *loop, p *peer, c *chunk) {
	w := &s.current
	ahead := c.n - w.base
	if !s.wants || s.peer != p.Node || c.id != w.id || c.n < w.base || ahead > dumpWindow ||
		ahead > 0 && w.mask>>(ahead-1)&1 == 1 {
		return
	}
	if _, _, err := l.unpack(c.payload); errors.Is(err, ErrLater) {
		return
	}
	s.heard = l.now
	if c.last {
		s.ended, s.last, s.final = true, c.n, cloneMarks(c.vector)
	}
	if ahead > 0 {
		w.mask |= 1 << (ahead - 1)
	} else {
		for w.base++; w.mask&1 == 1; w.base++ {
			w.mask >>= 1
		}
		w.mask >>= 1
	}
	if s.ended && w.base > s.last {
		s.complete(l, p)
	}
	p.next = l.now // acknowledge soon: the next chunks wait for it
}

func (s *syncer) complete(l *loop, p *peer) {
	for _, m := range s.final {
		if m.writer == l.cfg.Writer || !l.vec.room(m.writer) {
			continue
		}
		if m.version > l.vec.upTo[m.writer] {
			c := l.changelogOf(m.writer)
			c.trim(m.version) // what came in the dump is in no log of ours
			l.vec.raise(m.writer, m.version)
			c.settle(m.version, l.vec.upTo[m.writer])
		}
	}
	s.prior, s.from, s.fully, s.acks = s.current, p.Node, s.synced, 4
	s.wants, s.peer, s.final, s.current = false, "", nil, want{}
	if l.phase == Syncing {
		l.note = "first sync done, from " + p.Node
	} else {
		l.note = "fetched everything again, from " + p.Node
	}
	l.phase = Synced
	l.log.Info(l.note, "chunks", s.last+1, "took", l.now.Sub(s.began).Round(time.Millisecond))
}

func cloneMarks(ms []mark) []mark { return append([]mark(nil), ms...) }

// dump is the serving side, one for a peer at most.
type dump struct {
	id      uint64
	asked   time.Time
	base    uint64 // newest acknowledged
	vector  []mark // ours at the start
	cursor  uint64
	scanned bool     // the cursor is at the end
	ids     []uint32 // scanned, not packed yet
	sent    []parcel // not acknowledged yet, in order
	next    uint64   // number of the next chunk
	done    bool     // the last one is packed
}

// parcel is a chunk kept until it is acknowledged.
type parcel struct {
	n    uint64
	body []byte
	at   time.Time // when it was last sent
}

// serveDump follows a want: starts a dump, or goes on with it.
func (l *loop) serveDump(p *peer, w *want) {
	if p.serve == nil || p.serve.id != w.id {
		if w.base > 0 {
			return // of a dump that we have given up or finished
		}
		p.serve = &dump{id: w.id, vector: l.vec.whole()}
	}
	d := p.serve
	d.asked, d.base = l.now, max(d.base, w.base)
	kept := d.sent[:0]
	for _, c := range d.sent {
		if ahead := c.n - w.base; c.n >= w.base && (ahead == 0 || ahead > 8 || w.mask>>(ahead-1)&1 == 0) {
			kept = append(kept, c)
		}
	}
	clear(d.sent[len(kept):])
	d.sent = kept
	if d.done && len(d.sent) == 0 {
		p.serve = nil
		return
	}
	l.pumpDump(p)
}

// pumpDump sends the next chunk, or again the oldest that is overdue. One stream at a time.
func (l *loop) pumpDump(p *peer) {
	d := p.serve
	if d == nil || p.streaming {
		return
	}
	if l.now.Sub(d.asked) > dumpExpires {
		p.serve = nil
		return
	}
	for i := range d.sent {
		if l.now.Sub(d.sent[i].at) > time.Second+2*p.rtt+2*p.round {
			l.sendParcel(p, &d.sent[i])
			return
		}
	}
	if d.done || d.next >= d.base+dumpWindow {
		return
	}
	payload := l.packDump(d)
	c := chunk{id: d.id, n: d.next, last: d.done, payload: payload}
	if d.done {
		c.vector = d.vector
	}
	d.sent = append(d.sent, parcel{n: d.next, body: appendChunk(nil, &c)})
	d.next++
	l.sendParcel(p, &d.sent[len(d.sent)-1])
}

func (l *loop) sendParcel(p *peer, c *parcel) {
	c.at = l.now
	l.stream(p, 0, kindChunk, c.body)
}

// packDump packs the next chunk's payload; it is the last one when d.done is set.
func (l *loop) packDump(d *dump) []byte {
	for {
		for fill := int(maxChunk / l.pack.avg); !d.scanned && len(d.ids) <= fill; {
			d.ids, d.cursor = l.st.Scan(d.cursor, d.ids, scanBatch)
			d.scanned = d.cursor == 0
		}
		if len(d.ids) == 0 {
			d.done = true
			return nil
		}
		payload, n := l.pack.packIDs(d.ids, maxChunk)
		d.ids = append(d.ids[:0], d.ids[n:]...)
		l.g.counts.items.Add(uint64(n))
		d.done = d.scanned && len(d.ids) == 0
		if len(payload) > 0 || d.done {
			return payload
		}
	}
}
