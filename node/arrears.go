package node

import (
	"slices"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/gossip"
)

// While no node of a cluster runs, time passes that nobody adds to the refill clock. When it
// starts again each member adds its share, once: 1/n of the wall time since the newest of what
// disk and stores have kept (design.md, section 4).
//
// How does a node know that nobody ran meanwhile? By the open clock, which goes on at full
// speed wherever anybody lives: of the time since that snapshot it must lack the larger half,
// but for what others have paid before our eyes. It never lacks so much by faults alone, and
// no clock is ever ahead of the snapshot's by more than the wall time that passed: not if all
// start at once, nor one after another, nor if some never stopped. Who starts when the others
// have already paid is too late, and forgoes its part. (Why not merely "no peer answers"? In a
// cluster that starts as a whole peers always answer.)
//
// A node of several pays only once it reaches a majority: behind a cut, and over bad links just
// after the start, it does not know who ran.
//
// What is on no disk costs refill, and never grants any: no snapshot, a wall clock that went
// back, a majority that comes too late. A wall clock that went ahead would grant it: so the time
// is cut by how far it is ahead of the peers'. Alone it is worth no more than the longest time
// that any bucket is kept.
type arrears struct {
	stored crdt.Clock // joined from disk and stores
	at     time.Time  // when the newest of it was saved, by the writer's wall clock; zero: nothing was
	began  time.Time  // of this process

	from, until time.Time // when they may be paid; zero: not due
	elapsed     time.Duration
	least       time.Duration // that there are arrears for
	compared    bool          // the wall clock, with those of peers
	due         [crdt.Policies]bool
	paid        crdt.Components
	told        map[string]word // by peer: its own component, in the newest frame of its own
	others      crdt.Instant    // what they have paid since this node first heard them
	cold        bool            // nobody, as far as we know, ran while we did not
}

type word struct {
	at   time.Time
	open crdt.Instant
}

const (
	arrearsWait = 5 * time.Second  // beside live peers: until all they know of the clock is here
	arrearsFor  = 60 * time.Second // after the first sync; peers would refuse a later jump
	// youth is how long peers take any growth of a node's component from its start on: it may
	// restore for restoreLimit, sync, and then pay its arrears.
	youth = 3 * time.Minute
)

// inherit takes in a clock that was saved at a wall time.
func (r *refill) inherit(clock crdt.Clock, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for node, v := range clock {
		if _, known := r.clock[node]; !known && len(r.clock) >= maxMembers {
			continue
		}
		r.clock.Join(node, v)
		r.past.stored.Join(node, v)
	}
	if at.After(r.past.at) {
		r.past.at = at
	}
	r.fresh = true
}

// owe makes the arrears due, at most most of them, and pays what it can at once: alone, the
// readings move before anything else happens.
func (r *refill) owe(now time.Time, most time.Duration, v *gossip.View, lease, doubt time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := &r.past
	alone := len(v.Members) <= 1
	p.cold = alone
	if p.at.IsZero() {
		return
	}
	p.elapsed = min(p.began.Sub(p.at), most)
	if !alone {
		p.least = 4 * lease // a restart so quick others may live through, unheard or still covering
	}
	if p.elapsed <= p.least {
		return
	}
	p.from, p.until = now, now.Add(arrearsFor)
	if !alone {
		p.from = now.Add(arrearsWait)
	}
	p.due = [crdt.Policies]bool{true, true, true}
	r.pay(now, v)
	if !r.paused.Load() {
		r.show(now, v.Self, doubt)
	}
}

// pay adds the arrears that are due to this node's components, on each clock that it may add
// to. Caller holds mu.
func (r *refill) pay(now time.Time, v *gossip.View) {
	p := &r.past
	if p.due == [crdt.Policies]bool{} || now.Before(p.from) {
		return
	}
	if now.After(p.until) || r.stopping {
		p.due = [crdt.Policies]bool{}
		return
	}
	n := len(v.Members)
	if n > 1 && 2*r.state.Load().reachable <= n {
		return // who hears few does not know who ran
	}
	if n > 1 && !p.compared {
		p.compared = true
		p.elapsed = min(p.elapsed, p.began.Sub(p.at)-r.ahead(v))
		if p.elapsed <= p.least {
			p.due = [crdt.Policies]bool{}
			return
		}
	}
	share := crdt.Instant(p.elapsed) / crdt.Instant(max(1, n))
	open := r.room(now) + p.paid[crdt.Open]
	if open+p.others < crdt.Instant(p.elapsed)/2 {
		p.due = [crdt.Policies]bool{} // somebody ran
		return
	}
	p.cold = true
	own := r.clock[v.Self]
	for i := range p.due {
		if !p.due[i] || r.grants[i].num == 0 {
			continue
		}
		p.due[i] = false
		p.paid[i] = min(share, open) // no clock grows by more than the open one
		own[i] += p.paid[i]
	}
	r.clock.Join(v.Self, own)
}

// ahead is how far this node's wall clock is ahead of the middle one of those that it reaches, its
// own among them: of two, the one that is behind. Caller holds mu.
func (r *refill) ahead(v *gossip.View) time.Duration {
	reach := r.state.Load().reach
	ours := []time.Duration{0}
	for i := range v.Members {
		if m := &v.Members[i]; m.Node != v.Self && reach.has(i) {
			ours = append(ours, -m.Skew)
		}
	}
	slices.Sort(ours)
	return max(0, ours[len(ours)/2])
}

// hear notes a peer's own component: what grew faster than time are arrears.
func (p *arrears) hear(node string, open crdt.Instant, now time.Time) {
	last, known := p.told[node]
	if open <= last.open || !known && len(p.told) >= maxMembers {
		return
	}
	if more := open - last.open - crdt.Instant(now.Sub(last.at)); known && more > crdt.Instant(time.Second) {
		p.others += more
	}
	p.told[node] = word{now, open}
}

// room is how far the open clock is behind what it would be if time had been added all along.
// What was paid counts as grown, by others or by this node.
func (r *refill) room(now time.Time) crdt.Instant {
	grown := r.clock.Sum(crdt.Open) - r.past.stored.Sum(crdt.Open)
	return crdt.Instant(r.past.elapsed) + crdt.Instant(now.Sub(r.past.began)) - grown
}

// isCold tells whether, as far as this node knows, nobody ran while it did not.
func (r *refill) isCold() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.past.cold
}

// age is how long this process has run.
func (r *refill) age(now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return now.Sub(r.past.began)
}
