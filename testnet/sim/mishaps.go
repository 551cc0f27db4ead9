package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/judge"
)

func (w *Weather) note(c *Cluster, format string, args ...any) {
	w.Log = append(w.Log, fmt.Sprintf("%8v  ", c.Now().Round(time.Millisecond))+fmt.Sprintf(format, args...))
}

// happen lets one thing happen.
func (w *Weather) happen(c *Cluster) {
	m := c.Machines[w.random.IntN(len(c.Machines))]
	switch w.random.IntN(12) {
	case 0, 1, 2:
		w.sever(c, m, false)
	case 3, 4:
		w.sever(c, m, true)
	case 5, 6:
		if m.Fit() && len(c.Up()) > 2 {
			w.note(c, "crash %s", m.Name)
			if w.isCut(m) {
				w.excuse(m)
			}
			if err := c.Crash(m); err != nil {
				c.fail(err)
			}
			w.waiting[m] = true
		}
	case 7:
		if m.Fit() && len(c.Up()) > 2 {
			w.note(c, "stop %s", m.Name)
			if w.isCut(m) || w.Link.Loss > 0.2 {
				w.excuse(m)
				c.Observed.Crash(judge.Life{Machine: m.Name, Number: m.life}, c.Now()) // it may not get rid of its last changes
			}
			c.Stop(m)
			w.waiting[m] = true
		}
	case 8:
		w.join(c)
	case 9:
		w.forget(c, m)
	case 10:
		w.reload(c, m)
	case 11:
		if m.Fit() {
			w.paused[m] = !w.paused[m]
			w.note(c, "refill of %s paused: %v", m.Name, w.paused[m])
			m.Node.SetRefillPaused(w.paused[m])
		}
	}
}

// sever cuts a machine, a group or a pair off the others.
func (w *Weather) sever(c *Cluster, m *Machine, oneWay bool) {
	side := []*Machine{m}
	var other []*Machine
	for _, o := range c.Machines {
		if o != m && w.random.IntN(4) == 0 {
			side = append(side, o)
		}
	}
	for _, o := range c.Machines {
		if !slices.Contains(side, o) {
			other = append(other, o)
		}
	}
	if w.random.IntN(3) == 0 && len(other) > 0 { // a pair only
		side, other = side[:1], other[:1]
	}
	var pairs [][2]*Machine
	for _, a := range side {
		for _, b := range other {
			pairs = append(pairs, [2]*Machine{a, b})
		}
	}
	if len(pairs) == 0 {
		return
	}
	if oneWay {
		c.CutOneWay(side, other)
	} else {
		c.Cut(side, other)
	}
	w.cuts++
	w.cut[w.cuts], w.since[w.cuts] = pairs, c.Now()
	w.note(c, "cut %s from %s, one way: %v", names(side), names(other), oneWay)
}

func names(ms []*Machine) (s []string) {
	for _, m := range ms {
		s = append(s, m.Name)
	}
	return s
}

func (w *Weather) isCut(m *Machine) bool {
	for _, pairs := range w.cut {
		for _, p := range pairs {
			if p[0] == m || p[1] == m {
				return true
			}
		}
	}
	return false
}

// excuse notes that what m took since its oldest cut may be lost with it.
func (w *Weather) excuse(m *Machine) {
	if w.laws.Missed == nil {
		w.laws.Missed = make(map[judge.Life]time.Duration)
	}
	w.laws.Missed[judge.Life{Machine: m.Name, Number: m.life}] = 0
}

// mend heals some cuts and starts some of those that are down.
func (w *Weather) mend(c *Cluster) {
	for n := range w.cuts + 1 {
		if w.cut[n] != nil && w.random.IntN(16) == 0 {
			w.heal(c, n)
		}
	}
	for _, m := range c.Machines {
		if w.waiting[m] && !w.gone[m] && m.Ended() && w.random.IntN(8) == 0 {
			w.restart(c, m)
		}
	}
}

// heal ends a cut. A pair that another cut severs too is healed with it: simpler, and no law
// is the weaker for it.
func (w *Weather) heal(c *Cluster, n int) {
	for _, p := range w.cut[n] {
		c.Net.Heal(p[0].Addr, p[1].Addr)
	}
	w.laws.Cuts++
	w.laws.Frozen += c.Now() - w.since[n]
	delete(w.cut, n)
	w.note(c, "heal cut %d", n)
}

func (w *Weather) restart(c *Cluster, m *Machine) {
	w.note(c, "start %s", m.Name)
	if len(w.cut) > 0 {
		w.laws.Blind++
	}
	if err := c.Start(m); err != nil {
		c.fail(err)
	}
	delete(w.waiting, m)
	delete(w.paused, m)
}

// join adds a machine, two at most.
func (w *Weather) join(c *Cluster) {
	if len(c.Machines) >= w.Nodes+2 {
		return
	}
	m := c.Add(w.Regions[w.random.IntN(w.Nodes)])
	w.note(c, "a newcomer: %s in %s", m.Name, m.Region)
	w.neighbours(c, m)
	w.restart(c, m)
}

// forget gives up on a machine that is down.
func (w *Weather) forget(c *Cluster, m *Machine) {
	up := c.Up()
	if !w.waiting[m] || w.gone[m] || len(up) < 3 || len(w.gone) > 0 {
		return
	}
	err := up[0].Node.Forget(m.Name, false)
	w.note(c, "%s forgets %s: %v", up[0].Name, m.Name, err)
	w.gone[m] = err == nil
}

// reload changes a rate, or now and then a capacity.
func (w *Weather) reload(c *Cluster, m *Machine) {
	if !m.Fit() || w.reloads >= 2 {
		return
	}
	w.reloads++
	limits := slices.Clone(c.limits)
	d := &limits[0]
	if w.random.IntN(2) == 0 {
		d = &limits[2]
		d.Capacity += 5 * crdt.Token
	} else {
		d.Rate, _ = crdt.ParseRate(fmt.Sprintf("%g", d.Rate.PerSecond()*pick(w.random, 0.5, 2)))
	}
	w.note(c, "reload via %s: %s is now %d, %v/s", m.Name, d.Name, d.Capacity/crdt.Token, d.Rate)
	if err := c.Reload(m, limits); err != nil {
		c.fail(err)
	}
}

// clear ends all faults and starts everybody who is not gone for good.
func (w *Weather) clear(c *Cluster) {
	for n := range w.cuts + 1 {
		if w.cut[n] != nil {
			w.heal(c, n)
		}
	}
	c.Net.HealAll()
	for _, m := range c.Machines {
		if w.paused[m] && m.Node != nil {
			m.Node.SetRefillPaused(false)
		}
	}
	for range 100 {
		for _, m := range c.Machines {
			if w.waiting[m] && !w.gone[m] && m.Ended() {
				w.restart(c, m)
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
}
