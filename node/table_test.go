package node

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/openclaw/edge/crdt"
)

// The table against a map: inserts, removals and look-ups in any order.
func TestTableIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tab := newTable()
		model := map[string]crdt.Milli{}
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			key := fmt.Sprint(rapid.IntRange(0, 80).Draw(t, "key"))
			h := tab.hash(3, key) >> shardBits // everything in one shard, so that runs collide
			h &= 0xffff0000000000ff
			s := tab.shard(h)
			e, place := s.find(h, 3, key)
			want, ok := model[key]
			if (e != nil) != ok || ok && e.Filled != want {
				t.Fatalf("key %s: found %v, want %v", key, e, ok)
			}
			if ok && rapid.Bool().Draw(t, "remove") {
				s.remove(place)
				delete(model, key)
			} else if !ok {
				v := crdt.Milli(rapid.Int32().Draw(t, "value"))
				s.insert(h, &Limit{Index: 3}, key, crdt.Bucket{Filled: v})
				model[key] = v
			}
		}
		live := 0
		for i := range tab.shards {
			tab.shards[i].each(func(e *entry, _ uint32) {
				live++
				if model[e.key] != e.Filled {
					t.Fatalf("key %s holds %v", e.key, e.Filled)
				}
			})
		}
		if live != len(model) {
			t.Fatalf("%d live entries, want %d", live, len(model))
		}
	})
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A million buckets, keys of 16 bytes, each used by one writer: at most 200 bytes apiece,
// and a scrape walks them all while takes go on.
func TestAMillionBucketsAreSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("short: a million buckets")
	}
	n := quietNode(t, 100, "10", 2_000_000)
	keys := benchKeys(1_000_000)
	before := heap()
	for _, k := range keys {
		if d, err := n.Take("bench", k, 1); err != nil || !d.Allowed {
			t.Fatal(d, err)
		}
	}
	drained := (&replica{n: n}).Drain(nil)
	if len(drained) != len(keys) {
		t.Fatalf("%d buckets dirty, want %d", len(drained), len(keys))
	}
	drained = nil
	each := float64(heap()-before) / float64(len(keys))
	t.Logf("%.0f bytes a bucket, key included", each)
	if each > 200 {
		t.Errorf("%.0f bytes a bucket, at most 200", each)
	}
	start := time.Now()
	st := n.Stats()
	t.Logf("a scrape over a million buckets: %v", time.Since(start))
	if st.Limits[0].Live != len(keys) || st.Limits[0].CurrentTokens != 99*int64(len(keys)) {
		t.Errorf("the scrape saw %d live buckets with %d tokens", st.Limits[0].Live, st.Limits[0].CurrentTokens)
	}
	runtime.KeepAlive(keys)
}

// Five million random keys against max_buckets of a million: memory stays bounded, keys
// already known keep their own buckets, and strangers share one.
func TestAFloodOfKeysSharesOneBucket(t *testing.T) {
	if testing.Short() {
		t.Skip("short: five million keys")
	}
	const most = 1_000_000
	n := quietNode(t, 100, "1/h", most)
	for i := range 1000 {
		n.Take("bench", fmt.Sprintf("established-%d", i), 10)
	}
	before := heap()
	admitted := 0
	for i := range 5 * most {
		d, err := n.Take("bench", fmt.Sprintf("stranger-%d", i), 100)
		if err != nil {
			t.Fatal(err)
		}
		if d.Allowed {
			admitted++
		}
	}
	grown := heap() - before
	t.Logf("%d strangers admitted, %d MB", admitted, grown>>20)
	if grown > most*220 {
		t.Errorf("memory grew by %d bytes", grown)
	}
	if admitted > most-1000+1 {
		t.Errorf("%d strangers admitted of a full bucket each, want at most %d and one shared", admitted, most-1000)
	}
	for i := range 1000 {
		b, err := n.Look("bench", fmt.Sprintf("established-%d", i))
		if err != nil || b.Level != 90*crdt.Token {
			t.Fatalf("established key harmed: %+v, %v", b, err)
		}
	}
	st := n.Stats().Limits[0]
	if st.Overflow != 1 || st.Rejected == 0 {
		t.Errorf("overflow %d, rejected %d", st.Overflow, st.Rejected)
	}
}
