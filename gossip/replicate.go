package gossip

import (
	"errors"
	"hash/fnv"
	"slices"
	"time"
)

const (
	// maxLogged bounds the changes listed in all logs together: 16 bytes each.
	maxLogged = 2_000_000
	// pruneAfter is how long all members have agreed on a gone writer when it leaves the vector.
	pruneAfter = 10 * time.Minute
)

// changelogOf is the log of origin, made when first needed.
func (l *loop) changelogOf(origin uint64) *changelog {
	c := l.logs[origin]
	if c == nil {
		c = &changelog{}
		l.logs[origin] = c
	}
	return c
}

// rewind goes back to what p acknowledged, for each flow that is overdue.
func (l *loop) rewind(p *peer) {
	for origin, f := range p.flows {
		has := p.has[origin]
		if f.sent <= has || f.busy {
			continue
		}
		if l.now.Sub(f.progress) < p.timeout(f) {
			continue
		}
		if c := l.logs[origin]; c != nil {
			l.g.counts.resent.Add(uint64(c.after(f.sent) - c.after(has)))
		}
		f.sent, f.progress = has, l.now
		f.backoff++
	}
}

// addDeltas fills the packet in l.buf with changes that p lacks: ours, then those of others
// that nobody else brings it. It reports whether there are more.
func (l *loop) addDeltas(p *peer, left int) (more bool) {
	p.behind = false
	if l.silent(p) { // it may have got much from others by the time we hear it again
		for _, f := range p.flows {
			f.active, f.seenAt = false, time.Time{}
		}
		return false
	}
	if l.addFlow(p, l.cfg.Writer, l.version, left) {
		return true
	}
	for origin, have := range l.vec.upTo {
		if l.relays(p, origin, have) && l.addFlow(p, origin, p.flow(origin).upTo[0], left) {
			return true
		}
	}
	return false
}

// relays says whether p needs origin's changes from us: what it has of origin stood still,
// below what we have, for longer than the origin needs to resend.
func (l *loop) relays(p *peer, origin, have uint64) bool {
	if origin == l.cfg.Writer || origin == p.Writer {
		return false
	}
	if _, gone := l.settled[origin]; gone {
		return false
	}
	f, has := p.flow(origin), p.has[origin]
	f.turn(have, l.pace(p, origin), l.now)
	switch {
	case has >= have:
		f.seenAt = time.Time{}
		return false
	case f.active && has <= f.sent:
		return true
	case f.active || f.seenAt.IsZero() || has > f.seen: // it gets them from somebody else
		f.active, f.seen, f.seenAt = false, has, l.now
		return false
	case l.now.Sub(f.seenAt) <= l.grace(p, origin):
		return false
	case has < l.changelogOf(origin).floor && l.now.Sub(f.seenAt) <= 2*l.cfg.Lease:
		return false // we could only send it to fetch everything; others may do better
	}
	f.active, f.sent, f.backoff, f.progress = true, has, 0, l.now
	return true
}

// pace is the round between origin and p: the slow one between regions, also where we are
// p's near neighbour. What p lacks for less than origin needs to send it again is not for us.
func (l *loop) pace(p *peer, origin uint64) time.Duration {
	if l.regions[origin] == p.Region {
		return p.round
	}
	return max(p.round, l.cfg.RoundWAN)
}

// grace is how long we leave it to origin and to others. It differs from node to node, the
// more the larger the cluster, so that one relays and the others see that p has it.
func (l *loop) grace(p *peer, origin uint64) time.Duration {
	h := fnv.New32a()
	h.Write([]byte(l.cfg.Node))
	h.Write([]byte(p.Node))
	h.Write([]byte{byte(origin), byte(origin >> 8)})
	pace := l.pace(p, origin)
	d := 3*pace + time.Duration(h.Sum32()%uint32(4+len(l.peers)))*pace/2 + p.rtt
	if len(l.vec.upTo) > maxVector { // its vector comes in parts
		d *= time.Duration(1 + len(l.vec.upTo)/maxVector)
	}
	return d
}

// addFlow adds what p lacks of origin, up to head. It reports that the packet is full.
func (l *loop) addFlow(p *peer, origin, head uint64, left int) (full bool) {
	f, c := p.flow(origin), l.changelogOf(origin)
	has := p.has[origin]
	f.sent = max(f.sent, has)
	if has < c.floor {
		p.behind = true
		f.sent = max(f.sent, c.floor)
	}
	if f.sent >= head || f.busy || f.backoff > patience && left < framesPerTick { // in doubt, one packet
		return false
	}
	if f.sent == has {
		f.progress = l.now
	}
	if l.addBacklog(p, f, origin, c, head) {
		return false
	}
	for f.sent < head {
		room := l.room()
		if room < minRoom {
			return true
		}
		payload, to, n := l.pack.pack(c, f.sent, head, room)
		if len(payload) > room {
			if room < maxPacket/4 {
				return true // try the next packet first
			}
			l.streamDelta(p, f, delta{origin, f.sent, to, payload}, n)
			return false
		}
		if to == f.sent { // no packing fits any message: the way out is a dump
			c.trim(head)
			p.behind = true
			return false
		}
		d := delta{origin, f.sent, to, payload}
		l.buf = appendSection(l.buf, kindDelta, appendDelta(nil, &d))
		l.g.counts.items.Add(uint64(n))
		f.sent = to
	}
	return false
}

// addBacklog sends a chunk by stream if p lacks more than packets should carry.
func (l *loop) addBacklog(p *peer, f *flow, origin uint64, c *changelog, head uint64) bool {
	rounds := int(max(1, p.round/l.cfg.RoundRegion))
	bytes := float64(len(c.list)-c.after(f.sent)) * l.pack.avg
	if bytes < float64(64<<10*rounds) || f.backoff > patience || p.streaming {
		return false
	}
	payload, to, n := l.pack.pack(c, f.sent, head, maxChunk)
	if n == 0 || to == f.sent {
		return false
	}
	l.streamDelta(p, f, delta{origin, f.sent, to, payload}, n)
	return true
}

func (l *loop) streamDelta(p *peer, f *flow, d delta, n int) {
	if p.streaming || !l.stream(p, d.origin, kindDelta, appendDelta(nil, &d)) {
		return
	}
	l.g.counts.items.Add(uint64(n))
	f.busy, f.sent = true, d.to
}

// takeDelta joins a delta and remembers it for those who may lack it.
func (l *loop) takeDelta(d *delta) {
	s := span{d.from, d.to}
	if d.origin == l.cfg.Writer || l.vec.has(d.origin, s) {
		return
	}
	if !l.vec.room(d.origin) {
		l.g.counts.drop(dropGaps)
		return
	}
	ids, _, err := l.unpack(d.payload)
	switch {
	case errors.Is(err, ErrLater):
		return
	case err != nil: // we can no more tell anybody what was in it
		l.changelogOf(d.origin).trim(d.to)
	default:
		l.changelogOf(d.origin).add(d.to, ids...)
	}
	old := l.vec.upTo[d.origin]
	if !l.vec.take(d.origin, s) {
		l.g.counts.drop(dropGaps)
	}
	l.changelogOf(d.origin).settle(old, l.vec.upTo[d.origin])
	delete(l.settled, d.origin)
}

// unpack joins a payload. After ErrLater it comes again; after any other error it counts as
// taken, for the same one would only come again.
func (l *loop) unpack(payload []byte) (ids []uint32, learnt int, err error) {
	if len(payload) == 0 {
		return nil, 0, nil
	}
	ids, learnt, err = l.st.Unpack(payload, l.ids[:0])
	l.ids = ids
	switch {
	case errors.Is(err, ErrLater):
		l.g.counts.drop(dropLater)
	case err != nil:
		l.g.counts.drop(dropRefused)
		l.log.Warn("payload refused", "err", err)
	}
	return ids, learnt, err
}

// sweep forgets what everybody has, and keeps the logs within their bound.
func (l *loop) sweep() {
	total := 0
	for origin, c := range l.logs {
		l.adopt(origin, c)
		l.settle(origin)
		c.trim(l.common(origin))
		if origin == l.cfg.Writer {
			c.compact()
		}
		total += len(c.list)
	}
	for total > maxLogged {
		longest := l.logs[l.cfg.Writer]
		for _, c := range l.logs {
			if len(c.list) > len(longest.list) {
				longest = c
			}
		}
		n := longest.cut(max(total-maxLogged, maxLogged/16))
		l.g.counts.dropped[dropLog].Add(uint64(n))
		total -= n
	}
	own := l.common(l.cfg.Writer)
	i := slices.IndexFunc(l.stamps, func(s stamp) bool { return s.version > own })
	if i < 0 {
		i = len(l.stamps)
	}
	l.stamps = slices.Delete(l.stamps, 0, i)
}

// common is the version of origin up to which every member has everything.
func (l *loop) common(origin uint64) uint64 {
	v := l.vec.upTo[origin]
	for _, p := range l.peers {
		if p.Writer != origin {
			v = min(v, p.has[origin])
		}
	}
	return v
}

// adopt tells as ours what lies beyond a gap that does not close: its writer may have died
// before anybody had the range in the gap, and nobody could ever relay the rest under its name.
func (l *loop) adopt(origin uint64, c *changelog) {
	upTo := l.vec.upTo[origin]
	if origin == l.cfg.Writer || len(l.vec.beyond[origin]) == 0 || c.still != upTo || c.since.IsZero() {
		c.still, c.since = upTo, l.now
		return
	}
	if l.now.Sub(c.since) <= 2*l.cfg.Lease {
		return
	}
	l.ids = l.ids[:0]
	for i := c.after(upTo); i < len(c.list); i++ {
		if !c.list[i].adopted {
			c.list[i].adopted = true
			l.ids = append(l.ids, c.list[i].id)
		}
	}
	if len(l.ids) > 0 {
		l.log.Debug("adopting what lies beyond a gap", "writer", hex16(origin), "items", len(l.ids))
		l.changed(l.ids)
	}
	if !l.current(origin) { // nobody will fill the gap but by a dump
		delete(l.vec.beyond, origin)
		c.list = c.list[:c.after(upTo)]
	}
}

// current says that origin is a member's writer.
func (l *loop) current(origin uint64) bool {
	if origin == l.cfg.Writer {
		return true
	}
	return slices.ContainsFunc(l.peers, func(p *peer) bool { return p.Writer == origin })
}

// settle lets go of a writer that is no member's any more, once all members have all of it:
// a peer that starts later gets its changes with its first sync.
func (l *loop) settle(origin uint64) {
	if l.current(origin) {
		delete(l.settled, origin)
		return
	}
	since, known := l.settled[origin]
	switch {
	case l.vec.upTo[origin] == 0:
		delete(l.logs, origin)
		delete(l.settled, origin)
	case !known && l.common(origin) == l.vec.upTo[origin] && len(l.vec.beyond[origin]) == 0:
		l.settled[origin] = l.now
	case known && l.now.Sub(since) > pruneAfter:
		l.vec.remove(origin)
		delete(l.logs, origin)
		delete(l.settled, origin)
		for _, p := range l.peers {
			delete(p.has, origin)
			delete(p.flows, origin)
		}
	}
}
