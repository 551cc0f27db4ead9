package persist

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// clear is what a server does that comes back empty.
func (m *memory) clear() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.history)
}

// A store that lost what it acknowledged gets it again, though nothing changes any more; and
// until it has, no snapshot is acknowledged on its account.
func TestWhatAStoreLostIsWrittenAgain(t *testing.T) {
	for _, name := range []string{"redis", "kv", "disk"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				kv, redis, disk, y := newMemory("kv", 60*time.Second), newMemory("redis", 0), newMemory("disk", 0), newToy(toySegments)
				y.pieces = 3
				h := mustNew(t, toyConfig(y, kv, redis, disk))
				for i := range toySegments {
					for _, number := range []string{"x", "y", "z"} {
						y.raise(i, number, 1)
					}
				}
				if name == "redis" {
					kv.failing(Failed)
				}
				defer run(t, h)()
				time.Sleep(3 * time.Minute)
				store := map[string]*memory{"redis": redis, "kv": kv, "disk": disk}[name]
				if err := contentOf(store).lacks(y.content()); err != nil {
					t.Fatal(err)
				}
				store.clear()
				time.Sleep(6 * time.Minute)
				if err := contentOf(store).lacks(y.content()); err != nil {
					t.Error(err)
				}
				if kv.setFault(nil); name == "redis" {
					time.Sleep(10 * time.Minute)
				}
				if err := contentOf(kv).lacks(y.content()); err != nil {
					t.Error(err)
				}
				before := kv.count("put") + redis.count("put") + disk.count("put")
				time.Sleep(time.Hour)
				if n := kv.count("put") + redis.count("put") + disk.count("put"); n != before {
					t.Errorf("%d more puts: nothing is missing", n-before)
				}
			})
		})
	}
}

// A snapshot says truly that something is nowhere, once that is known.
func TestALossIsNotAcknowledged(t *testing.T) {
	for _, name := range []string{"redis", "kv"} {
		synctest.Test(t, func(t *testing.T) {
			kv, redis, y := newMemory("kv", 60*time.Second), newMemory("redis", 0), newToy(toySegments)
			h := mustNew(t, toyConfig(y, kv, redis, nil))
			y.raise(0, "x", 1)
			if name == "redis" {
				kv.failing(Failed)
			}
			if err := h.Snapshot(t.Context()); err != nil {
				t.Fatal(err)
			}
			kv.clear()
			redis.clear()
			time.Sleep(2 * time.Minute)
			h.reconcile(t.Context())
			kv.failing(Failed)
			redis.failing(Failed)
			if h.Snapshot(t.Context()) == nil {
				t.Errorf("%s lost it; acknowledged, and nobody has it", name)
			}
		})
	}
}

// What fallback has no more because primary has it is no loss either.
func TestWhatWentHomeIsNotMissed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, redis, y := newMemory("kv", 60*time.Second), newMemory("redis", 0), newToy(toySegments)
		cfg := toyConfig(y, kv, redis, nil)
		var log bytes.Buffer
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		h := mustNew(t, cfg)
		kv.failing(Failed)
		stop := run(t, h)
		for i := 0; len(kv.puts()) == 0; i++ { // in the round in which it works again all goes to both
			y.raise(i%toySegments, "x", i+1)
			time.Sleep(time.Second)
			if i == 50 {
				kv.setFault(nil)
			}
		}
		time.Sleep(time.Hour)
		stop()
		if len(redis.values()) > 0 || redis.count("delete") == 0 {
			t.Fatal("nothing went home")
		}
		if strings.Contains(log.String(), "has lost") {
			t.Errorf("a loss is told:\n%s", log.String())
		}
	})
}

// What a lagging store does not show yet is not lost.
func TestALagIsNoLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, y := newMemory("kv", 60*time.Second), newToy(toySegments)
		h := mustNew(t, toyConfig(y, kv, nil, nil))
		y.raise(0, "x", 1)
		for range 12 {
			if err := h.Snapshot(t.Context()); err != nil {
				t.Fatal(err)
			}
			h.reconcile(t.Context())
			time.Sleep(10 * time.Second)
		}
		if n := kv.count("put"); n != 1 {
			t.Errorf("put %d times", n)
		}
	})
}

// Who asks for snapshots again and again while a store fails does not make the node wait longer
// once it works.
func TestAskingDoesNotPutOffRecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, redis, y := newMemory("kv", 0), newMemory("redis", 0), newToy(toySegments)
		h := mustNew(t, toyConfig(y, kv, redis, nil))
		kv.failing(Failed)
		defer run(t, h)()
		for i := range 20 {
			y.raise(0, "x", i+1)
			if err := h.Snapshot(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		kv.setFault(nil)
		time.Sleep(28 * time.Second) // the first back-off, and a round
		if err := contentOf(kv).lacks(y.content()); err != nil {
			t.Error(err)
		}
	})
}

// A store that has been silent since it was first read is named, with its advice.
func TestARefusalNamesAPauseThatAReadBrought(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kv, y := newMemory("kv", 60*time.Second), newToy(toySegments)
		h := mustNew(t, toyConfig(y, kv, nil, nil))
		kv.setFault(func(string, int) fault {
			e := kv.down(Denied)
			e.Until = time.Now().Add(time.Minute)
			return fault{err: e}
		})
		h.Restore(t.Context())
		y.raise(0, "x", 1)
		if err := h.Snapshot(t.Context()); !errors.Is(err, errDown) || KindOf(err) != Denied {
			t.Errorf("%v does not say why", err)
		}
	})
}
