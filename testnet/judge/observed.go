package judge

import (
	"strings"
	"time"

	"github.com/openclaw/edge/crdt"
)

// Observed is what a run left behind: all that the judge needs to know. Toy clusters fill it, too.
type Observed struct {
	Limits   map[string]*Ideal
	Takes    map[ID][]Take   // in order of time; empty where Recent is kept
	Writers  map[string]Life // how each incarnation signs its slots
	Crashed  map[Life]time.Duration
	Samples  []Sample         // of the refill clocks' own components
	Holdings map[ID][]Holding // what each node shows when all is quiet
	Events   []Event          // what was done, in order of time
	Recent   *Recent          // the running figures of a run without end; nil: every take is kept
	Missed   uint64           // takes beyond the most that are kept: nothing is known of them

	takes  int
	agrees []agreement
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

// Sample is what all nodes together had added to each refill clock, and what each one shows.
type Sample struct {
	At  time.Duration
	Own [crdt.Policies]time.Duration
	By  map[string]Shown // machine
}

// Shown is one machine's part of a Sample.
type Shown struct {
	Own   [crdt.Policies]time.Duration
	Speed [crdt.Policies]float64 // of the refill clocks, as its metric shows them: share of the configured rate
	Up    bool                   // it runs, and was fit for traffic once in this life; else Speed is nothing
}

// Holding is a bucket as one node shows it.
type Holding struct {
	Node  string
	Level int64            // millitokens
	Taken map[string]int64 // millitokens, by writer
}

// Event is something that was done to the cluster.
type Event struct {
	At       time.Duration
	Kind     Kind
	From, To []string // nodes; To: of what is done to links
	Detail   string   // for people: which fault, which link

	// Of a Heal: how long after it everybody was first seen to know all that anybody had taken
	// before it; Never: not before the next event that undoes it, or the end.
	Agreed time.Duration
}

// Kind is what happened.
type Kind string

const (
	Start  Kind = "start"
	Stop   Kind = "stop"
	Crash  Kind = "crash"
	Pause  Kind = "pause" // of the refill daemon; Detail "off": it goes on
	Skew   Kind = "skew"
	Cut    Kind = "cut"
	Heal   Kind = "heal"
	Link   Kind = "link"
	Fault  Kind = "fault" // of a store; an empty Detail heals it
	Reload Kind = "reload"
)

// Never is the time of what did not happen.
const Never time.Duration = -1

// The most that is kept of a run that keeps every take. Beyond it nothing is, and the judge says so.
const (
	mostTakes  = 8_000_000
	mostEvents = 20_000
	mostPieces = 1000 // definitions of one limit
)

// New is an empty history of a cluster that starts with these limits.
func New(limits []crdt.Definition) *Observed {
	o := new(Observed)
	o.Limits = make(map[string]*Ideal)
	o.Takes = make(map[ID][]Take)
	o.Writers = make(map[string]Life)
	o.Crashed = make(map[Life]time.Duration)
	o.Redefine(limits, 0)
	return o
}

// Endless makes o keep running figures in Recent, in bounded memory, in the place of every take.
// The laws that need every take then have nothing to judge.
func (o *Observed) Endless() {
	o.Recent = newRecent(o.Limits)
}

// Redefine notes a new file at a time.
func (o *Observed) Redefine(limits []crdt.Definition, at time.Duration) {
	for _, d := range limits {
		capacity, rate := int64(d.Capacity/crdt.Token), d.Rate.PerSecond()
		p := piece{at, capacity, rate}
		i := o.Limits[d.Name]
		if i == nil {
			o.Limits[d.Name] = &Ideal{Capacity: capacity, Rate: rate, Policy: d.Policy, first: p}
			continue
		}
		if i.Capacity != capacity || i.Policy != d.Policy {
			i.Reset++
		}
		i.Capacity, i.Rate = max(i.Capacity, capacity), max(i.Rate, rate)
		i.later = newest(append(i.later, p), mostPieces)
	}
	o.Recent.redefine(limits, at)
}

// Note notes a take.
func (o *Observed) Note(id ID, t Take) {
	switch {
	case o.Recent != nil:
		o.Recent.note(id, t)
	case o.takes >= mostTakes:
		o.Missed++
	default:
		o.takes++
		o.Takes[id] = append(o.Takes[id], t)
	}
}

// Sampled notes a sample.
func (o *Observed) Sampled(s Sample) {
	o.Samples = append(o.Samples, s)
	if o.Recent != nil {
		o.Samples = newest(o.Samples, int(RecentFor/SampleEvery))
	}
}

// Happened notes an event. Of a run without end the newest are kept.
func (o *Observed) Happened(e Event) {
	e.Agreed = Never
	o.disturbed(e)
	if o.Recent == nil && len(o.Events) >= mostEvents {
		return
	}
	o.Events = append(o.Events, e)
	if o.Recent != nil {
		o.Events = newest(o.Events, recentEvents)
	}
	o.healed(e)
}

// newest cuts a list down when it has become twice as long as it may be.
func newest[T any](list []T, most int) []T {
	if len(list) < 2*most {
		return list
	}
	return append([]T(nil), list[len(list)-most:]...)
}

// Crash notes when a life ended without a chance to say more.
func (o *Observed) Crash(l Life, at time.Duration) {
	if o.Recent == nil {
		o.Crashed[l] = at
	}
}

// Signs notes how a life signs its slots.
func (o *Observed) Signs(writer string, l Life) {
	if o.Recent == nil {
		o.Writers[writer] = l
	}
}

// WriterOf cuts the serial off a slot's name: all slots of a writer are its own.
func WriterOf(slot string) string {
	writer, _, _ := strings.Cut(slot, ".")
	return writer
}

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
