package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/memnet"
)

// Weather is a random life of a cluster, drawn from a seed: its size and regions, its links,
// its load, and what befalls it.
type Weather struct {
	Seed    uint64
	Nodes   int           // at the start
	Lasts   time.Duration // of load and faults
	Calm    bool          // links are bad, but nobody is cut off, stopped or killed
	Regions []string      // by machine
	Link    memnet.Link   // between machines; within a region at a tenth of the delay
	Limits  []crdt.Definition

	random  *rand.Rand
	Log     []string // what was done, for a failure's report
	laws    judge.Laws
	cut     map[int][][2]*Machine // cuts in force, by number
	cuts    int
	since   map[int]time.Duration
	paused  map[*Machine]bool
	waiting map[*Machine]bool // to be started again
	gone    map[*Machine]bool // forgotten or left for good
	reloads int
}

// NewWeather draws everything that can be drawn before the start.
func NewWeather(seed uint64, nodes int) *Weather {
	r := rand.New(rand.NewPCG(seed, 0x5eed))
	w := &Weather{
		Seed: seed, Nodes: nodes, Lasts: 30 * time.Second, Calm: seed%5 == 0, random: r,
		cut: make(map[int][][2]*Machine), since: make(map[int]time.Duration),
		paused: make(map[*Machine]bool), waiting: make(map[*Machine]bool), gone: make(map[*Machine]bool),
	}
	regions := 1 + r.IntN(3)
	if nodes > 10 {
		regions = 5
	}
	for i := range nodes {
		w.Regions = append(w.Regions, fmt.Sprintf("r%d", i%regions))
	}
	w.Link = memnet.Link{
		Delay: time.Duration(r.IntN(80)) * time.Millisecond, Jitter: time.Duration(r.IntN(20)) * time.Millisecond,
		Loss: pick(r, 0, 0, 0.01, 0.05, 0.1, 0.3), Duplicate: pick(r, 0, 0.02, 0.1), Reorder: pick(r, 0, 0.02, 0.2),
	}
	if w.Calm {
		w.Link.Loss = min(w.Link.Loss, 0.05)
	}
	rate := pick(r, 10.0, 40, 100)
	if nodes > 10 {
		rate, w.Lasts = 10, 15*time.Second // a full mesh of thirty costs a thousand times what one node does
	}
	w.Limits = []crdt.Definition{
		w.limit("busy", pick(r, 1.0, 10, 50, 100), rate, crdt.Quorum),
		w.limit("fair", rate*pick(r, 0.5, 1, 2), rate, crdt.Quorum),
		w.limit("half", pick(r, 10.0, 50), rate, crdt.Share),
		w.limit("open", pick(r, 10.0, 50), rate, crdt.Open),
		w.limit("many", 5, 1, crdt.Quorum),
	}
	w.Limits[0].Backup = &crdt.Backup{Capacity: 5 * crdt.Token, Rate: w.Limits[4].Rate}
	return w
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func (w *Weather) limit(name string, capacity, rate float64, p crdt.Policy) crdt.Definition {
	r, err := crdt.ParseRate(fmt.Sprintf("%g", rate))
	if err != nil {
		panic(err)
	}
	return crdt.Definition{Name: name, Capacity: crdt.Milli(max(1, capacity)) * crdt.Token, Rate: r, Policy: p, MaxBuckets: 10_000}
}

// flows is the load: buckets at saturation, lawful ones, and many that are seldom used.
func (w *Weather) flows() (flows []*Flow) {
	add := func(limit string, keys int, share float64, even bool) {
		for _, d := range w.Limits {
			for k := range keys {
				if d.Name == limit {
					flows = append(flows, &Flow{ID: judge.ID{Limit: limit, Key: fmt.Sprintf("k%d", k)}, PerSecond: share * d.Rate.PerSecond(), Even: even})
				}
			}
		}
	}
	add("busy", 3, 1+2*w.random.Float64(), false)
	add("fair", 3, 0.4+0.4*w.random.Float64(), true)
	add("half", 1, 1.5, false)
	add("open", 1, 1.5, false)
	add("many", 300/w.Nodes, 0.7, false)
	flows[0].Cost = 1 + w.random.Int64N(int64(w.Limits[0].Capacity/crdt.Token))
	return flows
}

// Play starts the cluster, lets the weather pass over it, repairs everything, waits until all
// should be quiet, and judges.
func (w *Weather) Play(c *Cluster) (*judge.Verdict, error) {
	for _, r := range w.Regions {
		c.Add(r)
	}
	if err := c.Found(time.Minute); err != nil {
		return nil, err
	}
	w.links(c)
	c.Run(2*time.Second, nil)
	events := w.events(c)
	c.Run(w.Lasts, w.flows(), events...)
	w.clear(c)
	return w.settle(c), nil
}

// settle judges once everybody should have everything, or sooner if they have.
func (w *Weather) settle(c *Cluster) *judge.Verdict {
	healed := c.Now()
	const step = 2 * time.Second
	c.Run(min(w.quiet(), judge.Window+step), nil)
	for {
		c.Look()
		v := judge.Of(c.Observed, w.Laws(c))
		v.Settled = c.Now() - healed
		if len(v.Breaches) == 0 || v.Settled >= w.quiet() {
			return v
		}
		c.Run(step, nil)
	}
}

// quiet is how long after the load everybody should have everything: two rounds and the
// link's delay, or after a heal one anti-entropy period.
func (w *Weather) quiet() time.Duration {
	if w.Calm {
		return 2*w.delay() + time.Second
	}
	return 20 * time.Second
}

// delay is one round and the slowest link, and some repeats where packets are lost.
func (w *Weather) delay() time.Duration { return judge.Delay(250*time.Millisecond, w.Link) }

// links sets the delay between regions, and a tenth of it within.
func (w *Weather) links(c *Cluster) {
	c.Net.Default(w.Link)
	for _, m := range c.Machines {
		w.neighbours(c, m)
	}
}

// neighbours gives a machine its links within its region.
func (w *Weather) neighbours(c *Cluster, m *Machine) {
	near := w.Link
	near.Delay, near.Jitter = w.Link.Delay/10, w.Link.Jitter/10
	for _, o := range c.Machines {
		if o.Region == m.Region && o != m {
			c.Net.Link(o.Addr, m.Addr, near)
			c.Net.Link(m.Addr, o.Addr, near)
		}
	}
}

// events draws when something happens; what it is, is drawn when it does.
func (w *Weather) events(c *Cluster) (events []Event) {
	if w.Calm {
		return nil
	}
	start := c.Now()
	for at := time.Second; at < w.Lasts-time.Second; at += time.Duration(1+w.random.IntN(4)) * time.Second {
		events = append(events, Event{At: start + at, Do: func() { w.happen(c) }})
	}
	// What was cut heals, and who is down comes back, some time later.
	for at := time.Duration(0); at < w.Lasts; at += 500 * time.Millisecond {
		events = append(events, Event{At: start + at, Do: func() { w.mend(c) }})
	}
	return events
}

// Laws is what this weather allows.
func (w *Weather) Laws(c *Cluster) judge.Laws {
	l := w.laws
	l.Nodes, l.Delay, l.Ahead, l.Apart = len(c.Machines), w.delay(), 300*time.Millisecond, 100*time.Millisecond
	l.Whole = w.quiet() > 10*time.Second
	if w.Calm {
		l.Lawful, l.Refused = map[string]bool{"fair": true}, 0.001
	}
	return l
}
