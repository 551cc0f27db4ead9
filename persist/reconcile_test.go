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

// After an outage fallback is emptied as soon as the lag allows, not at the next reconcile.
func TestRecoveryEmptiesFallbackSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, redis, y := newMemory("kv", 60*time.Second), newMemory("redis", 0), newToy(toySegments)
		cfg := toyConfig(y, kv, redis, nil)
		cfg.ReconcileEvery = 5 * time.Hour
		h := mustNew(t, cfg)
		defer run(t, h)()
		time.Sleep(time.Hour)
		for i := range toySegments {
			y.raise(i, "x", 1)
		}
		most := 0
		kv.setFault(func(op string, keys int) fault {
			if kv.calls[op] > 1 {
				most = max(most, keys)
			}
			return fault{err: kv.down(Failed)}
		})
		time.Sleep(10 * time.Minute)
		if s := h.Stats(); s.Pending != toySegments || most > 1 {
			t.Errorf("pending %d; a failing store got %d values at once", s.Pending, most)
		}
		kv.setFault(nil)
		time.Sleep(4 * time.Minute)
		if s := h.Stats(); s.Pending != 0 || len(redis.values()) != 0 || len(kv.values()) != toySegments {
			t.Errorf("pending %d, redis %d, kv %d", s.Pending, len(redis.values()), len(kv.values()))
		}
	})
}

func TestAGainedSegmentIsWrittenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, y, mine := newMemory("kv", 60*time.Second), newToy(toySegments), true
		y.owns = func(int) bool { return mine }
		h := mustNew(t, toyConfig(y, kv, nil, nil))
		y.raise(0, "x", 1)
		for _, step := range []struct {
			mine bool
			puts int
		}{{true, 1}, {false, 1}, {false, 1}, {true, 2}, {true, 2}} {
			mine = step.mine
			if err := h.Snapshot(t.Context()); err != nil || len(kv.puts()) != step.puts {
				t.Fatalf("%v; %d puts, want %d", err, len(kv.puts()), step.puts)
			}
		}
	})
}

// A delete without an answer is done after its key's part was to be written again.
func TestADeleteThatIsDoneLateHarmsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, y := newMemory("kv", 60*time.Second), newToy(toySegments)
		h := mustNew(t, toyConfig(y, kv, nil, nil))
		write := func(pieces, number int) {
			y.pieces = pieces
			y.raise(0, "x", number)
			y.raise(0, "y", number)
			if err := h.Snapshot(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		write(1, 1)
		time.Sleep(70 * time.Second)
		write(2, 2) // beside the first
		time.Sleep(125 * time.Second)
		kv.setFault(func(op string, _ int) fault {
			if op == "delete" {
				return fault{late: 90 * time.Second}
			}
			return fault{}
		})
		h.reconcile(t.Context())
		if kv.count("delete") != 1 {
			t.Fatal("nothing was to be deleted")
		}
		write(1, 3)
		time.Sleep(100 * time.Second)
		if got := contentOf(kv)["0/x"]; got != 3 {
			t.Errorf("%d after the late delete, 3 was acknowledged", got)
		}
	})
}
