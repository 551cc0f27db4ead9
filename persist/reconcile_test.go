package persist

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// What the dead left is adopted and cleared away, though it tells the adopter nothing new.
func TestNothingIsLeftOfTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, redis, y := newMemory("kv", 60*time.Second), newMemory("redis", 0), newToy(toySegments)
		cfg := toyConfig(y, kv, redis, nil)
		cfg.Current = func(string, uint64) bool { return false }
		h := mustNew(t, cfg)
		y.raise(0, "b", 5)
		defer run(t, h)()
		time.Sleep(5 * time.Minute)
		stored(t, redis, Segment{Name: "00", Node: "b", Incarnation: 7, Sequence: 2}, `{"b":5}`)
		stored(t, kv, Segment{Name: "00", Node: "a", Incarnation: 7, Sequence: 2}, `{"b":4}`)
		time.Sleep(20 * time.Minute)
		if n := len(redis.values()); n != 0 {
			t.Errorf("%d values in redis", n)
		}
		if v := kv.values(); len(v) != 1 {
			t.Errorf("in kv: %v", v)
		}
	})
}

// A member writes to KV and dies. The listing shows its value before that, which was joined and
// written again long ago: it is not the writer's last word.
func TestTheLastWordOfTheDeadIsAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, y, alive := newMemory("kv", 60*time.Second), newToy(toySegments), true
		cfg := toyConfig(y, kv, nil, nil)
		cfg.Current = func(string, uint64) bool { return alive }
		stored(t, kv, Segment{Name: "00", Node: "b", Incarnation: 7, Sequence: 1}, `{"b":1}`)
		time.Sleep(time.Hour)
		h := mustNew(t, cfg)
		h.Restore(t.Context())
		h.Snapshot(t.Context())
		time.Sleep(time.Hour)
		stored(t, kv, Segment{Name: "00", Node: "b", Incarnation: 7, Sequence: 2}, `{"b":2}`)
		alive = false
		for range 5 {
			h.reconcile(t.Context())
			h.Snapshot(t.Context())
			if got := contentOf(kv)["0/b"]; got != 2 {
				t.Fatalf("kv has %d, 2 was acknowledged", got)
			}
			time.Sleep(70 * time.Second)
		}
		if n := len(kv.values()); n != 1 || y.get(0, "b") != 2 {
			t.Errorf("%d values are left, %v", n, y.content())
		}
	})
}

// The listing is newer than what a read of the value shows: what was joined is not what is there.
func TestOnlyTheVersionThatWasJoinedIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, y := newMemory("kv", 60*time.Second), newToy(toySegments)
		kv.stale = func(op string) time.Duration {
			if op == "get" {
				return time.Hour
			}
			return 0
		}
		cfg := toyConfig(y, kv, nil, nil)
		cfg.Current = func(string, uint64) bool { return false }
		stored(t, kv, Segment{Name: "00", Node: "b", Incarnation: 7, Sequence: 1}, `{"b":1}`)
		time.Sleep(2 * time.Hour)
		stored(t, kv, Segment{Name: "00", Node: "b", Incarnation: 7, Sequence: 2}, `{"b":2}`)
		h := mustNew(t, cfg)
		for range 60 {
			h.reconcile(context.Background())
			h.Snapshot(context.Background())
			time.Sleep(70 * time.Second)
			if got := contentOf(kv)["0/b"]; got != 2 {
				t.Fatalf("kv has %d, 2 was acknowledged", got)
			}
		}
		if len(kv.values()) != 1 || y.get(0, "b") != 2 {
			t.Errorf("not adopted at last: %v", y.content())
		}
	})
}
