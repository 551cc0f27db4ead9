package gossip

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"time"
)

const (
	joinAtOnce  = 4 // joins at a time
	joinPatient = 3 * time.Second
	joinRetry   = 500 * time.Millisecond
	rejoinEvery = 2 * time.Second // jittered by half
)

// joiner brings us into the cluster, then heals memberlist's view for as long as Run runs:
// past a cut of some 45 s memberlist gives up on the other side for good.
type joiner struct {
	m     *membership
	seeds []string
	in    chan struct{} // joins under way
	met   bool          // a seed answered once
}

// run ends with ctx, or with the loop.
func (j *joiner) run(ctx context.Context) {
	if !j.claim(ctx) {
		return
	}
	for j.wait(ctx, rejoinEvery/2+rand.N(rejoinEvery)) {
		j.attempt(ctx, j.missing())
	}
}

// claim takes our place in the roster, once it is clear what the cluster is:
//
//	no seeds, no roster          found a cluster at once
//	a roster                     one attempt to join (somebody may have our name), then claim
//	seeds, no roster             join and take over the roster; after FoundAfter found one
func (j *joiner) claim(ctx context.Context) bool {
	cfg := &j.m.g.cfg
	found := time.Now().Add(cfg.FoundAfter)
	for {
		targets, known := j.missing(), 0
		if len(targets) > 0 {
			j.attempt(ctx, targets)
		}
		if !j.m.do(func(l *loop) { known = len(l.roster) }) {
			return false
		}
		now := time.Now()
		switch {
		case known > 0 || len(targets) == 0:
			return j.enter()
		case now.After(found) && (!j.deferTo() || now.After(found.Add(cfg.FoundAfter/2))):
			cfg.Logger.Warn("no seed answered with a roster: founding a new cluster", "cluster", cfg.Cluster, "tried", targets)
			return j.enter()
		}
		if !j.wait(ctx, joinRetry) {
			return false
		}
	}
}

// deferTo says that a live node with a lower name is about to found the cluster: it has the
// same seeds, and one founder is better than many.
func (j *joiner) deferTo() bool {
	for name := range j.m.living() {
		if node, _ := nodeOf(name); node < j.m.g.cfg.Node {
			return true
		}
	}
	return false
}

// enter claims our name, unless somebody alive has it.
func (j *joiner) enter() bool {
	var old entry
	if !j.m.do(func(l *loop) { old = l.roster[l.cfg.Node] }) {
		return false
	}
	err := j.m.duplicate(old)
	return j.m.do(func(l *loop) {
		if err != nil {
			l.fatal = err
			return
		}
		l.claim()
		l.publish()
	})
}

// missing is where to knock: members that memberlist does not hold alive, live nodes that
// the roster lacks, and the seeds while none of them ever answered.
func (j *joiner) missing() []string {
	alive := j.m.living()
	delete(alive, memberName(j.m.g.cfg.Node, j.m.g.cfg.Writer))
	var addrs []string
	claimed := false
	j.m.do(func(l *loop) {
		claimed = l.claimed
		for _, p := range l.peers {
			if _, ok := alive[p.address.Name]; !ok {
				addrs = append(addrs, p.Addr)
			}
			delete(alive, p.address.Name)
		}
	})
	addrs = slices.AppendSeq(addrs, maps.Values(alive))
	if !claimed || !j.met {
		addrs = append(addrs, j.seeds...)
	}
	slices.Sort(addrs)
	ours := func(a string) bool { return a == j.m.self || a == j.m.g.addr }
	return slices.DeleteFunc(slices.Compact(addrs), ours)
}

// attempt knocks at addrs, some at a time, and waits a while: a slow one may go on behind us.
func (j *joiner) attempt(ctx context.Context, addrs []string) {
	timer := time.NewTimer(joinPatient)
	defer timer.Stop()
	results := make(chan bool, len(addrs))
	begun := 0
	for _, a := range addrs {
		select {
		case j.in <- struct{}{}:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
		begun++
		j.m.spawn(func() {
			defer func() { <-j.in }()
			results <- j.join(ctx, a)
		})
	}
	for range begun {
		select {
		case ok := <-results:
			j.met = j.met || ok
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// join pushes and pulls with one address, unless it is ours.
func (j *joiner) join(ctx context.Context, addr string) bool {
	as, err := resolve(ctx, addr)
	if err != nil {
		j.m.g.cfg.Logger.Debug("cannot resolve", "addr", addr, "err", err)
		return false
	}
	ok := false
	for _, a := range as {
		if s := a.String(); s != j.m.self && s != j.m.g.addr && ctx.Err() == nil {
			n, err := j.m.ml.Join([]string{s})
			ok = ok || n > 0 && err == nil
		}
	}
	return ok
}

func (j *joiner) wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-j.m.over:
	}
	return false
}

// duplicate asks everybody who might be another node with our name whether it lives: old,
// the roster's entry of our name, and live members of that name. An old incarnation of ours
// does not answer.
func (m *membership) duplicate(old entry) error {
	cfg := &m.g.cfg
	ask := make(map[string]string)
	if old.Writer != 0 && old.Writer != cfg.Writer && old.State == Joined && old.Addr != m.self {
		ask[memberName(old.Node, old.Writer)] = old.Addr
	}
	for name, addr := range m.living() {
		if node, writer := nodeOf(name); node == cfg.Node && writer != hex16(cfg.Writer) && addr != m.self {
			ask[name] = addr
		}
	}
	for name, addr := range ask {
		a, err := net.ResolveUDPAddr("udp", addr)
		if err != nil {
			continue
		}
		for range 2 { // one ping may be lost
			if _, err := m.ml.Ping(name, a); err == nil {
				return fmt.Errorf("%w: %q is at %s", ErrDuplicate, cfg.Node, addr)
			}
		}
	}
	return nil
}

// suspect looks into e, which took our entry after we had claimed it: a live node with our
// name, or the trace of an old incarnation that our roster file did not know.
func (m *membership) suspect(e entry) {
	m.spawn(func() {
		err := m.duplicate(e)
		m.do(func(l *loop) {
			l.checking = false
			if err != nil {
				l.fatal = err
				return
			}
			l.claim()
		})
	})
}
