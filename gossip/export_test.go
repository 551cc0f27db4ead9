package gossip

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
