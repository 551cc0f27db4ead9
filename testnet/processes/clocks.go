package processes

import (
	"sync"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/node"
	"github.com/openclaw/edge/testnet/judge"
)

// clocks makes samples of the refill clocks from what nodes say one after the other. A node
// tells when it had added what; between its two newest tellings it is taken to have added evenly.
// So a sample is of one moment, however late an answer came.
type clocks struct {
	sampled time.Duration // when the last sample was
	told    map[string]*telling
}

// telling is the two newest readings of one node.
type telling struct{ before, now reading }

// reading is what a node had added to each refill clock at a time, and how fast they ran. What was
// added counts as the highest ever seen: what a restart has forgotten may be added again.
type reading struct {
	at time.Duration
	judge.Shown
}

// sample notes a sample.
func (w *World) sample() {
	fresh := w.read()
	w.mu.Lock()
	defer w.mu.Unlock()
	if s, ok := w.clocks.sample(fresh); ok {
		w.observed.Sampled(s)
	}
}

// read asks all nodes that run.
func (w *World) read() map[string]reading {
	var mu sync.Mutex
	var asking sync.WaitGroup
	fresh := make(map[string]reading)
	for _, m := range w.machines {
		if !m.proc.Running() {
			continue
		}
		asking.Go(func() {
			c, ok := m.cluster()
			if !ok {
				return // it starts, or stops; what it adds meanwhile is in the next telling
			}
			r := w.readingOf(&c)
			mu.Lock()
			fresh[m.Name] = r
			mu.Unlock()
		})
	}
	asking.Wait()
	return fresh
}

func (w *World) readingOf(c *node.Cluster) reading {
	r := reading{at: time.UnixMicro(int64(c.TimeMS * 1000)).Sub(w.began)}
	r.Up = true
	for p := range r.Own {
		shown := c.Policies[crdt.Policy(p).String()]
		r.Own[p], r.Speed[p] = time.Duration(shown.OwnMS*float64(time.Millisecond)), shown.Speed
	}
	return r
}

// sample takes what nodes have told, and makes a sample of the newest moment that all of them
// have reached; false if that is no later than the last one.
func (c *clocks) sample(fresh map[string]reading) (s judge.Sample, ok bool) {
	if c.told == nil {
		c.told = make(map[string]*telling)
	}
	s.At = -1
	for name, r := range fresh {
		t := c.told[name]
		if t == nil {
			t = &telling{before: r, now: r}
			c.told[name] = t
		}
		if r.at > t.now.at {
			for p := range r.Own {
				r.Own[p] = max(r.Own[p], t.now.Own[p])
			}
			t.before, t.now = t.now, r
		}
		if s.At < 0 || t.now.at < s.At {
			s.At = t.now.at
		}
	}
	if s.At <= c.sampled {
		return s, false
	}
	c.sampled = s.At
	s.By = make(map[string]judge.Shown)
	for name, t := range c.told {
		shown := t.at(s.At)
		_, shown.Up = fresh[name]
		s.By[name] = shown
		for p := range s.Own {
			s.Own[p] += shown.Own[p]
		}
	}
	return s, true
}

// at is the node at a moment, as far as it has told.
func (t *telling) at(moment time.Duration) judge.Shown {
	shown := t.now.Shown
	span := t.now.at - t.before.at
	passed := min(max(0, moment-t.before.at), span)
	for p := range shown.Own {
		shown.Own[p] = t.before.Own[p]
		if span > 0 {
			shown.Own[p] += time.Duration(float64(t.now.Own[p]-t.before.Own[p]) * float64(passed) / float64(span))
		}
	}
	return shown
}
