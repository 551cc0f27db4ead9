package gossip

import (
	"errors"
	"math/rand/v2"
	"time"
)

// The range audit is the net under everything else: should two nodes differ although their
// vectors agree, it finds out and mends. The asker sends the sums of all ranges at a common
// reading; the peer answers with the ranges that differ and its items of them; the asker
// sends its own. Which items take part (those that rest) is the State's to say.
type auditor struct {
	next time.Time
	id   uint64
	peer string         // whom we asked
	seen map[string]int // exchanges that each peer began in this period
}

const auditBudget = 4 // exchanges that one peer may begin within a period

func (a *auditor) schedule(l *loop) {
	every := l.cfg.AuditEvery
	a.next = l.now.Add(every*3/4 + rand.N(every/2+1))
}

// soon brings the next audit forward: there is reason to doubt.
func (a *auditor) soon(l *loop) {
	if at := l.now.Add(3*l.cfg.Lease + rand.N(l.cfg.Lease)); at.Before(a.next) {
		a.next = at
	}
}

// tick asks a random reachable peer, if it is time.
func (a *auditor) tick(l *loop) {
	if l.now.Before(a.next) || l.phase != Synced {
		return
	}
	a.schedule(l)
	a.seen = make(map[string]int)
	var can []*peer
	for _, p := range l.peers {
		if !l.silent(p) && p.synced && p.proven > 0 {
			can = append(can, p)
		}
	}
	if len(can) == 0 {
		return
	}
	p := can[rand.IntN(len(can))]
	ask := auditAsk{id: rand.Uint64(), point: l.st.AuditPoint(nil), sums: make([]uint64, auditRanges)}
	if len(ask.point) > maxPoint || l.st.Audit(ask.point, ask.sums) != nil {
		return
	}
	a.id, a.peer = ask.id, p.Node
	l.stream(p, 0, kindAuditAsk, appendAuditAsk(nil, &ask))
}

// asked compares p's sums with ours and answers with what differs.
func (a *auditor) asked(l *loop, p *peer, ask *auditAsk) {
	if len(ask.sums) != auditRanges || l.phase != Synced || a.seen[p.Node] >= auditBudget {
		return
	}
	if a.seen == nil {
		a.seen = make(map[string]int)
	}
	a.seen[p.Node]++
	sums := make([]uint64, auditRanges)
	if err := l.st.Audit(ask.point, sums); err != nil {
		l.log.Debug("audit not possible", "peer", p.Node, "err", err)
		return
	}
	tell := auditTell{id: ask.id, point: ask.point}
	for i := range sums {
		if sums[i] != ask.sums[i] && len(tell.ranges) < auditRepair {
			tell.ranges = append(tell.ranges, uint64(i))
		}
	}
	if len(tell.ranges) == 0 {
		return
	}
	tell.payload = a.collect(l, ask.point, tell.ranges)
	l.stream(p, 0, kindAuditTell, appendAuditTell(nil, &tell))
}

// told joins p's items of the ranges that differ and sends ours.
func (a *auditor) told(l *loop, p *peer, t *auditTell) {
	if t.id != a.id || a.peer != p.Node {
		return
	}
	a.peer = ""
	ours := append([]byte(nil), a.collect(l, t.point, t.ranges)...)
	a.mend(l, p, t.payload)
	if len(ours) > 0 {
		l.stream(p, 0, kindAuditItems, ours)
	}
}

func (a *auditor) items(l *loop, p *peer, payload []byte) { a.mend(l, p, payload) }

// collect packs the items of ranges, as many as one chunk takes: the next audit goes on.
func (a *auditor) collect(l *loop, point []byte, ranges []uint64) []byte {
	var ids []uint32
	for _, i := range ranges {
		var err error
		if ids, err = l.st.AuditRange(point, int(i), auditRanges, ids); err != nil {
			l.log.Debug("audit not possible", "err", err)
			return nil
		}
	}
	payload, _ := l.pack.packIDs(ids, maxChunk)
	return payload
}

// mend joins a repair. What it taught us may be news to others as well: learnt is dirty.
func (a *auditor) mend(l *loop, p *peer, payload []byte) {
	ids, learnt, err := l.unpack(payload)
	if errors.Is(err, ErrLater) || learnt == 0 {
		return
	}
	l.g.counts.repairs.Add(uint64(learnt))
	l.log.Debug("audit mended", "peer", p.Node, "items", learnt)
	l.changed(ids)
}
