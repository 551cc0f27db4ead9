package process

import (
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Load is a steady offer of takes on one key, or on several in turn.
type Load struct {
	Nodes   []*Node
	Limit   string
	Key     string
	Keys    int           // 0: Key itself; else Key-0, Key-1, …
	PerNode float64       // takes per second at each node
	For     time.Duration // 0: until Stop is called
	Workers int           // a node; default 8

	stop     chan struct{}
	once     sync.Once
	wg       sync.WaitGroup
	start    time.Time
	Admitted atomic.Int64 // not by a backup
	Backup   atomic.Int64
	Refused  atomic.Int64
	Unserved atomic.Int64 // no answer
	byNode   []atomic.Int64
	byKey    []keyCount

	mu   sync.Mutex // guards took
	took []time.Duration
}

// keyCount is what became of the takes of one key.
type keyCount struct{ admitted, unserved atomic.Int64 }

// Begin starts the load in the background; Stop or Wait ends it.
func (l *Load) Begin() *Load {
	if l.Workers == 0 {
		l.Workers = 8
	}
	l.stop = make(chan struct{})
	l.start = time.Now()
	l.byNode = make([]atomic.Int64, len(l.Nodes))
	l.byKey = make([]keyCount, max(1, l.Keys))
	for i, n := range l.Nodes {
		var next atomic.Int64
		for range l.Workers {
			l.wg.Go(func() { l.work(i, n, &next) })
		}
	}
	return l
}

// work makes the takes of a node in turn with its fellows: the k-th is due at k/rate.
func (l *Load) work(i int, n *Node, next *atomic.Int64) {
	for {
		k := next.Add(1)
		due := time.Duration(float64(k) / l.PerNode * float64(time.Second))
		if l.For > 0 && due > l.For {
			return
		}
		select {
		case <-l.stop:
			return
		case <-time.After(time.Until(l.start.Add(due))):
		}
		which := int(k) % len(l.byKey)
		began := time.Now()
		t, ok := n.Take(l.Limit, l.KeyName(which))
		l.note(time.Since(began))
		switch {
		case !ok:
			l.Unserved.Add(1)
			l.byKey[which].unserved.Add(1)
		case t.Backup:
			l.Backup.Add(1)
		case t.Allowed:
			l.Admitted.Add(1)
			l.byNode[i].Add(1)
			l.byKey[which].admitted.Add(1)
		default:
			l.Refused.Add(1)
		}
	}
}

// Wait waits for the end of For.
func (l *Load) Wait() *Load { l.wg.Wait(); return l }

// Stop ends the load and returns how long it ran.
func (l *Load) Stop() time.Duration {
	l.once.Do(func() { close(l.stop) })
	l.wg.Wait()
	return time.Since(l.start)
}

// AdmittedBy is what node i admitted.
func (l *Load) AdmittedBy(i int) int64 { return l.byNode[i].Load() }

// KeyName is the k-th key.
func (l *Load) KeyName(k int) string {
	if l.Keys == 0 {
		return l.Key
	}
	return l.Key + "-" + strconv.Itoa(k)
}

// Taken is how much was admitted of the k-th key, and that plus what got no answer: it may have
// been admitted, too.
func (l *Load) Taken(k int) (least, most int64) {
	c := &l.byKey[k]
	least = c.admitted.Load()
	return least, least + c.unserved.Load()
}

func (l *Load) note(took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took = append(l.took, took)
}

// P99 is how long the slowest hundredth of the takes lasted at least, since the last call.
func (l *Load) P99() time.Duration {
	l.mu.Lock()
	took := l.took
	l.took = nil
	l.mu.Unlock()
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[len(took)*99/100]
}
