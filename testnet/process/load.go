package process

import (
	"sync"
	"sync/atomic"
	"time"
)

// Load is a steady offer of takes on one key.
type Load struct {
	Nodes   []*Node
	Limit   string
	Key     string
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
}

// Begin starts the load in the background; Stop or Wait ends it.
func (l *Load) Begin() *Load {
	if l.Workers == 0 {
		l.Workers = 8
	}
	l.stop = make(chan struct{})
	l.start = time.Now()
	l.byNode = make([]atomic.Int64, len(l.Nodes))
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
		due := time.Duration(float64(next.Add(1)) / l.PerNode * float64(time.Second))
		if l.For > 0 && due > l.For {
			return
		}
		select {
		case <-l.stop:
			return
		case <-time.After(time.Until(l.start.Add(due))):
		}
		t, ok := n.Take(l.Limit, l.Key)
		switch {
		case !ok:
			l.Unserved.Add(1)
		case t.Backup:
			l.Backup.Add(1)
		case t.Allowed:
			l.Admitted.Add(1)
			l.byNode[i].Add(1)
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
