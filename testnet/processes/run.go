package processes

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/world"
)

// What Run offers at most.
const (
	mostPerSecond = 1000 // all flows together: two processors also carry the nodes
	inFlight      = 64   // takes that wait for their answers
	tick          = 5 * time.Millisecond
)

// Run lets d pass, under load. Every take has its answer when it returns.
func (w *World) Run(d time.Duration, flows []*world.Flow) error {
	until := w.Now() + d
	if err := w.begin(flows); err != nil {
		return err
	}
	var parts sync.WaitGroup
	over := make(chan struct{})
	for i := range w.pulses {
		parts.Go(func() { w.pulses[i].beat(w, over) })
	}
	err := w.offering(until, flows)
	close(over)
	parts.Wait()
	return err
}

// pulse is something that is done at intervals of the World's time, however that is cut into Runs.
type pulse struct {
	every, next time.Duration
	do          func()
}

// beat does it when it is due, until over. What takes longer than the interval is done less often.
func (p *pulse) beat(w *World, over <-chan struct{}) {
	for {
		select {
		case <-over:
			return
		case <-time.After(max(0, p.next-w.Now())):
		}
		p.next = w.Now() + p.every
		p.do()
	}
}

func (w *World) begin(flows []*world.Flow) error {
	sum := 0.0
	for _, f := range flows {
		if _, ok := w.observed.Limits[f.Limit]; !ok {
			return fmt.Errorf("processes: a flow takes from %q: there is no such limit", f.Limit)
		}
		sum += f.PerSecond
		for _, name := range f.Nodes {
			if _, err := w.machine(name); err != nil {
				return err
			}
		}
	}
	if sum > mostPerSecond {
		return fmt.Errorf("%w: %.0f takes a second over HTTP; offer %d at most, or more to nodes in one process", world.ErrCannot, sum, mostPerSecond)
	}
	for _, f := range flows {
		if !f.Begun() {
			w.begun++
			f.Begin(w.cfg.Seed+w.begun, w.Now())
		}
	}
	return w.failure()
}

// offering makes the takes that are due until a time, and waits for their answers.
func (w *World) offering(until time.Duration, flows []*world.Flow) error {
	var waiting sync.WaitGroup
	defer waiting.Wait()
	free := make(chan struct{}, inFlight)
	for now := w.Now(); now < until; now = w.Now() {
		if err := w.pause(min(tick, until-now)); err != nil {
			return err
		}
		for _, f := range flows {
			asked := w.asked(f)
			for a := range f.Due(w.Now()) {
				if len(asked) == 0 {
					continue // nobody is there to ask; what was due then is not asked later
				}
				m := asked[a.Turn%len(asked)]
				free <- struct{}{}
				waiting.Go(func() {
					defer func() { <-free }()
					w.take(m, judge.ID{Limit: f.Limit, Key: a.Key}, a.Cost)
				})
			}
		}
	}
	return w.failure()
}

// asked is whom a flow asks now.
func (w *World) asked(f *world.Flow) (ms []*machine) {
	for _, m := range w.machines {
		if m.answers() && (len(f.Nodes) == 0 || slices.Contains(f.Nodes, m.Name)) {
			ms = append(ms, m)
		}
	}
	return ms
}

// take makes one take and records what came of it, at the time of its answer.
func (w *World) take(m *machine, id judge.ID, cost int64) {
	t, err := m.proc.TakeN(id.Limit, id.Key, cost)
	if err != nil {
		w.fail(err)
		return
	}
	counted := t.Allowed && !t.Backup
	w.mu.Lock()
	w.observed.Note(id, judge.Take{
		At: w.Now(), Life: judge.Life{Machine: m.Name, Number: m.life}, Cost: cost, Admitted: t.Allowed, Backup: t.Backup,
	})
	learn := counted && m.writer == "" && !m.learning
	m.learning = m.learning || learn
	w.mu.Unlock()
	if learn {
		w.learnWriter(m, id)
	}
}
