package processes

import (
	"fmt"
	"net/url"
	"slices"
	"sync"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/judge"
)

// How much is looked at: of the buckets those taken from most often.
const (
	mostLooked  = 2000 // by Look
	mostWatched = 20   // ten times a second after a heal
	lookers     = 8
)

// bucket is the body of GET /v1/buckets; amounts are in tokens, all but Tokens exact.
type bucket struct {
	Tokens float64 `json:"tokens"`
	Debt   float64 `json:"debt"`
	Slots  []struct {
		Node   string  `json:"node"`
		Writer string  `json:"writer"`
		Taken  float64 `json:"taken"`
	} `json:"slots"`
}

func milli(tokens float64) int64 { return int64(tokens*float64(crdt.Token) + 0.5) }

func (m *machine) bucket(id judge.ID) (b bucket, ok bool) {
	ok = m.proc.Get("/v1/buckets/"+url.PathEscape(id.Limit)+"/"+url.PathEscape(id.Key), &b)
	return b, ok
}

// learnWriter finds out how this life signs: its slot is the one under its own name that no
// earlier life had.
func (w *World) learnWriter(m *machine, id judge.ID) {
	b, ok := m.bucket(id)
	if !ok {
		w.fail(fmt.Errorf("processes: %s admitted a take of %s %s, and does not show the bucket", m.Name, id.Limit, id.Key))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	m.learning = false
	for _, s := range b.Slots {
		writer := judge.WriterOf(s.Writer)
		if _, known := w.observed.Writers[writer]; s.Node == m.Name && !known {
			m.writer = writer
			w.observed.Signs(writer, judge.Life{Machine: m.Name, Number: m.life})
		}
	}
}

// Look notes how every node that is up shows the buckets taken from, 2,000 at most.
func (w *World) Look() {
	ids := w.observed.Known()
	slices.SortFunc(ids, func(a, b judge.ID) int { return len(w.observed.Takes[b]) - len(w.observed.Takes[a]) })
	w.observed.Holdings = w.holdings(ids[:min(len(ids), mostLooked)])
}

// agree looks whether everybody knows, after a heal, what was taken before it: of a few buckets, the
// busiest, as it is done ten times a second.
func (w *World) agree() {
	w.mu.Lock()
	ids := w.observed.Watched()
	w.mu.Unlock()
	if len(ids) == 0 {
		return
	}
	seen := w.holdings(ids[:min(len(ids), mostWatched)])
	w.mu.Lock()
	defer w.mu.Unlock()
	w.observed.Seen(w.Now(), seen)
}

// holdings is how every node that is up shows these buckets.
func (w *World) holdings(of []judge.ID) map[judge.ID][]judge.Holding {
	by := make(map[judge.ID][]judge.Holding)
	var mu sync.Mutex // guards by
	var looking sync.WaitGroup
	ids := make(chan judge.ID)
	for range min(lookers, len(of)) {
		looking.Go(func() {
			for id := range ids {
				hs := w.look(id)
				mu.Lock()
				by[id] = hs
				mu.Unlock()
			}
		})
	}
	for _, id := range of {
		ids <- id
	}
	close(ids)
	looking.Wait()
	return by
}

// look asks all nodes for a bucket, at once: their clocks run on.
func (w *World) look(id judge.ID) (hs []judge.Holding) {
	all := make([]*bucket, len(w.machines))
	var asking sync.WaitGroup
	for i, m := range w.machines {
		if !m.answers() {
			continue
		}
		asking.Go(func() {
			b, ok := m.bucket(id)
			if !ok {
				w.fail(fmt.Errorf("processes: %s does not show the bucket %s %s", m.Name, id.Limit, id.Key))
				return
			}
			all[i] = &b
		})
	}
	asking.Wait()
	for i, b := range all {
		if b == nil {
			continue
		}
		h := judge.Holding{Node: w.machines[i].Name, Level: milli(b.Tokens - b.Debt), Taken: make(map[string]int64)}
		for _, s := range b.Slots {
			h.Taken[judge.WriterOf(s.Writer)] += milli(s.Taken)
		}
		hs = append(hs, h)
	}
	level(hs)
	return hs
}

// level makes levels equal that the nodes show as one token apart at most: tokens are shown
// whole, so the levels behind them may be a millitoken apart.
func level(hs []judge.Holding) {
	lowest := func(h, o judge.Holding) int { return int(h.Level - o.Level) }
	if len(hs) == 0 || slices.MaxFunc(hs, lowest).Level-slices.MinFunc(hs, lowest).Level > int64(crdt.Token) {
		return
	}
	least := slices.MinFunc(hs, lowest).Level
	for i := range hs {
		hs[i].Level = least
	}
}
