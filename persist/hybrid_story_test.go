package persist

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestNothingChangedWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, redis, disk, y := newMemory("kv", 60*time.Second), newMemory("redis", 0), newMemory("disk", 0), newToy(toySegments)
		h := mustNew(t, toyConfig(y, kv, redis, disk))
		for i := range toySegments {
			y.raise(i, "x", 1)
		}
		defer run(t, h)()
		time.Sleep(12 * time.Second)
		if len(kv.puts()) != 1 || len(kv.puts()[0]) != toySegments || len(disk.puts()) != 1 {
			t.Fatalf("first round: kv %v, disk %v", kv.puts(), disk.puts())
		}
		time.Sleep(time.Hour)
		if len(kv.puts()) != 1 || len(disk.puts()) != 1 || redis.count("put") != 0 {
			t.Fatalf("nothing changed: kv %v, disk %v, redis %v", kv.puts(), disk.puts(), redis.puts())
		}
		y.raise(2, "x", 2)
		time.Sleep(time.Minute)
		want := "rating_bucket:02:a:0000000000000001"
		for _, m := range []*memory{kv, disk} {
			if p := m.puts(); len(p) != 2 || len(p[1]) != 1 || p[1][0] != want {
				t.Errorf("%s: one changed segment wrote %v", m.name, p[1:])
			}
		}
		if s := h.Stats(); time.Since(s.LastSnapshot) > 15*time.Second || s.FallbackActive || s.Reconciles[ReconcileOK] < 10 {
			t.Errorf("%+v", s)
		}
	})
}

func TestFallbackTakesExactlyWhatPrimaryRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, redis, y := newMemory("kv", 60*time.Second), newMemory("redis", 0), newToy(toySegments)
		h := mustNew(t, toyConfig(y, kv, redis, nil))
		for i := range toySegments {
			y.raise(i, "x", 1)
		}
		kv.setFault(func(op string, _ int) fault {
			return fault{fails: func(key string) *Error {
				if strings.Contains(key, ":02:") {
					return kv.down(Failed)
				}
				return nil
			}}
		})
		if err := h.Snapshot(t.Context()); err != nil {
			t.Fatal(err)
		}
		if p := redis.puts(); len(p) != 1 || len(p[0]) != 1 || !strings.Contains(p[0][0], ":02:") {
			t.Fatalf("redis got %v", p)
		}
		if s := h.Stats(); s.Pending != 1 || !s.FallbackActive {
			t.Errorf("pending %d, active %v", s.Pending, s.FallbackActive)
		}
		if err := h.Snapshot(t.Context()); err != nil || redis.count("put") != 1 {
			t.Errorf("%v; the same content went to redis %d times", err, redis.count("put"))
		}
		kv.setFault(nil)
		defer run(t, h)()
		time.Sleep(30 * time.Second)
		if s := h.Stats(); s.Pending != 0 || s.FallbackActive {
			t.Errorf("after recovery: pending %d, active %v", s.Pending, s.FallbackActive)
		}
		if len(redis.values()) != 1 {
			t.Error("deleted from redis while kv may still show the old value")
		}
		time.Sleep(5 * time.Minute)
		if v := redis.values(); len(v) != 0 {
			t.Errorf("redis still holds %v", v)
		}
	})
}

// While everything fails for an hour, takes go on, so something changes all the time.
func TestAnHoursOutageIsNoStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, redis, y := newMemory("kv", 60*time.Second), newMemory("redis", 0), newToy(toySegments)
		h := mustNew(t, toyConfig(y, kv, redis, nil))
		kv.failing(Failed)
		redis.failing(Failed)
		defer run(t, h)()
		for i := range 3600 {
			y.raise(i%toySegments, "x", i+1)
			time.Sleep(time.Second)
		}
		t.Logf("in an hour: kv written to %d times, read %d, redis %d", kv.count("put"), kv.count("list")+kv.count("get"), redis.count("put"))
		if n := kv.count("put"); n < 40 || n > 120 {
			t.Errorf("kv was written to %d times", n)
		}
		if n := redis.count("put"); n < 40 || n > 120 {
			t.Errorf("redis was written to %d times", n)
		}
		if n := kv.count("list") + kv.count("get"); n > 100 {
			t.Errorf("kv was read %d times", n)
		}
		if !h.Stats().LastSnapshot.IsZero() {
			t.Error("a snapshot is claimed")
		}
		kv.setFault(nil)
		time.Sleep(2 * time.Minute)
		if err := contentOf(kv).lacks(y.content()); err != nil {
			t.Error(err)
		}
	})
}

func TestAPausedStoreIsNotCalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, redis, y := newMemory("kv", 60*time.Second), newMemory("redis", 0), newToy(toySegments)
		h := mustNew(t, toyConfig(y, kv, redis, nil))
		until := time.Now().Add(5 * time.Minute)
		kv.setFault(func(string, int) fault {
			e := kv.down(Throttled)
			e.Until = until
			return fault{err: e}
		})
		defer run(t, h)()
		for i := range 280 {
			y.raise(i%toySegments, "x", i+1)
			time.Sleep(time.Second)
		}
		if n := kv.count("put") + kv.count("list"); n > 3 {
			t.Errorf("called %d times in the pause it asked for: %v", n, kv.calls)
		}
		if err := h.Snapshot(t.Context()); err != nil {
			t.Error(err)
		}
		if err := contentOf(redis).lacks(y.content()); err != nil {
			t.Error(err)
		}
	})
}

// An abandoned write of an old value is done after a newer one was acknowledged.
func TestAWriteThatIsDoneLateHarmsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, y := newMemory("kv", 60*time.Second), newToy(toySegments)
		h := mustNew(t, toyConfig(y, kv, nil, nil))
		y.raise(0, "x", 1)
		kv.setFault(func(op string, _ int) fault { return fault{late: 90 * time.Second} })
		if h.Snapshot(t.Context()) == nil {
			t.Fatal("no error")
		}
		kv.setFault(nil)
		y.raise(0, "x", 2)
		if err := h.Snapshot(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Second)
		if got := contentOf(kv)["0/x"]; got != 2 {
			t.Errorf("%d after the late write, 2 was acknowledged", got)
		}
	})
}

// A segment of several values is never a mixture: entries wander from one to another.
func TestPartsAreReplacedAsAWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, y := newMemory("kv", 60*time.Second), newToy(toySegments)
		cfg := toyConfig(y, kv, nil, nil)
		h := mustNew(t, cfg)
		stop := run(t, h)
		acked := content{}
		for n := range 60 {
			y.pieces = n/10%3 + 1
			for _, name := range []string{"a", "b", "c", "d"} {
				y.raise(0, name, n+1)
			}
			kv.setFault(func(op string, _ int) fault {
				if n%3 == 0 {
					return fault{}
				}
				return fault{fails: func(key string) *Error {
					if int(key[len(key)-1])%2 == n%2 {
						return kv.down(Failed)
					}
					return nil
				}}
			})
			time.Sleep(11 * time.Second)
			stop()
			acknowledged(h, y, acked)
			if err := contentOf(kv).lacks(acked); err != nil {
				t.Fatalf("round %d: %v", n, err)
			}
			stop = run(t, h)
		}
		kv.setFault(nil)
		y.pieces = 1
		y.raise(0, "a", 1000)
		time.Sleep(15 * time.Minute)
		if v := kv.values(); len(v) > 1 {
			t.Errorf("%d values are left of one segment", len(v))
		}
	})
}

func TestUnchangedSegmentsOutliveTheirTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, redis, disk, y := newMemory("kv", 60*time.Second), newMemory("redis", 0), newMemory("disk", 0), newToy(toySegments)
		cfg := toyConfig(y, kv, redis, disk)
		cfg.Segments = toySpecs(10 * time.Minute)
		h := mustNew(t, cfg)
		y.raise(0, "x", 1)
		stop := run(t, h)
		for range 24 {
			time.Sleep(5 * time.Minute)
			for _, m := range []*memory{kv, disk} {
				if contentOf(m)["0/x"] != 1 {
					t.Fatalf("%s lost it", m.name)
				}
			}
		}
		if n := len(kv.puts()); n > 60 {
			t.Errorf("%d puts in two hours", n)
		}
		kv.failing(Failed)
		y.raise(1, "y", 1)
		time.Sleep(time.Hour)
		stop()
		if err := contentOf(redis).lacks(content{"1/y": 1}); err != nil {
			t.Errorf("in an outage longer than the TTL: %v", err)
		}
	})
}

func TestTheLastSnapshotLeavesTimeForFallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, redis, disk, y := newMemory("kv", 60*time.Second), newMemory("redis", 0), newMemory("disk", 0), newToy(toySegments)
		h := mustNew(t, toyConfig(y, kv, redis, disk))
		y.raise(0, "x", 1)
		for _, m := range []*memory{kv, disk} {
			m.setFault(func(string, int) fault { return fault{hang: true} })
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := h.Snapshot(ctx); err != nil {
			t.Error(err)
		}
		if contentOf(redis)["0/x"] != 1 {
			t.Error("not in fallback")
		}
	})
}

// What changed while KV hung is not in the snapshot that Redis took in the end, and its time says so.
func TestASnapshotIsAsOldAsItsContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, redis, y := newMemory("kv", 60*time.Second), newMemory("redis", 0), newToy(toySegments)
		h := mustNew(t, toyConfig(y, kv, redis, nil))
		kv.setFault(func(string, int) fault { return fault{err: kv.down(Failed), after: 10 * time.Second} })
		y.raise(0, "x", 1)
		began := time.Now()
		time.AfterFunc(5*time.Second, func() { y.raise(0, "x", 2) })
		if err := h.Snapshot(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := contentOf(redis)["0/x"]; got != 1 || time.Since(began) < 10*time.Second {
			t.Fatalf("%d is stored after %v: the story has changed", got, time.Since(began))
		}
		if at := h.Stats().LastSnapshot; !at.Equal(began) {
			t.Errorf("all before %v is stored, it says", at.Sub(began))
		}
	})
}

// A disk that was full for minutes has room again, and is written to within seconds.
func TestADiskWithRoomIsWrittenSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, disk, y := newMemory("kv", 0), newMemory("disk", 0), newToy(toySegments)
		cfg := toyConfig(y, kv, nil, disk)
		cfg.Every = time.Second
		disk.setFault(func(string, int) fault { return fault{err: disk.down(Failed)} })
		defer run(t, mustNew(t, cfg))()
		y.raise(0, "x", 1)
		time.Sleep(5 * time.Minute)
		disk.setFault(nil)
		time.Sleep(localRest*3/2 + 3*time.Second)
		if contentOf(disk)["0/x"] != 1 {
			t.Error("not written")
		}
	})
}

func TestRefusedContentIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, y := newMemory("kv", 60*time.Second), newToy(toySegments)
		h := mustNew(t, toyConfig(y, kv, nil, nil))
		y.raise(0, "x", 1)
		kv.failing(Rejected)
		defer run(t, h)()
		time.Sleep(time.Hour)
		if n := kv.count("put"); n != 1 {
			t.Errorf("put %d times", n)
		}
		kv.setFault(nil)
		y.raise(0, "x", 2)
		time.Sleep(2 * time.Minute)
		if contentOf(kv)["0/x"] != 2 {
			t.Error("the next content was not written")
		}
	})
}

// While a store gives no answer, each thing that Run does with it may take ten seconds. Who asks for
// a snapshot waits for one of them, not for all that are due.
func TestASnapshotWaitsForOneThingOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, redis, y := newMemory("kv", 60*time.Second), newMemory("redis", 0), newToy(toySegments)
		cfg := toyConfig(y, kv, redis, nil)
		cfg.Every, cfg.ReconcileEvery = time.Second, 2*time.Second
		h := mustNew(t, cfg)
		if _, err := h.Restore(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer run(t, h)()
		time.Sleep(5 * time.Second)
		kv.setFault(func(string, int) fault { return fault{err: kv.down(Unknown), after: 10 * time.Second} })
		for i := range 20 {
			y.raise(0, "x", i+1)
			time.Sleep(3 * time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			began := time.Now()
			if err := h.Snapshot(ctx); err != nil {
				t.Errorf("after %v: %v", time.Since(began), err)
			}
			cancel()
		}
	})
}

// Reconciles that take longer than they are apart leave rounds their turn.
func TestRoundsAreNotStarved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, redis, y := newMemory("kv", 60*time.Second), newMemory("redis", 0), newToy(toySegments)
		cfg := toyConfig(y, kv, redis, nil)
		cfg.Every, cfg.ReconcileEvery = time.Second, time.Second
		kv.setFault(func(op string, _ int) fault {
			if op == "list" {
				return fault{err: kv.down(Failed), after: 3 * time.Second}
			}
			return fault{}
		})
		defer run(t, mustNew(t, cfg))()
		for i := range 60 {
			y.raise(0, "x", i+1)
			time.Sleep(time.Second)
		}
		if n := kv.count("put"); n < 10 {
			t.Errorf("%d rounds wrote in a minute", n)
		}
	})
}
