package gossip

import (
	"slices"
	"time"
)

// framesPerTick bounds what one peer gets in one tick: some 1 MB/s at the default round. A
// larger backlog goes by stream. More at once would overrun a socket's receive buffer.
const framesPerTick = 50

// begin starts a frame to p in l.buf.
func (l *loop) begin(p *peer, flags byte) {
	at := time.Now()
	l.seq++
	h := head{
		flags: flags, cluster: l.net.cluster, node: l.cfg.Node, writer: l.cfg.Writer,
		counter: l.roster[l.cfg.Node].Counter, to: p.Writer,
		seq: l.seq, sent: l.mono(at), wall: uint64(at.Add(l.cfg.WallAhead).UnixMicro()),
		roster: l.fpAll,
	}
	h.vector, p.turn = l.vec.marks(maxVector, p.Writer, p.turn)
	if l.phase == Synced && l.st.Agreed() {
		h.flags |= flagSynced
	}
	if p.echo > 0 {
		h.echo, h.hold = p.echo, uint64(max(0, at.Sub(p.echoAt)))
	}
	l.header = l.st.Header(l.header[:0], p.Node)
	if h.header = l.header; len(h.header) > MaxHeader {
		l.log.Error("header is too long: sent without", "bytes", len(h.header), "max", MaxHeader)
		h.header = nil
	}
	l.sent = h.sent
	l.buf = appendHead(l.buf[:0], &h)
}

// room is what is left of the packet in l.buf for the body of one more section.
func (l *loop) room() int { return maxPacket - crcSize - sectionMax - len(l.buf) }

// flush sends the packet in l.buf.
func (l *loop) flush(p *peer) {
	l.buf = seal(l.buf)
	l.g.counts.sent.Add(1)
	l.g.counts.bytesOut.Add(uint64(len(l.buf)))
	if err := l.ml.SendToAddress(p.address, l.buf); err != nil {
		l.g.counts.drop(dropSend)
	}
}

// sendRound sends p what it lacks: always one frame, for the acknowledgements in it, then
// others while there is a backlog.
func (l *loop) sendRound(p *peer) {
	if !p.more || !l.now.Before(p.next) {
		p.next = p.next.Add(p.round)
		if p.next.Before(l.now) {
			p.next = l.now.Add(p.round)
		}
	}
	l.rewind(p)
	l.begin(p, 0)
	l.addRoster(p)
	if p.behind && p.synced {
		l.buf = appendSection(l.buf, kindBehind, "")
	}
	if w := l.sync.want(p); w != nil {
		l.buf = appendSection(l.buf, kindWant, appendWant(nil, w))
	}
	p.more = false
	for left := framesPerTick; ; left-- {
		more := l.addDeltas(p, left)
		l.flush(p)
		if !more {
			break
		}
		if left <= 1 {
			p.more = true
			break
		}
		l.begin(p, 0)
	}
	l.pumpDump(p)
}

// silent says that p was not heard for a lease: it gets frames, to feel a heal, but no load.
func (l *loop) silent(p *peer) bool { return l.now.Sub(p.heardAt) > l.cfg.Lease }

// addRoster adds the roster if p showed another one, or none yet.
func (l *loop) addRoster(p *peer) {
	if p.roster == l.fpAll {
		return
	}
	if len(l.rosterWire) <= l.room() {
		l.buf = appendSection(l.buf, kindRoster, l.rosterWire)
		return
	}
	if !p.streaming && len(p.outbox) == 0 {
		l.stream(p, 0, kindRoster, l.rosterWire)
	}
}

// stream sends one section to p by stream, after those already waiting. It leaves l.buf alone.
func (l *loop) stream(p *peer, origin uint64, k kind, body []byte) bool {
	if len(p.outbox) >= maxOutbox {
		l.g.counts.drop(dropOutbox)
		return false
	}
	packet := l.buf
	l.buf = make([]byte, 0, len(body)+maxPacket)
	l.begin(p, flagStream)
	b := seal(appendSection(l.buf, k, body))
	l.buf = packet
	if len(b) > maxStream {
		l.g.counts.drop(dropOversize)
		return false
	}
	if p.streaming {
		p.outbox = append(p.outbox, b)
		return true
	}
	l.dispatch(p, origin, b)
	return true
}

// dispatch hands b to a goroutine of Run's: a stream may block for seconds.
func (l *loop) dispatch(p *peer, origin uint64, b []byte) {
	p.streaming = true
	l.g.counts.sent.Add(1)
	l.g.counts.streams.Add(1)
	l.g.counts.bytesOut.Add(uint64(len(b)))
	to, end := p.target(), streamed{node: p.Node, writer: p.Writer, origin: origin}
	l.net.spawn(func() {
		end.err = l.ml.SendReliable(to, b)
		l.net.ended(l.done, end)
	})
}

// streamed follows the end of a stream with the next.
func (l *loop) streamed(s streamed) {
	if s.err != nil {
		l.g.counts.drop(dropSend)
		l.log.Debug("stream failed", "peer", s.node, "err", s.err)
	}
	p := l.byNode[s.node]
	if p == nil || p.Writer != s.writer {
		return
	}
	p.streaming = false
	if f := p.flows[s.origin]; s.origin != 0 && f != nil && f.busy {
		f.busy, f.progress = false, l.now
		if s.err != nil {
			f.sent = p.has[s.origin]
			f.backoff++
		} else {
			p.more = true
		}
	}
	if len(p.outbox) > 0 {
		b := p.outbox[0]
		p.outbox = slices.Delete(p.outbox, 0, 1)
		l.dispatch(p, 0, b)
	}
	l.pumpDump(p)
}
