package gossip

import "fmt"

// Listed is how many changes all logs list together.
func (g *Gossip) Listed() (n int) {
	g.net.Load().do(func(l *loop) {
		for _, c := range l.logs {
			n += len(c.list)
		}
	})
	return n
}

// CutLogs makes the logs forget everything listed, as the bound does.
func (g *Gossip) CutLogs() {
	g.net.Load().do(func(l *loop) {
		for origin, c := range l.logs {
			c.trim(l.vec.upTo[origin])
		}
	})
}

// Dump describes the vector and logs, for a failing test.
func (g *Gossip) Dump() (s string) {
	g.net.Load().do(func(l *loop) {
		for _, m := range l.vec.whole() {
			c := l.changelogOf(m.writer)
			s += fmt.Sprintf("\n\t\t%d: %d beyond %v, floor %d, %d listed, current %v, settled %v;", m.writer, m.version,
				l.vec.beyond[m.writer], c.floor, len(c.list), l.current(m.writer), l.settled[m.writer])
			for _, p := range l.peers {
				f := p.flow(m.writer)
				s += fmt.Sprintf(" %s has %d (sent %d active %v)", p.Node, p.has[m.writer], f.sent, f.active)
			}
		}
		for w, b := range l.vec.beyond {
			if l.vec.upTo[w] == 0 {
				s += fmt.Sprintf("\n\t\t%d: only beyond: %v", w, b)
			}
		}
	})
	return s
}

// Inject hands b to g as if memberlist had brought it.
func (g *Gossip) Inject(b []byte) { g.net.Load().NotifyMsg(b) }

// Forgery is a frame's head as a forger may write it.
type Forgery struct {
	Cluster, Node       string
	Writer, Counter, To uint64
	Seq, Echo           uint64
	Payload             []byte // of a delta of Writer's, when set
}

// Forge encodes it.
func Forge(y Forgery) []byte {
	b := appendHead(nil, &head{cluster: clusterHash(y.Cluster), node: y.Node, writer: y.Writer, counter: y.Counter,
		to: y.To, seq: y.Seq, echo: y.Echo})
	if y.Payload != nil {
		b = appendSection(b, kindDelta, appendDelta(nil, &delta{y.Writer, 1 << 40, 1<<40 + 1, y.Payload}))
	}
	return seal(b)
}

// Hold runs f while the loop waits.
func (g *Gossip) Hold(f func()) { g.net.Load().do(func(*loop) { f() }) }

// Alive is how many nodes memberlist holds alive, ourselves included.
func (g *Gossip) Alive() int { return len(g.net.Load().living()) }
