package judge

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// LookEvery is how often the nodes are to be looked at while they have not agreed after a heal.
const LookEvery = 100 * time.Millisecond

// mostWatched bounds the buckets that an agreement is about: the busiest ones.
const mostWatched = 1000

// agreement is what everybody has to know after a heal. Under load no two nodes ever show the
// same slots at one moment; so it is about what had been taken when the link was healed.
type agreement struct {
	at   time.Duration // of the heal
	want map[ID]map[string]int64
}

// disturbed gives up agreements that e makes impossible.
func (o *Observed) disturbed(e Event) {
	if e.Kind == Cut || e.Kind == Link {
		o.agrees = nil
	}
}

func (o *Observed) healed(e Event) {
	if e.Kind == Heal {
		o.agrees = append(o.agrees, agreement{at: e.At})
	}
}

// Watched is the buckets to be looked at, by Seen, to tell when the nodes agree after a heal; none
// when there is nothing to wait for.
func (o *Observed) Watched() []ID {
	if len(o.agrees) == 0 {
		return nil
	}
	if want := o.agrees[len(o.agrees)-1].want; want != nil {
		return slices.Collect(maps.Keys(want))
	}
	return o.busiest(mostWatched)
}

// Known is all buckets that were taken from; of a run without end, those still remembered.
func (o *Observed) Known() []ID {
	if o.Recent != nil {
		return o.busiest(mostWatched) // of a flood not all
	}
	return slices.Collect(maps.Keys(o.Takes))
}

func (o *Observed) busiest(most int) []ID {
	if o.Recent != nil {
		return o.Recent.busiest(most)
	}
	ids := o.Known()
	slices.SortFunc(ids, func(a, b ID) int {
		return cmp.Or(cmp.Compare(len(o.Takes[b]), len(o.Takes[a])), compareID(a, b))
	})
	return ids[:min(most, len(ids))]
}

func compareID(a, b ID) int {
	return cmp.Or(cmp.Compare(a.Limit, b.Limit), cmp.Compare(a.Key, b.Key))
}

// Seen takes in how all nodes that run show the Watched buckets at a time. The first look after
// a heal says what had been taken by then.
func (o *Observed) Seen(at time.Duration, by map[ID][]Holding) {
	most := make(map[ID]map[string]int64, len(by))
	for id, hs := range by {
		most[id] = make(map[string]int64)
		for _, h := range hs {
			for writer, n := range h.Taken {
				most[id][writer] = max(most[id][writer], n)
			}
		}
	}
	o.agrees = slices.DeleteFunc(o.agrees, func(a agreement) bool {
		reached := a.reached(by, most)
		if reached {
			o.agreed(a.at, at)
		}
		return reached
	})
	for i := range o.agrees {
		if o.agrees[i].want == nil {
			o.agrees[i].want = most
		}
	}
}

// reached tells whether every node shows what is wanted, as far as anybody still does: slots
// go when a bucket is evicted, begins anew, or its only witness crashes.
func (a *agreement) reached(by map[ID][]Holding, most map[ID]map[string]int64) bool {
	wanted := a.want
	if wanted == nil {
		wanted = most
	}
	for id, want := range wanted {
		for writer, n := range want {
			n = min(n, most[id][writer])
			for _, h := range by[id] {
				if h.Taken[writer] < n {
					return false
				}
			}
		}
	}
	return true
}

// agreed notes it in the heal's event.
func (o *Observed) agreed(heal, at time.Duration) {
	for i := len(o.Events) - 1; i >= 0; i-- {
		if e := &o.Events[i]; e.Kind == Heal && e.At == heal {
			e.Agreed = at - heal
		}
	}
}
