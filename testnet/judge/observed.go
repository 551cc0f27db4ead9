package judge

import (
	"time"

	"github.com/openclaw/edge/crdt"
)

// Observed is what a run left behind: all that Judge needs to know. Toy clusters fill it, too.
type Observed struct {
	Limits   map[string]*Ideal
	Takes    map[ID][]Take   // in order of time
	Writers  map[string]Life // how each incarnation signs its slots
	Crashed  map[Life]time.Duration
	Samples  []Sample         // of the refill clocks' own components
	Holdings map[ID][]Holding // what each node shows when all is quiet
}

// ID names a bucket.
type ID struct{ Limit, Key string }

// Life is one incarnation of a machine, counted from 1.
type Life struct {
	Machine string
	Number  int
}

// Take is one take as its taker saw it.
type Take struct {
	At               time.Duration
	Life             Life
	Cost             int64 // tokens
	Admitted, Backup bool
}

// Sample is what all nodes together had added to each refill clock.
type Sample struct {
	At  time.Duration
	Own [crdt.Policies]time.Duration
	By  map[string][crdt.Policies]time.Duration // machine
}

// Holding is a bucket as one node shows it.
type Holding struct {
	Node  string
	Level int64            // millitokens
	Taken map[string]int64 // millitokens, by writer
}

// New is an empty history of a cluster that starts with these limits.
func New(limits []crdt.Definition) *Observed {
	o := new(Observed)
	o.Limits = make(map[string]*Ideal)
	o.Takes = make(map[ID][]Take)
	o.Writers = make(map[string]Life)
	o.Crashed = make(map[Life]time.Duration)
	o.Redefine(limits)
	return o
}

// Redefine notes a new file. What it does to a bucket, and when, depends on who has heard of
// it; so from then on a limit is judged by the most that any of its definitions allows.
func (o *Observed) Redefine(limits []crdt.Definition) {
	for _, d := range limits {
		capacity, rate := int64(d.Capacity/crdt.Token), d.Rate.PerSecond()
		i := o.Limits[d.Name]
		if i == nil {
			o.Limits[d.Name] = &Ideal{Capacity: capacity, Rate: rate, Policy: d.Policy}
			continue
		}
		if i.Capacity != capacity || i.Policy != d.Policy {
			i.Reset++
		}
		i.Capacity, i.Rate = max(i.Capacity, capacity), max(i.Rate, rate)
	}
}

// Crash notes when a life ended without a chance to say more.
func (o *Observed) Crash(l Life, at time.Duration) { o.Crashed[l] = at }

// Admitted is the tokens admitted from a bucket, backups aside, and how many were offered.
func (o *Observed) Admitted(id ID) (admitted, offered int64) {
	for _, t := range o.Takes[id] {
		offered += t.Cost
		if t.Admitted && !t.Backup {
			admitted += t.Cost
		}
	}
	return admitted, offered
}
