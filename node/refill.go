package node

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/gossip"
)

const (
	mostArrears = 100 * time.Millisecond // for a process that slept, see tick
	decideEvery = 20 * time.Millisecond  // how late a lease's end may be seen
	speedWindow = 500 * time.Millisecond
	speedEvery  = 20 * time.Millisecond
	ppm         = 1_000_000
	growthSlack = 10 * time.Second // of a component between two hearings, beside 1.1 × the time
)

// refill is the refill daemon's state: the refill clocks, what this node adds to them, and the
// readings that takes see. tick moves it; frames of peers only put new components here.
type refill struct {
	shown [crdt.Policies]atomic.Int64 // R as takes read it; never falls; moved by tick alone
	local atomic.Int64                // ns of this process's monotonic clock, for backups
	state atomic.Pointer[authority]

	paused atomic.Bool // the operator's: the shown readings stand still, the own components go on

	mu         sync.Mutex // guards what follows; takes never lock it
	clock      crdt.Clock
	order      []string // the clock's nodes, see names
	heard      map[string]hearing
	reports    map[string]report
	seen       map[string]sighting // members, since when this process knows them
	confirmed  map[string]bool     // members with a vote, see authorise
	met        map[string]bool     // members known to know this node
	introduced bool                // to all members, once
	last       time.Time
	rest       [crdt.Policies]int64 // of the division by a grant's den
	grants     [crdt.Policies]grant
	decided    time.Time
	view       *gossip.View    // of the last decision
	fresh      bool            // something else has changed since that it depends on
	steady     bool            // established, see authorise
	complete   bool            // all components are known that some reachable peer knows
	near       map[string]bool // members reachable at the last tick
	sets       memberSets      // that near, confirmed and met name
	members    map[string]bool // of roster
	roster     uint64          // fingerprint
	stopping   bool
	samples    []sample
	speeds     [crdt.Policies]float64
	past       arrears
}

// hearing is when a node's components last grew, whose frame told, how fast they were
// growing, and for how long since then they are taken to have gone on so.
type hearing struct {
	at     time.Time
	from   string
	speeds [crdt.Policies]uint32 // ppm of real time
	beyond time.Duration         // at most the doubt
}

// sighting is since when this process knows a member, and its newest incarnation.
type sighting struct {
	since, born time.Time
	writer      uint64
}

// memberSets is what a decision says of the members of a roster.
type memberSets struct {
	roster                uint64
	reach, confirmed, met memberset
}

type sample struct {
	at    time.Time
	shown crdt.Components
}

func (r *refill) init(k knowledge) {
	r.mu.Lock() // a node may be asked while it starts
	defer r.mu.Unlock()
	clock := k.Clock
	r.clock, r.order = clock, nil
	r.heard = make(map[string]hearing)
	r.reports = make(map[string]report)
	r.seen = make(map[string]sighting)
	r.past = arrears{stored: maps.Clone(clock), at: k.saved(), began: time.Now(), told: make(map[string]word)}
	r.met = make(map[string]bool)
	r.confirmed = make(map[string]bool)
	for _, node := range k.Confirmed {
		r.confirmed[node] = true
	}
	r.introduced = k.Introduced
	for p := range r.shown {
		r.shown[p].Store(int64(clock.Sum(crdt.Policy(p))))
	}
	r.state.Store(new(authority))
}

// reading is R of a policy as takes see it.
func (r *refill) reading(p crdt.Policy) crdt.Instant { return crdt.Instant(r.shown[p].Load()) }

func (r *refill) readings() (c crdt.Components) {
	for p := range c {
		c[p] = r.reading(crdt.Policy(p))
	}
	return c
}

// lost tells whether this node has no authority to refill limits of policy p.
func (r *refill) lost(p crdt.Policy) bool {
	a := r.state.Load()
	return p == crdt.Quorum && !a.single && !a.majority
}

// frozen tells whether R of policy p stands still here.
func (r *refill) frozen(p crdt.Policy) bool {
	return r.lost(p) || r.paused.Load()
}

// tick adds this node's part of the time since the last one, and moves the shown readings.
// A process that slept pays no arrears: others may have taken its part over. They do so after
// one and a half leases at the earliest, so a delay of up to half a lease, as a busy machine
// makes them, is still all its own. (The design says 100 ms; on two busy cores that cost 5 %.)
func (r *refill) tick(now time.Time, v *gossip.View, lease, doubt time.Duration) (changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last.IsZero() {
		r.last = now
	}
	passed := now.Sub(r.last)
	r.last = now
	if passed > lease/2 {
		r.steady, r.fresh = false, true
		r.local.Add(int64(passed - mostArrears)) // backups do not stand still
		passed = mostArrears
	}
	r.local.Add(int64(max(passed, 0)))
	if r.fresh || v != r.view || now.Sub(r.decided) >= decideEvery {
		changed = r.decide(now, v, lease)
	}
	r.add(v.Self, passed)
	r.pay(now, v)
	if !r.paused.Load() {
		r.show(now, v.Self, doubt)
	}
	r.measure(now)
	return changed
}

// decide renews the authority, and tells whether what this node adds has changed.
func (r *refill) decide(now time.Time, v *gossip.View, lease time.Duration) (changed bool) {
	r.decided, r.view, r.fresh = now, v, false
	for i := range v.Members {
		m := &v.Members[i]
		s, known := r.seen[m.Node]
		if !known {
			s.since = now
		}
		if s.writer != m.Writer {
			s.writer, s.born = m.Writer, now
			r.seen[m.Node] = s
		}
	}
	if r.members == nil || r.roster != v.Roster {
		r.members, r.roster = make(map[string]bool, len(v.Members)), v.Roster
		for i := range v.Members {
			r.members[v.Members[i].Node] = true
		}
	}
	a := authorise(evidence{
		view: v, now: now, lease: lease, reports: r.reports, since: func(node string) time.Time { return r.seen[node].since },
		established: r.steady, confirmed: r.confirmed, met: r.met, introduced: r.introduced,
	})
	r.steady = (a.shown || r.steady) && a.grants[crdt.Open].num > 0 && (a.majority || a.single)
	r.introduced = a.introduced
	if r.stopping {
		a.grants = [crdt.Policies]grant{}
	}
	changed = a.grants != r.grants
	if changed {
		r.grants, r.rest = a.grants, [crdt.Policies]int64{}
	}
	if sets := (memberSets{v.Roster, a.reach, a.confirmed, a.met}); sets != r.sets || r.near == nil {
		r.sets = sets
		r.near, r.confirmed, r.met = a.reach.names(v), a.confirmed.names(v), a.met.names(v)
	}
	r.state.Store(&a)
	return changed
}

// catchUp adds this node's part of the time since the last tick: what peers are told is as of now,
// else they would see R move in steps as coarse as the ticks. After a sleep the tick has to decide first.
func (r *refill) catchUp(self string, now time.Time) {
	passed := now.Sub(r.last)
	if passed <= 0 || now.Sub(r.decided) > mostArrears {
		return
	}
	r.last = now
	r.local.Add(int64(passed))
	r.add(self, passed)
}

// add raises this node's own components.
func (r *refill) add(self string, passed time.Duration) {
	own := r.clock[self]
	for p, g := range r.grants {
		if g.num == 0 {
			continue
		}
		r.rest[p] += int64(passed) * g.num
		own[p] += crdt.Instant(r.rest[p] / g.den)
		r.rest[p] %= g.den
	}
	r.clock.Join(self, own)
}

// show moves the readings that takes see: the sum, with each other component extrapolated
// for at most the doubt. Who is not reached any more is extrapolated no further, but what was
// stays: a node behind a cut did add it. (Taken back, it would stop R at the end of the lease for
// as long as this side needs to add as much itself: a second and more on the smaller one.) A node
// that has crashed did not, but R is behind real time then by more than that, as it adds
// nothing; when it comes back R waits for it.
func (r *refill) show(now time.Time, self string, doubt time.Duration) {
	sum := crdt.Components{}
	for node, c := range r.clock {
		h, ok := r.heard[node]
		switch {
		case !ok || node == self || !r.near[h.from] && !r.members[node]: // its part has gone to the others
			h.beyond = 0
		case r.near[h.from]:
			h.beyond = min(now.Sub(h.at), doubt)
			r.heard[node] = h
		}
		for p := range sum {
			sum[p] += c[p] + crdt.Instant(int64(h.beyond)*int64(h.speeds[p])/ppm)
		}
	}
	for p := range sum {
		if r.lost(crdt.Policy(p)) {
			continue // not by extrapolation either: what others add counts again at the heal
		}
		if int64(sum[p]) > r.shown[p].Load() {
			r.shown[p].Store(int64(sum[p]))
		}
	}
}

// measure keeps how fast R really moved in the last second.
func (r *refill) measure(now time.Time) {
	if k := len(r.samples); k > 0 && now.Sub(r.samples[k-1].at) < speedEvery {
		return
	}
	r.samples = append(r.samples, sample{now, r.readings()})
	for len(r.samples) > 2 && now.Sub(r.samples[1].at) >= speedWindow {
		r.samples = append(r.samples[:0], r.samples[1:]...)
	}
	first, last := &r.samples[0], &r.samples[len(r.samples)-1]
	if span := last.at.Sub(first.at); span > 0 {
		for p := range r.speeds {
			speed := float64(last.shown[p]-first.shown[p]) / float64(span)
			r.speeds[p] = min(1, max(0, speed))
		}
	}
}

// hear takes the clock part of a peer's frame. An error refuses the whole frame: a component
// has grown by more than time allows. Components count only from a peer that is reachable: one
// that we hear but that does not hear us (a one-way cut) does not learn what is taken here,
// so its time is not for us to spend.
func (r *refill) hear(from string, h *header, writer uint64, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range h.records {
		last, ok := r.heard[rec.node]
		if !ok {
			continue // new, or known from the disk alone: the time since is not
		}
		if s, ok := r.seen[rec.node]; ok && now.Sub(s.born) < youth {
			continue // it restores its part of the clock, and pays its arrears
		}
		since := now.Sub(last.at)
		for p, have := range r.clock[rec.node] {
			if grown := time.Duration(rec.clock[p] - have); grown > since*11/10+growthSlack {
				return fmt.Errorf("refill clock of %s grew by %v in %v", rec.node, grown, since)
			}
		}
	}
	for _, rec := range h.records {
		if rec.node == from {
			r.past.hear(from, rec.clock[crdt.Open], now)
		}
	}
	said := report{writer: writer, roster: h.roster, reach: h.reach, covers: h.covers, confirmed: h.confirmed}
	if old, ok := r.reports[from]; !ok || old != said {
		r.reports[from], r.fresh = said, true
	}
	if !r.near[from] {
		return nil
	}
	for _, rec := range h.records {
		if len(r.clock) >= maxMembers {
			if _, known := r.clock[rec.node]; !known {
				continue
			}
		}
		if r.clock.Join(rec.node, rec.clock) || rec.node == from {
			r.heard[rec.node] = hearing{at: now, from: from, speeds: rec.speeds}
		}
	}
	r.complete = r.complete || len(r.clock) >= h.known
	return nil
}

// informed tells whether this node knows the refill clock as well as anybody whom it reaches.
func (r *refill) informed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.complete || r.state.Load().reachable <= 1
}

// horizon is a reading that no honest bucket's mark lies beyond: the sum of all known
// components and an hour. Without end before the first sync, when few are known.
func (r *refill) horizon(p crdt.Policy, synced bool) crdt.Instant {
	if !synced {
		return crdt.Never
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.clock.Sum(p) + crdt.Instant(time.Hour)
}

// speedsNow is how fast each clock is shown to run, 0 to 1.
func (r *refill) speedsNow() [crdt.Policies]float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.speeds
}

// own is what this node has added to the clocks, and up to when.
func (r *refill) own(self string) (crdt.Components, time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.clock[self], r.last
}

func (r *refill) isStopping() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stopping
}

// knowledge is what a restart must not forget.
type knowledge struct {
	Clock      crdt.Clock `json:"clock"`
	Confirmed  []string   `json:"confirmed,omitempty"` // none after a goodbye: who comes back is a newcomer
	Introduced bool       `json:"introduced,omitempty"`
	SavedMS    int64      `json:"saved_ms,omitempty"` // wall clock, Unix; 0: not known
}

func (k *knowledge) saved() (at time.Time) {
	if k.SavedMS > 0 {
		at = time.UnixMilli(k.SavedMS)
	}
	return at
}

// knowledge is as of now.
func (r *refill) knowledge() knowledge {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := knowledge{Clock: maps.Clone(r.clock), SavedMS: time.Now().UnixMilli()}
	if !r.stopping {
		k.Introduced = r.introduced
		k.Confirmed = slices.Sorted(maps.Keys(r.confirmed))
	}
	return k
}

// stop ends this node's part; the shown readings go on with what peers add.
func (r *refill) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopping, r.fresh = true, true
}
