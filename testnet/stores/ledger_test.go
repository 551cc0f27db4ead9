package stores

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Keys are used in groups, one after the other: so there are always some that nobody has
// touched for long, and no bucket sees so many incarnations that it begins a new generation.
const (
	keyGroups   = 16
	groupKeys   = 40
	groupLasts  = 45 * time.Second
	takesEvery  = 10 * time.Millisecond // of each node
	largestCost = 50
)

var allKeys = func() (keys []string) {
	for g := range keyGroups {
		for i := range groupKeys {
			keys = append(keys, fmt.Sprintf("group-%02d-key-%02d", g, i))
		}
	}
	return keys
}()

// ledger is the load, and what came of it as its clients know.
type ledger struct {
	town   *town
	paused atomic.Bool
	done   chan struct{}
	wg     sync.WaitGroup

	mu     sync.Mutex // guards the rest
	takes  []entry    // admitted, in order
	doubt  map[string]float64
	before map[string]float64 // lost, as far as it was counted
	ends   []ended
	slow   []time.Time // until when KV did not answer
	total  float64
}

type entry struct {
	at   time.Time // of the answer
	node *citizen
	key  string
	cost float64
}

// ended is the end of a process: what it alone knew may be lost.
type ended struct {
	at     time.Time
	node   *citizen
	window time.Duration
}

func newLedger(w *town) *ledger {
	return &ledger{town: w, done: make(chan struct{}), doubt: map[string]float64{}, before: map[string]float64{}}
}

func (l *ledger) begin() {
	began := time.Now()
	for _, n := range l.town.nodes {
		l.wg.Go(func() { l.load(n, began) })
	}
}

func (l *ledger) stop() {
	close(l.done)
	l.wg.Wait()
}

// pause ends the load for a while; what is under way is waited for.
func (l *ledger) pause(on bool) {
	l.paused.Store(on)
	if on {
		time.Sleep(4 * time.Second) // the client's patience, and a round
	}
}

// load takes at a node that is ready.
func (l *ledger) load(n *citizen, began time.Time) {
	tick := time.NewTicker(takesEvery)
	defer tick.Stop()
	for {
		select {
		case <-l.done:
			return
		case <-tick.C:
		}
		url := n.url.Load()
		if url == nil || !n.ready.Load() || l.paused.Load() {
			continue
		}
		group := int(time.Since(began)/groupLasts) % keyGroups
		key, cost := allKeys[group*groupKeys+rand.IntN(groupKeys)], 1+rand.IntN(largestCost)
		allowed, ok := n.take(*url, key, cost)
		l.mu.Lock()
		switch {
		case !ok:
			l.doubt[key] += float64(cost)
		case allowed:
			l.takes = append(l.takes, entry{time.Now(), n, key, float64(cost)})
			l.total += float64(cost)
		}
		l.mu.Unlock()
	}
}

func (l *ledger) slowUntil(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slow = append(l.slow, at)
}

// swift: no store is slow any more.
func (l *ledger) swift() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slow = nil
}

// ended notes that a process is gone, and how long before that its takes may be unknown to all
// others. A window beyond a gossip round goes by the rounds of the stores, which wait for a
// KV that is slow.
func (l *ledger) ended(n *citizen, window time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for _, until := range l.slow {
		if window > lostByOne && now.Before(until.Add(lostWaiting)) {
			window = max(window, lostByAll+lostWaiting)
		}
	}
	l.ends = append(l.ends, ended{now, n, window})
}

// endedWiped is ended where the stores' own word is the promise, however slow they are.
func (l *ledger) endedWiped(n *citizen, window time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ends = append(l.ends, ended{time.Now(), n, window})
}

// compare counts what is lost since the last comparison, and says how old it was at most.
func (l *ledger) compare(t *testing.T, what string, began time.Time) {
	t.Helper()
	var lost, allowed map[string]float64
	for { // a lagging store is read again every 15 s, for two minutes
		taken := l.town.whole(t)
		lost, allowed = l.lost(taken)
		beyond := 0.0
		for key, v := range lost {
			beyond += max(0, v-allowed[key])
		}
		if beyond == 0 || time.Since(began) > time.Minute {
			break
		}
		time.Sleep(2 * time.Second)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	age := l.age(lost)
	t.Logf("%s: %.0f tokens of %.0f admitted lost, %.0f may be, the oldest admitted %v before an end; whole after %v",
		what, sum(lost), l.total, sum(allowed), age.Round(10*time.Millisecond), time.Since(began).Round(10*time.Millisecond))
	for key, v := range lost {
		switch {
		case v > allowed[key]+1:
			t.Errorf("%s: %s lost %.0f tokens, at most %.0f were within the promise", what, key, v, allowed[key])
		case v < -l.doubt[key]-l.before[key]-1: // what a lagging store hid comes back
			t.Errorf("%s: %s has %.0f tokens more taken than were answered or in doubt", what, key, -v)
		}
		l.before[key] += v
	}
	clear(l.doubt)
	l.ends, l.slow = nil, nil
}

// lost is what is missing of each key, and what may be.
func (l *ledger) lost(taken map[string]float64) (lost, allowed map[string]float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lost, allowed = map[string]float64{}, map[string]float64{}
	for _, e := range l.takes {
		lost[e.key] += e.cost
		for _, end := range l.ends {
			if end.node == e.node && e.at.Before(end.at) && end.at.Sub(e.at) < end.window {
				allowed[e.key] += e.cost
				break
			}
		}
	}
	for _, key := range allKeys {
		lost[key] -= taken[key] + l.before[key]
		if v := lost[key]; v < 1 && v > -1 {
			lost[key] = 0 // refilled meanwhile
		}
	}
	return lost, allowed
}

// age is how long before its node's end the oldest of the lost takes was admitted, at least: as
// if those nearest to an end were lost.
func (l *ledger) age(lost map[string]float64) (oldest time.Duration) {
	type take struct {
		age  time.Duration
		cost float64
	}
	near := map[string][]take{}
	for _, e := range l.takes {
		if lost[e.key] <= 0 {
			continue
		}
		for _, end := range l.ends { // in order
			if end.node == e.node && e.at.Before(end.at) {
				near[e.key] = append(near[e.key], take{end.at.Sub(e.at), e.cost})
				break
			}
		}
	}
	for key, takes := range near {
		slices.SortFunc(takes, func(a, b take) int { return cmp.Compare(a.age, b.age) })
		v := lost[key]
		for _, t := range takes {
			if v < 1 {
				break
			}
			v -= t.cost
			oldest = max(oldest, t.age)
		}
	}
	return oldest
}
