package scenario

import (
	"fmt"
	"strings"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/node"
	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/memnet"
	"github.com/openclaw/edge/testnet/world"
)

// fake is a testnet without nodes: one bucket a key, which everybody is limited by, and rules of
// thumb for what nodes show. Its time is a number.
type fake struct {
	s        *Scenario
	now      time.Duration
	limits   []crdt.Definition
	observed *judge.Observed
	levels   map[judge.ID]float64
	cut      map[[2]string]time.Duration
	healed   time.Duration
	down     map[string]bool
	paused   map[string]bool
	kv       string
	skew     map[string]time.Duration
	over     float64 // how much more than it may it admits
	deaf     bool    // nobody learns of a cut
	refuse   error   // what Crash answers
	done     []string
}

func newFake(s *Scenario) *fake {
	return &fake{s: s, limits: s.Limits, observed: judge.New(s.Limits), levels: make(map[judge.ID]float64), over: 1,
		cut: make(map[[2]string]time.Duration), down: make(map[string]bool), paused: make(map[string]bool), skew: make(map[string]time.Duration)}
}

func (f *fake) Machines() (ms []world.Machine) {
	for _, r := range f.s.Regions {
		for _, n := range f.s.nodesOf(r) {
			ms = append(ms, world.Machine{Name: n, Region: r})
		}
	}
	return ms
}
func (f *fake) Limits() []crdt.Definition { return f.limits }
func (f *fake) Now() time.Duration        { return f.now }
func (f *fake) Observed() *judge.Observed { return f.observed }
func (f *fake) Close() error              { return nil }

// Run offers evenly, a take a cost of one, and advances its clock.
func (f *fake) Run(d time.Duration, flows []*world.Flow) error {
	const step = 10 * time.Millisecond
	for end := f.now + d; f.now < end; f.now += min(step, end-f.now) {
		if f.now%(10*step) == 0 && len(f.observed.Watched()) > 0 {
			f.observed.Seen(f.now, f.shown())
		}
		for _, flow := range flows {
			for range int(flow.PerSecond * step.Seconds()) {
				f.take(judge.ID{Limit: flow.Limit, Key: flow.Keys.Name})
			}
		}
	}
	return nil
}

func (f *fake) take(id judge.ID) {
	ideal := f.observed.Limits[id.Limit]
	level, known := f.levels[id]
	if !known {
		level = float64(ideal.Capacity)
	}
	takes := f.observed.Takes[id]
	if n := len(takes); n > 0 {
		level = min(float64(ideal.Capacity), level+f.over*ideal.Rate*(f.now-takes[n-1].At).Seconds())
	}
	t := judge.Take{At: f.now, Life: judge.Life{Machine: "eu-1", Number: 1}, Cost: 1, Admitted: level >= 1}
	if t.Admitted {
		level--
	}
	f.levels[id] = level
	f.observed.Note(id, t)
	f.observed.Writers["w"] = t.Life
}

func (f *fake) did(format string, args ...any) error {
	f.done = append(f.done, fmt.Sprintf(format, args...))
	return nil
}

func (f *fake) Start(n string) error { delete(f.down, n); return f.did("start %s", n) }
func (f *fake) Stop(n string) error  { f.down[n] = true; return f.did("stop %s", n) }
func (f *fake) Crash(n string) error {
	f.down[n] = true
	f.did("crash %s", n)
	return f.refuse
}
func (f *fake) Pause(n string, on bool) error { f.paused[n] = on; return f.did("pause %s %v", n, on) }
func (f *fake) Skew(n string, d time.Duration) error {
	f.skew[n] = d
	return f.did("skew %s %v", n, d)
}
func (f *fake) Cut(from, to []string) error {
	f.pairs(from, to, func(p [2]string) { f.cut[p] = f.now })
	f.observed.Happened(judge.Event{At: f.now, Kind: judge.Cut, From: from, To: to})
	return f.did("cut %v %v", from, to)
}
func (f *fake) Heal(from, to []string) error {
	f.healed = f.now
	f.observed.Happened(judge.Event{At: f.now, Kind: judge.Heal, From: from, To: to})
	f.pairs(from, to, func(p [2]string) { delete(f.cut, p); delete(f.cut, [2]string{p[1], p[0]}) })
	return f.did("heal %v %v", from, to)
}
func (f *fake) Link(from, to []string, l memnet.Link) error {
	return f.did("link %v %v %v %g", from, to, l.Delay, l.Loss)
}
func (f *fake) Fault(store, fault string) error {
	if store == "kv" {
		f.kv = fault
	}
	return f.did("fault %s %q", store, fault)
}
func (f *fake) Reload(via string, limits []crdt.Definition) error {
	f.limits = limits
	return f.did("reload %s %s %s", via, limits[0].Name, limits[0].Rate)
}

func (f *fake) pairs(from, to []string, do func([2]string)) {
	for _, a := range from {
		for _, b := range to {
			if a != b {
				do([2]string{a, b})
			}
		}
	}
}

// hears tells whether a has heard b within the lease.
func (f *fake) hears(a, b string) bool {
	const lease = 3 * time.Second
	for _, p := range [][2]string{{a, b}, {b, a}} {
		if since, cut := f.cut[p]; cut && !f.deaf && f.now-since >= lease {
			return false
		}
	}
	return !f.down[b]
}

func (f *fake) State(n string) world.State {
	if f.down[n] {
		return world.State{}
	}
	s := world.State{Up: true, Ready: true, Limits: make(map[string]world.Limit)}
	all := f.s.Names()
	for _, o := range all {
		m := node.Member{Node: o, State: "alive", ClockSkewMS: float64((f.skew[o] - f.skew[n]).Milliseconds())}
		if o == n || f.hears(n, o) {
			s.Cluster.ReachableMembers++
		} else {
			m.State = "unreachable"
		}
		s.Cluster.Members = append(s.Cluster.Members, m)
	}
	s.Cluster.ExpectedMembers = len(all)
	s.Cluster.Store.FallbackActive = f.kv != ""
	speed := 1.0
	if s.Ready = 2*s.Cluster.ReachableMembers > len(all); !s.Ready {
		s.Reason = "no refill authority"
	}
	if !s.Ready || f.paused[n] {
		speed = 0
	}
	for _, d := range f.limits {
		s.Limits[d.Name] = world.Limit{Configured: d.Rate.PerSecond(), Refill: speed * d.Rate.PerSecond()}
	}
	return s
}

func (f *fake) Look() { f.observed.Holdings = f.shown() }

// shown is how nodes show the buckets: eu learns of everything a second after the last heal only.
func (f *fake) shown() map[judge.ID][]judge.Holding {
	all := make(map[judge.ID][]judge.Holding)
	for id := range f.observed.Takes {
		admitted, _ := f.observed.Admitted(id)
		for _, n := range f.s.Names() {
			if f.down[n] {
				continue
			}
			h := judge.Holding{Node: n, Taken: map[string]int64{}}
			if f.now-f.healed > time.Second || !strings.HasPrefix(n, "eu") {
				h.Taken["w"] = 1000 * admitted
			}
			all[id] = append(all[id], h)
		}
	}
	return all
}
