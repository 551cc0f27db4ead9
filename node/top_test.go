package node

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openclaw/edge/crdt"
)

// The lists are what sorting everything would make: hot by what was taken meanwhile, not by what
// was ever taken.
func TestTopRanksWhatWasTakenMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := quietNode(t, 1000, "10", 10_000)
		random := rand.New(rand.NewSource(1))
		keys := benchKeys(500)
		before, meanwhile := map[string]int64{}, map[string]int64{}
		take := func(key string, cost int64, into map[string]int64) {
			if cost == 0 {
				return
			}
			if d, err := n.Take("bench", key, cost); err != nil || !d.Allowed {
				t.Fatal(d, err)
			}
			into[key] += cost
		}
		for _, k := range keys {
			take(k, int64(1+random.Intn(500)), before)
		}
		top := n.measureTop(func() {
			time.Sleep(2 * time.Second)
			for _, k := range keys {
				take(k, int64(random.Intn(501)), meanwhile)
			}
		})
		byRate := slices.SortedFunc(slices.Values(keys), func(a, b string) int {
			return cmp.Or(cmp.Compare(meanwhile[b], meanwhile[a]), cmp.Compare(a, b))
		})
		if len(top.hot.rows) != maxTop {
			t.Fatalf("%d hot keys", len(top.hot.rows))
		}
		for i, k := range top.hot.rows {
			if want := byRate[i]; k.Key != want || k.Taken != milli(meanwhile[want]*1000/2) || k.Tokens != 1000-before[want]-meanwhile[want] {
				t.Errorf("place %d: %+v, want %s with %d taken in two seconds", i, k, want, meanwhile[want])
			}
		}
		dry := 0
		for _, k := range keys {
			if before[k]+meanwhile[k] == 1000 {
				dry++
			}
		}
		if top.Live != len(keys) || top.Dry != dry || top.Indebted != 0 {
			t.Errorf("live %d, dry %d of %d, in debt %d", top.Live, top.Dry, dry, top.Indebted)
		}
	})
}

// What peers took counts, too: it arrives in their slots. A debt is ranked by its size, and a dry
// key that is still asked for comes before one that is not.
func TestTopSeesTheWholeCluster(t *testing.T) {
	here, there := quietNode(t, 100, "10", 1000), quietNode(t, 100, "10", 1000)
	here.settled.Store(true)
	there.settled.Store(true)
	spend := func(n *Node, key string, cost int64) {
		if d, err := n.Take("bench", key, cost); err != nil || !d.Allowed {
			t.Fatal(d, err)
		}
	}
	spend(here, "dry", 100)
	spend(here, "deep", 90)
	spend(here, "shallow", 60)
	spend(here, "old", 90)
	spend(there, "old", 95)
	deliver(t, here, there, "old")
	spend(here, "idle", 1)
	top := here.measureTop(func() {
		spend(there, "deep", 90)
		spend(there, "shallow", 60)
		deliver(t, here, there, "deep")
		deliver(t, here, there, "shallow")
	})
	names := func(l topList) (all []string) {
		for _, k := range l.rows {
			all = append(all, fmt.Sprintf("%s %d", k.Key, k.Debt/1000))
		}
		return all
	}
	for _, c := range []struct {
		got  []string
		want []string
	}{
		{names(top.hot), []string{"deep 80", "shallow 20"}},
		{names(top.dry), []string{"deep 80", "shallow 20", "old 85", "dry 0"}},
		{names(top.debts), []string{"old 85", "deep 80", "shallow 20"}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
	if top.Live != 5 || top.Dry != 4 || top.Indebted != 3 {
		t.Errorf("%+v", top)
	}
}

// A bucket that took the place of another is not hot by what the other had not taken.
func TestTopKnowsAPlaceTakenOver(t *testing.T) {
	n := quietNode(t, 100, "10", 1000)
	n.Take("bench", "alice", 1)
	l := n.force.Load().byName["bench"]
	top := n.measureTop(func() {
		for i := range n.table.shards {
			s := &n.table.shards[i]
			s.each(func(e *entry, place uint32) { n.evict(s, l, place) })
		}
		for i := range 1000 { // some of them in alice's shard, and one in her place
			n.Take("bench", fmt.Sprint("bob-", i), 50)
		}
	})
	if len(top.hot.rows) > 0 {
		t.Errorf("hot: %+v", top.hot.rows)
	}
}

// However many buckets there are, ranking them allocates for the shards and the lists only: it
// happens under the locks that takes wait for.
func TestTopAllocatesNothingForABucket(t *testing.T) {
	n := quietNode(t, 100, "10", 20_000)
	for _, k := range benchKeys(10_000) {
		n.Take("bench", k, 100)
	}
	if got := testing.AllocsPerRun(3, func() { n.measureTop(func() {}) }); got > 10*shards {
		t.Errorf("%v allocations", got)
	}
}

// Ten who ask within a second share one measurement, and nobody gets it without the operator's rights.
func TestTopOverHTTP(t *testing.T) {
	s := newTestServer(t, testConfig(t))
	ask := func(query, peer string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", "/v1/top"+query, nil)
		r.RemoteAddr = peer
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	if w := ask("", "10.0.0.7:5000"); w.Code != 403 {
		t.Errorf("another machine: %d", w.Code)
	}
	for _, bad := range []string{"?n=0", "?n=101", "?n=x", "?n=", "?n=%zz"} {
		if w := ask(bad, "127.0.0.1:5000"); w.Code != 400 {
			t.Errorf("%s: %d", bad, w.Code)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		for i := range 30 {
			s.node.Take("per-user", fmt.Sprint("user-", i), 100)
		}
		s.node.refill.shown[crdt.Quorum].Add(1)
		began := time.Now()
		var all sync.WaitGroup
		for i := range 10 {
			all.Go(func() {
				query, want := "", 20
				if i > 4 {
					query, want = "?n=5", 5
				}
				time.Sleep(time.Duration(i) * 90 * time.Millisecond)
				w := ask(query, "127.0.0.1:5000")
				var body struct {
					Window   int64 `json:"window_ms"`
					Live     int   `json:"live_keys"`
					Dry      int   `json:"dry_keys"`
					DryKeys  []any `json:"dry"`
					HotKeys  []any `json:"hot"`
					Debts    []any `json:"debts"`
					Indebted *int  `json:"debt_keys"`
				}
				if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || w.Code != 200 {
					t.Error(w.Code, err, w.Body)
				}
				if body.Window != 1000 || body.Live != 30 || body.Dry != 30 || len(body.DryKeys) != want || body.HotKeys == nil || body.Debts == nil || body.Indebted == nil {
					t.Errorf("%s", w.Body)
				}
			})
		}
		all.Wait()
		if d := time.Since(began); d != topWindow {
			t.Errorf("all had their answer after %v", d)
		}
	})
}

// BenchmarkTop is the two looks at a million buckets.
func BenchmarkTop(b *testing.B) {
	n := quietNode(b, 100, "10", 2_000_000)
	for i, k := range benchKeys(1_000_000) {
		n.Take("bench", k, 1+int64(i%100))
	}
	b.ReportAllocs()
	for b.Loop() {
		n.measureTop(func() {})
	}
}
