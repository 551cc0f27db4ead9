package persist

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// stored puts one value of a writer into a store.
func stored(t testing.TB, m *memory, s Segment, payload string) Value {
	t.Helper()
	if s.Cluster == "" {
		s.Cluster = "toys"
	}
	if s.Time.IsZero() {
		s.Time = time.Now()
	}
	s.Payload = []byte(payload)
	data, err := s.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	v := Value{Key: SegmentKey("rating_bucket", &s), Version: s.Sequence, Data: data}
	m.apply([]Value{v})
	return v
}

func restored(t testing.TB, cfg Config, y *toy) content {
	t.Helper()
	h := mustNew(t, cfg)
	h.Restore(context.Background())
	stop := run(t, h)
	time.Sleep(settled + settledMore + time.Minute)
	stop()
	return y.content()
}

func TestRestoreIsTheJoinOfAllStores(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, redis, disk, y := newMemory("kv", 60*time.Second), newMemory("redis", 0), newMemory("disk", 0), newToy(toySegments)
		newest := time.Now().Add(-time.Second)
		stored(t, kv, Segment{Name: "00", Node: "b", Incarnation: 7, Sequence: 3}, `{"x":3,"y":1}`)
		time.Sleep(2 * time.Minute)
		stored(t, redis, Segment{Name: "00", Node: "b", Incarnation: 7, Sequence: 9, Clock: []byte("newest"), Time: newest.Add(3 * time.Minute)}, `{"x":2,"z":5}`)
		stored(t, disk, Segment{Name: "03", Node: "a", Incarnation: 9, Sequence: 1}, `{"w":4}`)
		h := mustNew(t, toyConfig(y, kv, redis, disk))
		found, err := h.Restore(t.Context())
		if err != nil || !found.Done {
			t.Fatal(err)
		}
		want := content{"0/x": 3, "0/y": 1, "0/z": 5, "3/w": 4}
		if !maps.Equal(y.content(), want) {
			t.Errorf("restored %v, want %v", y.content(), want)
		}
		if found.Segments != 2 || found.Values != 3 || string(found.Clock) != "newest" || found.Stores[1].Name != "redis" || found.Stores[1].Joined != 1 {
			t.Errorf("%+v", found)
		}
	})
}

// A restart within KV's lag: the listing does not show the key, and then the old value.
func TestRestoreReadsOnUntilTheStoreHasShownItsNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, y := newMemory("kv", 60*time.Second), newToy(toySegments)
		stored(t, kv, Segment{Name: "00", Node: "a", Incarnation: 9, Sequence: 1}, `{"x":1}`)
		time.Sleep(time.Hour)
		stored(t, kv, Segment{Name: "00", Node: "a", Incarnation: 9, Sequence: 2}, `{"x":2}`)
		stored(t, kv, Segment{Name: "01", Node: "a", Incarnation: 9, Sequence: 3}, `{"y":3}`)
		h := mustNew(t, toyConfig(y, kv, nil, nil))
		h.Restore(t.Context())
		if y.get(0, "x") != 1 || y.get(1, "y") != 0 {
			t.Fatal("the store has no lag")
		}
		defer run(t, h)()
		time.Sleep(75 * time.Second)
		if y.get(0, "x") != 2 || y.get(1, "y") != 3 {
			t.Errorf("after 75 s: %v", y.content())
		}
		time.Sleep(10 * time.Minute)
		if y.joins != 3 {
			t.Errorf("joined %d values, each version is joined once", y.joins)
		}
		if n := kv.count("list"); n > 16 {
			t.Errorf("listed %d times in ten minutes", n)
		}
	})
}

func TestRestoreEndsWithItsContextAndNamesWhoDidNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, redis, y := newMemory("kv", 0), newMemory("redis", 0), newToy(toySegments)
		stored(t, kv, Segment{Name: "00", Node: "a", Incarnation: 9, Sequence: 2}, `{"x":2}`)
		stored(t, redis, Segment{Name: "00", Node: "a", Incarnation: 9, Sequence: 3}, `{"x":3}`)
		redis.setFault(func(string, int) fault { return fault{hang: true} })
		h := mustNew(t, toyConfig(y, kv, redis, nil))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		found, err := h.Restore(ctx)
		if err == nil || !strings.Contains(err.Error(), "redis") || found.Done || found.Stores[1].Err == nil || found.Stores[0].Err != nil {
			t.Errorf("%v, %+v", err, found)
		}
		if y.get(0, "x") != 2 {
			t.Error("what was read does not count")
		}
		redis.setFault(nil)
		defer run(t, h)()
		time.Sleep(20 * time.Second)
		if y.get(0, "x") != 3 || !h.Stats().Restored.Done {
			t.Error("the store that answered late was not read")
		}
	})
}

func TestWhatCannotBeUsedIsSetAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		redis, kv, y := newMemory("redis", 0), newMemory("kv", 0), newToy(toySegments)
		change := func(v Value, f func([]byte) []byte) {
			v.Version++
			v.Data = f(append([]byte(nil), v.Data...))
			kv.apply([]Value{v})
		}
		flip := func(b []byte) []byte { b[len(b)/2] ^= 1; return b }
		change(stored(t, kv, Segment{Name: "00", Node: "b", Incarnation: 1, Sequence: 1}, `{"x":1}`), flip)
		change(stored(t, kv, Segment{Name: "01", Node: "b", Incarnation: 1, Sequence: 1}, `{"x":1}`), func(b []byte) []byte { return b[:9] })
		stored(t, kv, Segment{Name: "02", Node: "b", Incarnation: 1, Sequence: 1, Cluster: "others"}, `{"x":1}`)
		v := stored(t, kv, Segment{Name: "03", Node: "b", Incarnation: 1, Sequence: 1}, `{"x":1}`)
		kv.apply([]Value{{Key: strings.Replace(v.Key, ":b:", ":c:", 1), Version: 1, Data: v.Data}, {Key: "rating_bucket:77:b:0000000000000001", Version: 1, Data: v.Data}, {Key: "rating_bucket:?", Version: 1}})
		aside := map[string]error{}
		cfg := toyConfig(y, kv, redis, nil)
		cfg.Current = func(string, uint64) bool { return false }
		cfg.SetAside = func(key string, _ []byte, why error) {
			if aside[key] != nil {
				t.Errorf("%s twice", key)
			}
			aside[key] = why
		}
		h := mustNew(t, cfg)
		found, err := h.Restore(t.Context())
		if err != nil || found.SetAside != 6 || found.Values != 1 {
			t.Errorf("%v, %+v", err, found)
		}
		before := len(kv.values())
		defer run(t, h)()
		time.Sleep(time.Hour)
		want := map[string]uint64{"damaged": 2, "cluster": 1, "key": 3}
		if got := h.Stats().SetAside; !maps.Equal(got, want) {
			t.Errorf("%v, want %v (%v)", got, want, aside)
		}
		if len(kv.values()) != before { // 03 of b went, the own 03 came
			t.Errorf("deleted what was set aside: %d of %d are left", len(kv.values()), before)
		}
	})
}

func TestANewerFormatIsSetAsideByName(t *testing.T) {
	if r := reasonOf(fmt.Errorf("x: %w", ErrNewer)); r != "newer" {
		t.Error(r)
	}
	if r := reasonOf(errors.New("other")); r != "damaged" {
		t.Error(r)
	}
}

// A node that starts over and over leaves one incarnation's values on its disk, not all.
func TestOlderIncarnationsLeaveTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newMemory("local", 0)
		for incarnation := range uint64(20) {
			y := newToy(toySegments)
			cfg := toyConfig(y, disk, nil, nil)
			cfg.Shared, cfg.Incarnation = false, 100-incarnation
			h := mustNew(t, cfg)
			h.Restore(t.Context())
			if want := int(incarnation); y.get(1, "x") != want {
				t.Fatalf("start %d: %v", incarnation, y.content())
			}
			y.raise(1, "x", int(incarnation)+1)
			stop := run(t, h)
			time.Sleep(12 * time.Second)
			stop()
			if n := len(disk.values()); n > 1 {
				t.Fatalf("%d values on disk", n)
			}
		}
	})
}

// What a writer stores that is heard is not read, however often KV is; once it is heard no more,
// and gone, the owner adopts its newest.
func TestWhatIsHeardIsNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, y := newMemory("kv", 60*time.Second), newToy(toySegments)
		stored(t, kv, Segment{Name: "00", Node: "b", Incarnation: 7, Sequence: 1}, `{"x":1}`)
		stored(t, kv, Segment{Name: "01", Node: "b", Incarnation: 6, Sequence: 1}, `{"old":1}`)
		time.Sleep(time.Hour)
		var alive, heard atomic.Bool
		alive.Store(true)
		cfg := toyConfig(y, kv, nil, nil)
		cfg.Current = func(node string, incarnation uint64) bool { return alive.Load() && incarnation == 7 }
		cfg.Heard = func(node string, incarnation uint64) bool { return heard.Load() && cfg.Current(node, incarnation) }
		h := mustNew(t, cfg)
		h.Restore(t.Context())
		if y.get(0, "x") != 1 || y.get(1, "old") != 1 {
			t.Errorf("before anybody is heard: %v", y.content())
		}
		heard.Store(true)
		defer run(t, h)()
		gets := kv.count("get")
		for n := range uint64(90) {
			stored(t, kv, Segment{Name: "00", Node: "b", Incarnation: 7, Sequence: 2 + n}, fmt.Sprintf(`{"x":%d}`, 2+n))
			time.Sleep(2 * time.Second)
		}
		if n := kv.count("get") - gets; n != 0 || y.get(0, "x") != 1 {
			t.Errorf("%d reads of what was heard: %v", n, y.content())
		}
		alive.Store(false)
		time.Sleep(6 * time.Minute)
		if y.get(0, "x") != 91 {
			t.Errorf("its last word was %d, not 91", y.get(0, "x"))
		}
	})
}

// slowly is a store that takes a second for each value, as KV's budget may make it.
type slowly struct{ *memory }

func (s slowly) Get(ctx context.Context, keys []Entry, each func(Value) error) error {
	for _, k := range keys {
		time.Sleep(time.Second)
		if err := s.memory.Get(ctx, []Entry{k}, each); err != nil {
			return err
		}
	}
	return nil
}

// Reading on takes as long as the store's budget makes it; rounds and snapshots do not wait for it, nor
// does it for them.
func TestReadingOnStarvesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, y := newMemory("kv", 60*time.Second), newToy(toySegments)
		for i := range 90 {
			stored(t, kv, Segment{Name: "01", Node: fmt.Sprint("b", i), Incarnation: 7, Sequence: 1}, fmt.Sprintf(`{"x%d":3}`, i))
		}
		time.Sleep(time.Hour)
		cfg := toyConfig(y, kv, nil, nil)
		cfg.Primary, cfg.Every = slowly{kv}, time.Second
		cfg.Heard = func(string, uint64) bool { return false }
		h := mustNew(t, cfg)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		h.Restore(ctx)
		defer run(t, h)()
		time.Sleep(rereadEvery)
		rounds, asked := kv.count("put"), time.Duration(0)
		for i := range 60 {
			y.raise(0, "x", i+1)
			time.Sleep(time.Second)
			began := time.Now()
			if err := h.Snapshot(t.Context()); err != nil {
				t.Fatal(err)
			}
			asked = max(asked, time.Since(began))
		}
		if n := kv.count("put") - rounds; n < 60 {
			t.Errorf("%d rounds wrote in a minute", n)
		}
		if asked > 2*time.Second {
			t.Errorf("a snapshot waited %v", asked)
		}
		time.Sleep(time.Minute)
		if n := len(y.content()); n != 91 {
			t.Errorf("%d of 91 values are known", n)
		}
	})
}
