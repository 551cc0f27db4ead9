package sim

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/judge"
)

// Flow is a stream of takes on one bucket.
type Flow struct {
	judge.ID
	PerSecond float64    // takes offered, by all machines together
	Cost      int64      // tokens; 0: one
	Machines  []*Machine // that are asked; nil: all that are up when it comes to it
	Even      bool       // evenly spaced; else at random (Poisson)

	next time.Duration
	turn int
}

// Event is something that happens to the cluster at a time since New.
type Event struct {
	At time.Duration
	Do func()
}

// step is how finely time passes for the load; arrivals in between are offered at its end.
const step = 5 * time.Millisecond

// Run lets d pass, under load and events (those due earlier happen at once).
func (c *Cluster) Run(d time.Duration, flows []*Flow, events ...Event) {
	random := rand.New(rand.NewPCG(c.cfg.Seed, uint64(c.Now())))
	slices.SortStableFunc(events, func(a, b Event) int { return int(a.At - b.At) })
	for _, f := range flows {
		f.next = c.Now() + f.gap(random)
	}
	for end := c.Now() + d; c.Now() < end; {
		time.Sleep(step)
		now := c.Now()
		for len(events) > 0 && events[0].At <= now {
			events[0].Do()
			events = events[1:]
		}
		c.Sample()
		up := c.Up()
		for _, f := range flows {
			for f.next <= now {
				c.offer(f, up, random)
				f.next += f.gap(random)
			}
		}
	}
}

// Settle lets time pass until every machine that runs is fit, d at most.
func (c *Cluster) Settle(d time.Duration) bool {
	for end := c.Now() + d; c.Now() < end; time.Sleep(50 * time.Millisecond) {
		c.Sample()
		fit := true
		for _, m := range c.Machines {
			fit = fit && (m.Node == nil || m.Fit() && len(m.Node.Cluster().Members) == c.members())
		}
		if fit {
			return true
		}
	}
	return false
}

func (c *Cluster) members() (n int) {
	for _, m := range c.Machines {
		if m.life > 0 {
			n++
		}
	}
	return n
}

func (f *Flow) gap(random *rand.Rand) time.Duration {
	mean := float64(time.Second) / f.PerSecond
	if !f.Even {
		mean *= random.ExpFloat64()
	}
	return time.Duration(math.Ceil(mean))
}

// offer makes one take.
func (c *Cluster) offer(f *Flow, up []*Machine, random *rand.Rand) {
	ms := f.Machines
	if ms == nil {
		ms = up
	}
	if len(ms) == 0 {
		return
	}
	at := f.turn
	if f.turn++; !f.Even {
		at = random.IntN(len(ms))
	}
	c.Ask(ms, at, f.ID, max(1, f.Cost))
}

// Ask makes one take at the machine whose turn it is, or if that is not fit, the next that is.
func (c *Cluster) Ask(ms []*Machine, turn int, id judge.ID, cost int64) {
	for i := range ms {
		if m := ms[(turn+i)%len(ms)]; m.Fit() {
			c.take(m, id, cost)
			return
		}
	}
}

// take makes one take and records it.
func (c *Cluster) take(m *Machine, id judge.ID, cost int64) {
	d, err := m.Node.Take(id.Limit, id.Key, cost)
	if err != nil {
		c.fail(err)
		return
	}
	t := judge.Take{At: c.Now(), Life: judge.Life{Machine: m.Name, Number: m.life}, Cost: cost, Admitted: d.Allowed, Backup: d.Backup}
	c.Observed.Note(id, t)
	if m.writer == "" && t.Admitted && !t.Backup {
		c.learnWriter(m, id)
	}
}

// learnWriter finds out how m's incarnation signs: its slot is the one under its own name
// that no earlier life had.
func (c *Cluster) learnWriter(m *Machine, id judge.ID) {
	b, err := m.Node.Look(id.Limit, id.Key)
	if err != nil {
		return
	}
	for _, s := range b.Slots {
		w := judge.WriterOf(s.Writer)
		if _, known := c.Observed.Writers[w]; s.Node == m.Name && !known {
			m.writer = w
			c.Observed.Signs(w, judge.Life{Machine: m.Name, Number: m.life})
		}
	}
}

// Sample notes what all nodes together have added to the refill clocks, when it is time to.
func (c *Cluster) Sample() {
	now := c.Now()
	if now-c.samples < judge.SampleEvery {
		return
	}
	c.samples = now
	s := judge.Sample{At: now, By: make(map[string]judge.Shown)}
	for _, m := range c.Machines {
		c.note(m)
		s.By[m.Name] = m.shown
		for p := range s.Own {
			s.Own[p] += m.shown.Own[p]
		}
	}
	c.Observed.Sampled(s)
}

// note reads a machine's own components. They count as the highest ever seen: what a restart
// has forgotten it may add again.
func (c *Cluster) note(m *Machine) {
	m.shown.Up = m.Fit()
	if m.Node == nil {
		return
	}
	ps := m.Node.Cluster().Policies
	for p := range m.shown.Own {
		shown := ps[crdt.Policy(p).String()]
		m.shown.Own[p] = max(m.shown.Own[p], time.Duration(shown.OwnMS*float64(time.Millisecond)))
		m.shown.Speed[p] = shown.Speed
	}
}

// Look records how every machine that is up shows every bucket that was ever taken from.
func (c *Cluster) Look() { c.Observed.Holdings = c.holdings(c.Observed.Known()) }

// Agree looks whether everybody knows, after a heal, what was taken before it.
func (c *Cluster) Agree() {
	if ids := c.Observed.Watched(); len(ids) > 0 {
		c.Observed.Seen(c.Now(), c.holdings(ids))
	}
}

// holdings is how every machine that is up shows these buckets.
func (c *Cluster) holdings(ids []judge.ID) map[judge.ID][]judge.Holding {
	by := make(map[judge.ID][]judge.Holding)
	up := c.Up()
	for _, id := range ids {
		for _, m := range up {
			b, err := m.Node.Look(id.Limit, id.Key)
			if err != nil {
				c.fail(err)
				continue
			}
			h := judge.Holding{Node: m.Name, Level: int64(b.Level), Taken: make(map[string]int64)}
			for _, s := range b.Slots {
				h.Taken[judge.WriterOf(s.Writer)] += int64(s.Taken)
			}
			by[id] = append(by[id], h)
		}
	}
	return by
}
