package page

import (
	"errors"
	"maps"
	"sync/atomic"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/node"
	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/memnet"
	"github.com/openclaw/edge/testnet/world"
)

// toy is a World without nodes: it knows who hears whom, a lease late, and what follows from it.
// It goes ten times as fast as the clock on the wall.
type toy struct {
	now      time.Duration
	machines []world.Machine
	observed *judge.Observed
	cut      map[pair]bool // by node
	links    map[pair]memnet.Link
	lost     map[pair]time.Duration // when a pair of nodes was first cut, either way
	down     map[string]bool
	paused   map[string]bool
	stopping map[string]time.Duration // until when a stopped node winds up
	faults   map[string]string
	cannot   bool // refuses all that is done to links and stores
	runs     atomic.Int64
	flowing  []*world.Flow // of the last Run
	failing  error         // of the next Runs
}

const toyLease = 3 * time.Second

func newToy() *toy {
	t := &toy{cut: map[pair]bool{}, links: map[pair]memnet.Link{}, lost: map[pair]time.Duration{}, down: map[string]bool{},
		paused: map[string]bool{}, stopping: map[string]time.Duration{}, faults: map[string]string{}}
	for _, region := range []string{"eu", "us", "ap"} {
		for _, n := range []string{"-1", "-2"} {
			t.machines = append(t.machines, world.Machine{Name: region + n, Region: region, HTTP: "127.0.0.1:1", Metrics: "127.0.0.1:2"})
		}
	}
	t.observed = judge.New(t.Limits())
	return t
}

func toyLink(from, to string) memnet.Link {
	return memnet.Link{Delay: 40 * time.Millisecond, Jitter: 4 * time.Millisecond}
}

func (t *toy) Machines() []world.Machine { return t.machines }
func (t *toy) Now() time.Duration        { return t.now }
func (t *toy) Observed() *judge.Observed { return t.observed }
func (t *toy) Close() error              { return nil }

func (t *toy) Limits() []crdt.Definition {
	rate, _ := crdt.ParseRate("20") // a constant
	limit := func(name string, p crdt.Policy) crdt.Definition {
		return crdt.Definition{Name: name, Capacity: 100 * crdt.Token, Rate: rate, Policy: p}
	}
	list := []crdt.Definition{limit("q", crdt.Quorum), limit("s", crdt.Share), limit("o", crdt.Open)}
	list[0].Backup = &crdt.Backup{Capacity: crdt.Token, Rate: rate}
	return list
}

func (t *toy) Run(d time.Duration, flows []*world.Flow) error {
	t.runs.Add(1)
	t.flowing = flows
	if t.failing != nil {
		return t.failing
	}
	time.Sleep(d / 10)
	for _, f := range flows {
		if !f.Begun() {
			f.Begin(1, t.now)
		}
		for a := range f.Due(t.now) {
			t.observed.Note(judge.ID{Limit: f.Limit, Key: a.Key}, judge.Take{At: a.At, Cost: a.Cost, Admitted: a.Turn%2 == 0})
		}
	}
	t.now += d
	return nil
}

func (t *toy) Start(node string) error {
	if t.now < t.stopping[node] {
		return errors.New("still stopping")
	}
	delete(t.down, node)
	return nil
}

func (t *toy) Stop(node string) error {
	t.stopping[node] = t.now + time.Second
	t.down[node] = true
	return nil
}

func (t *toy) Crash(node string) error {
	t.down[node] = true
	return nil
}

func (t *toy) Pause(node string, paused bool) error {
	t.paused[node] = paused
	return nil
}

func (t *toy) Skew(string, time.Duration) error       { return world.ErrCannot }
func (t *toy) Reload(string, []crdt.Definition) error { return world.ErrCannot }
func (t *toy) event(kind judge.Kind, from, to []string) {
	t.observed.Happened(judge.Event{At: t.now, Kind: kind, From: from, To: to})
}

func (t *toy) Cut(from, to []string) error {
	if t.cannot {
		return world.ErrCannot
	}
	for _, a := range from {
		for _, b := range to {
			t.cut[pair{a, b}] = true
			if _, known := t.lost[unordered(a, b)]; !known {
				t.lost[unordered(a, b)] = t.now
			}
		}
	}
	t.event(judge.Cut, from, to)
	return nil
}

func unordered(a, b string) pair { return pair{min(a, b), max(a, b)} }

func (t *toy) Heal(from, to []string) error {
	if t.cannot {
		return world.ErrCannot
	}
	for _, a := range from {
		for _, b := range to {
			for _, way := range []pair{{a, b}, {b, a}} {
				delete(t.cut, way)
				delete(t.links, way)
			}
			delete(t.lost, unordered(a, b))
		}
	}
	t.event(judge.Heal, from, to)
	t.Look()
	return nil
}

func (t *toy) Link(from, to []string, link memnet.Link) error {
	if t.cannot {
		return world.ErrCannot
	}
	for _, a := range from {
		for _, b := range to {
			t.links[pair{a, b}] = link
			delete(t.cut, pair{a, b}) // the harsher of the two ways a World may have it
		}
	}
	return nil
}

func (t *toy) Fault(store, fault string) error {
	if t.cannot || fault == "mad" {
		return world.ErrCannot
	}
	t.faults[store] = fault
	return nil
}

func (t *toy) reaches(a, b string) bool {
	since, cut := t.lost[unordered(a, b)]
	return !t.down[b] && (!cut || t.now-since < toyLease)
}

func (t *toy) State(name string) world.State {
	if t.down[name] {
		return world.State{}
	}
	c := node.Cluster{Node: name, ExpectedMembers: len(t.machines), LeaseMS: toyLease.Milliseconds(), RefillPaused: t.paused[name]}
	for _, m := range t.machines {
		state := "unreachable"
		if m.Name == name || t.reaches(name, m.Name) {
			state = "alive"
			c.ReachableMembers++
		}
		c.Members = append(c.Members, node.Member{Node: m.Name, Region: m.Region, State: state, LagMS: 10})
	}
	s := world.State{Up: true, Cluster: c, Limits: map[string]world.Limit{}, Takes: map[string]world.Counts{}}
	s.Cluster.Store.FallbackActive = t.faults["kv"] != ""
	s.Cluster.Policies = map[string]node.PolicyState{}
	for _, d := range t.Limits() {
		speed := 1.0
		switch {
		case t.paused[name] || d.Policy == crdt.Quorum && 2*c.ReachableMembers <= len(t.machines):
			speed = 0
		case d.Policy == crdt.Share:
			speed = float64(c.ReachableMembers) / float64(len(t.machines))
		}
		s.Cluster.Policies[d.Policy.String()] = node.PolicyState{Speed: speed}
		s.Limits[d.Name] = world.Limit{Configured: 20, Refill: 20 * speed}
		s.Takes[d.Name] = world.Counts{}
	}
	s.Ready = 2*c.ReachableMembers > len(t.machines)
	if !s.Ready {
		s.Reason = "no refill authority: few are reachable"
	}
	return s
}

// Look shows the same slots everywhere, so that nodes agree at once.
func (t *toy) Look() {
	t.observed.Holdings = map[judge.ID][]judge.Holding{}
	for _, id := range t.observed.Known() {
		for _, m := range t.machines {
			if !t.down[m.Name] {
				t.observed.Holdings[id] = append(t.observed.Holdings[id], judge.Holding{Node: m.Name, Level: 5500, Taken: map[string]int64{"w": 1}})
			}
		}
	}
	t.observed.Seen(t.now, t.observed.Holdings)
}

// cuts is which directions between regions are cut for all of their nodes.
func (t *toy) cuts() map[pair]bool {
	found := map[pair]bool{}
	for way := range maps.Keys(t.cut) {
		found[pair{way.from[:2], way.to[:2]}] = true
	}
	return found
}
