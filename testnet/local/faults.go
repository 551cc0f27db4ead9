package local

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/memnet"
	"github.com/openclaw/edge/testnet/sim"
	"github.com/openclaw/edge/testnet/world"
)

func (t *Testnet) note(kind judge.Kind, detail string, from []string, to ...string) {
	t.cluster.Observed.Happened(judge.Event{At: t.Now(), Kind: kind, From: from, To: to, Detail: detail})
}

// running finds a node that runs.
func (t *Testnet) running(name string) (*sim.Machine, error) {
	m, err := t.machine(name)
	if err == nil && m.Node == nil {
		err = fmt.Errorf("local: %s does not run: start it first", name)
	}
	return m, err
}

// Start starts a new incarnation on the disk that the last one left.
func (t *Testnet) Start(name string) error {
	m, err := t.machine(name)
	switch {
	case err != nil:
		return err
	case m.Node == nil && !m.Ended():
		return fmt.Errorf("local: %s is still stopping: start it a little later", name)
	}
	if err := t.cluster.Start(m); err != nil {
		return err
	}
	t.note(judge.Start, "", []string{name})
	return nil
}

// Stop stops a node as SIGTERM does, and returns at once.
func (t *Testnet) Stop(name string) error {
	m, err := t.running(name)
	if err != nil {
		return err
	}
	t.cluster.Stop(m)
	t.note(judge.Stop, "", []string{name})
	return nil
}

// Crash ends a node as kill -9 does.
func (t *Testnet) Crash(name string) error {
	m, err := t.running(name)
	if err != nil {
		return err
	}
	if t.stores != nil {
		t.stores.tear(name)
	}
	if err := t.cluster.Crash(m); err != nil {
		return err
	}
	t.note(judge.Crash, "", []string{name})
	return nil
}

// Pause stops a node's refill daemon, or lets it go on.
func (t *Testnet) Pause(name string, paused bool) error {
	m, err := t.running(name)
	if err != nil {
		return err
	}
	m.Node.SetRefillPaused(paused)
	detail := ""
	if !paused {
		detail = "off"
	}
	t.note(judge.Pause, detail, []string{name})
	return nil
}

// Skew sets a node's wall clock against the others', from its next start on.
func (t *Testnet) Skew(name string, ahead time.Duration) error {
	if _, err := t.machine(name); err != nil {
		return err
	}
	t.skew[name] = ahead
	t.note(judge.Skew, ahead.String(), []string{name})
	return nil
}

// pairs calls do for all from one group to another, but for a node and itself.
func (t *Testnet) pairs(from, to []string, do func(a, b *sim.Machine)) error {
	var as, bs []*sim.Machine
	for _, g := range []struct {
		names []string
		ms    *[]*sim.Machine
	}{{from, &as}, {to, &bs}} {
		for _, name := range g.names {
			m, err := t.machine(name)
			if err != nil {
				return err
			}
			*g.ms = append(*g.ms, m)
		}
	}
	for _, a := range as {
		for _, b := range bs {
			if a != b {
				do(a, b)
			}
		}
	}
	return nil
}

// Cut severs all links from each to each, in this direction.
func (t *Testnet) Cut(from, to []string) error {
	err := t.pairs(from, to, func(a, b *sim.Machine) {
		t.cut[[2]string{a.Name, b.Name}] = true
		t.cluster.Net.CutOneWay(a.Addr, b.Addr)
	})
	if err == nil {
		t.note(judge.Cut, "", from, to...)
	}
	return err
}

// Heal undoes all that was done to the links between two groups, in both directions.
func (t *Testnet) Heal(from, to []string) error {
	heal := func(a, b *sim.Machine) {
		delete(t.cut, [2]string{a.Name, b.Name})
		t.cluster.Net.Link(a.Addr, b.Addr, t.usual(a, b))
	}
	err := t.pairs(from, to, func(a, b *sim.Machine) { heal(a, b); heal(b, a) })
	if err == nil {
		t.note(judge.Heal, "", from, to...)
		t.cluster.Agree() // what had been taken by now
	}
	return err
}

// Link changes all links from each to each, in this direction. One that is cut stays cut.
func (t *Testnet) Link(from, to []string, link memnet.Link) error {
	err := t.pairs(from, to, func(a, b *sim.Machine) {
		t.cluster.Net.Link(a.Addr, b.Addr, link)
		if t.cut[[2]string{a.Name, b.Name}] {
			t.cluster.Net.CutOneWay(a.Addr, b.Addr)
		}
	})
	if err == nil {
		t.note(judge.Link, linkText(link), from, to...)
	}
	return err
}

func linkText(l memnet.Link) string {
	parts := []string{l.Delay.String()}
	if l.Jitter > 0 {
		parts = append(parts, "jitter "+l.Jitter.String())
	}
	for _, p := range []struct {
		name  string
		share float64
	}{{"loss", l.Loss}, {"duplicates", l.Duplicate}, {"reordered", l.Reorder}} {
		if p.share > 0 {
			parts = append(parts, fmt.Sprintf("%s %g %%", p.name, 100*p.share))
		}
	}
	if l.Cut {
		parts = append(parts, "cut")
	}
	return strings.Join(parts, ", ")
}

// Fault makes a store misbehave; "" heals it.
func (t *Testnet) Fault(store, fault string) error {
	if t.stores == nil {
		return fmt.Errorf("local: there are no shared stores here: %w", world.ErrCannot)
	}
	if err := t.stores.fault(store, fault); err != nil {
		return err
	}
	t.note(judge.Fault, fault, []string{store})
	return nil
}

// Reload gives a node a new file; the others hear of it by gossip, or read it at their next start.
func (t *Testnet) Reload(via string, limits []crdt.Definition) error {
	m, err := t.running(via)
	if err != nil {
		return err
	}
	if err := t.cluster.Reload(m, limits); err != nil {
		return err
	}
	t.note(judge.Reload, "", []string{via})
	return nil
}

// portWait is how long the ports of a crashed node may be held by what is left of it.
const portWait = 2 * time.Second

// ports are those that the node had, so that who watches it finds it again after a restart, or any
// if they are lost to somebody else.
func (t *Testnet) ports(name string) (http string, metrics int) {
	t.mu.Lock()
	was, again := t.bound[name]
	t.mu.Unlock()
	if !again || !free(was.HTTP) || !free(was.Metrics) {
		return "127.0.0.1:0", 0
	}
	_, port, err := net.SplitHostPort(was.Metrics)
	if err == nil {
		metrics, err = strconv.Atoi(port)
	}
	if err != nil {
		return "127.0.0.1:0", 0
	}
	return was.HTTP, metrics
}

// free waits until nobody listens on an address.
func free(addr string) bool {
	for end := time.Now().Add(portWait); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if l, err := net.Listen("tcp", addr); err == nil {
			l.Close()
			return true
		}
	}
	return false
}
