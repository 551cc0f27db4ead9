package node

import (
	"slices"
	"sort"
	"time"

	"github.com/openclaw/edge/crdt"
)

// TopKey is one bucket as GET /v1/top shows it. Key is as stored: an API key that its limit
// hashes is a hash here, too, and "" is the bucket that keys share for which there is no memory.
type TopKey struct {
	Limit      string    `json:"limit"`
	Key        string    `json:"key"`
	Tokens     int64     `json:"tokens"` // whole, floored at 0
	Capacity   milli     `json:"capacity"`
	RefillRate perSecond `json:"refill_rate"`
	Debt       milli     `json:"debt"`
	Taken      milli     `json:"taken_per_second"` // tokens, by the whole cluster
}

// topList is the best maxTop of everything offered to it, best first. Offering allocates
// nothing, as it happens under a shard's lock.
type topList struct {
	rows   []TopKey
	better func(a, b *TopKey) bool
}

// maxTop bounds each list of GET /v1/top.
const maxTop = 100

func newTopList(better func(a, b *TopKey) bool) topList {
	return topList{make([]TopKey, 0, maxTop), better}
}

func (t *topList) offer(k *TopKey) {
	if len(t.rows) == maxTop {
		if !t.better(k, &t.rows[maxTop-1]) {
			return
		}
		t.rows = t.rows[:maxTop-1]
	}
	i := sort.Search(len(t.rows), func(i int) bool { return t.better(k, &t.rows[i]) })
	t.rows = slices.Insert(t.rows, i, *k)
}

func (t *topList) first(n int) []TopKey { return t.rows[:min(n, len(t.rows))] }

// Top is the buckets that an operator asks for: those taken from most, those that are dry, and
// those in debt, and how many there are of each.
type Top struct {
	Window              time.Duration // in which takes were counted
	Live, Dry, Indebted int           // buckets; live: not full
	hot, dry, debts     topList

	row TopKey // being ranked: here, as a variable of add would be allocated for each bucket
}

// topBefore is what a bucket's slots had taken when the window opened. The tag tells another
// bucket in the same place apart, but for one in four billion.
type topBefore struct {
	taken int64 // millitokens
	tag   uint32
}

// topWindow is how long GET /v1/top counts. Less would make a key with a few takes a second a
// matter of luck.
const topWindow = time.Second

// measureTop looks at all buckets, waits for a window, looks again and ranks. It holds 16 bytes
// a bucket meanwhile, and each lock for a stride, as a scrape does.
//
// Why not count on the hot path: a counter a bucket would be a third cache line of each, and a
// Space-Saving sketch a second lock, though the slots already say what was taken, and say it for
// the whole cluster. The price: takes that were refused leave no trace in a bucket, so a client
// that hammers a dry bucket shows with what refill lets it have. A key met within the window, or
// whose slots a new generation emptied, is ranked as hot from the next window on.
func (n *Node) measureTop(wait func()) *Top {
	before := make([][]topBefore, shards)
	for i := range n.table.shards {
		s := &n.table.shards[i]
		s.mu.Lock()
		places := s.next
		s.mu.Unlock()
		before[i] = make([]topBefore, places)
	}
	began := time.Now()
	n.table.walk(func(shard int, e *entry, place uint32) {
		if int(place) < len(before[shard]) {
			before[shard][place] = topBefore{takenFrom(e), e.tag}
		}
	})
	wait()
	t := &Top{Window: max(time.Since(began), time.Millisecond), hot: newTopList(hotter), dry: newTopList(drier), debts: newTopList(deeper)}
	force := n.force.Load()
	n.table.walk(func(shard int, e *entry, place uint32) {
		l := force.at(e)
		if l == nil || e.Epoch != l.terms.Epoch {
			return
		}
		taken := int64(0)
		if int(place) < len(before[shard]) {
			if was := before[shard][place]; was.tag == e.tag {
				taken = max(0, takenFrom(e)-was.taken)
			}
		}
		t.add(l, e.key, e.LevelAt(&l.terms, l.reading()), taken)
	})
	return t
}

// takenFrom is what was ever taken from the bucket's present state, in millitokens.
func takenFrom(e *entry) (sum int64) {
	for _, s := range e.Slots() {
		sum += s.N
	}
	return sum
}

// add ranks one bucket.
func (t *Top) add(l *Limit, key string, level crdt.Milli, taken int64) {
	k := &t.row
	*k = TopKey{
		Limit: l.Name, Key: key, Tokens: wholeTokens(level), Capacity: milli(l.Capacity), RefillRate: perSecond{l.Rate},
		Debt: milli(max(0, -level)), Taken: milli(float64(taken) / t.Window.Seconds()),
	}
	if k.Taken > 0 {
		t.hot.offer(k)
	}
	if level < l.Capacity {
		t.Live++
	}
	if level < crdt.Token {
		t.Dry++
		t.dry.offer(k)
	}
	if level < 0 {
		t.Indebted++
		t.debts.offer(k)
	}
}

func hotter(a, b *TopKey) bool { return a.Taken > b.Taken || a.Taken == b.Taken && named(a, b) }

// drier puts first what is still asked for.
func drier(a, b *TopKey) bool {
	return a.Taken > b.Taken || a.Taken == b.Taken && deeper(a, b)
}

func deeper(a, b *TopKey) bool { return a.Debt > b.Debt || a.Debt == b.Debt && named(a, b) }

func named(a, b *TopKey) bool { return a.Limit < b.Limit || a.Limit == b.Limit && a.Key < b.Key }
