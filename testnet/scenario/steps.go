package scenario

import (
	"strings"

	"github.com/openclaw/edge/testnet/memnet"
)

var verbs = []string{"cut", "heal", "link", "crash", "stop", "start", "pause", "resume", "skew", "kv", "redis", "reload"}

// step reads what is done to the testnet. link is set by a step that changes links for ever
// slower ones: what they may cost is in the laws.
func (p *parser) step(l *line) (do func(*stage) error, link *memnet.Link) {
	switch verb := l.choose(verbs...); verb {
	case "cut":
		from, way, to := p.sides(l, "from", "->")
		return func(g *stage) error { return g.cut(from, to, way == "from") }, nil
	case "heal":
		from, to := p.s.Names(), p.s.Names()
		if p.placed = true; !l.accept("all") {
			from = p.place(l, nil)
		}
		if len(from) < len(to) && l.accept("from") {
			to = p.place(l, from)
		}
		return func(g *stage) error { return g.heal(from, to) }, nil
	case "link":
		return p.link(l)
	case "crash", "stop", "start", "pause", "resume":
		nodes := p.place(l, nil)
		return func(g *stage) error { return g.each(verb, nodes) }, nil
	case "skew":
		nodes, ahead := p.place(l, nil), l.offset("how far ahead its clock is")
		return func(g *stage) error {
			for _, n := range nodes {
				if err := g.world.Skew(n, ahead); err != nil {
					return err
				}
			}
			return nil
		}, nil
	case "kv", "redis":
		fault := l.choose("ok", "down", "429", "500", "slow", "hang", "empty")
		if fault == "ok" {
			fault = ""
		}
		return func(g *stage) error { return g.world.Fault(verb, fault) }, nil
	case "reload":
		return p.reload(l), nil
	}
	return nil, nil
}

// link reads what the links of one direction, or of both, are like.
func (p *parser) link(l *line) (func(*stage) error, *memnet.Link) {
	from, way, to := p.sides(l, "->", "<->")
	link := new(memnet.Link)
	for ok := true; ok && l.err == nil; ok = l.more() {
		switch l.choose("delay", "jitter", "loss", "duplicate", "reorder") {
		case "delay":
			link.Delay = l.duration("the delay one way")
		case "jitter":
			link.Jitter = l.duration("the jitter")
		case "loss":
			link.Loss = l.share("the share of packets lost")
		case "duplicate":
			link.Duplicate = l.share("the share of packets that come twice")
		case "reorder":
			link.Reorder = l.share("the share of packets that are overtaken")
		}
	}
	return func(g *stage) error {
		err := g.world.Link(from, to, *link)
		if err == nil && way == "<->" {
			err = g.world.Link(to, from, *link)
		}
		return err
	}, link
}

// reload reads the node that gets a new file, and the one limit that differs in it.
func (p *parser) reload(l *line) func(*stage) error {
	w := l.next("the node that gets the new file")
	p.placed = true
	if l.err == nil && (len(p.s.nodesOf(w.text)) != 1 || !strings.Contains(w.text, "-")) {
		l.fail(w, "no node %q; write one of %s", w.text, strings.Join(p.s.Names(), ", "))
	}
	name := l.peek()
	d := p.limit(l)
	if l.err == nil && p.definition(name) == nil {
		l.fail(l.words[0], "no limit %q to define anew; write the name of one that there is", name)
	}
	return func(g *stage) error { return g.reload(w.text, d) }
}
