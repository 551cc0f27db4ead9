package local

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/openclaw/edge/testnet/world"
)

func some() []*world.Flow {
	return []*world.Flow{{Limit: "per-user", PerSecond: 200, Keys: world.Keys{Name: "user-", N: 100}}}
}

// KV fails, and snapshots go to Redis, whatever plays it; then both fail, and heal.
func TestStoresFailAndHeal(t *testing.T) {
	for _, embedded := range []bool{false, true} {
		t.Run(map[bool]string{false: "redis-server", true: "embedded"}[embedded], func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath("redis-server"); err != nil && !embedded {
				t.Skip("redis-server is not installed (Debian: apt-get install redis-server)")
			}
			w, err := New(Config{Embedded: embedded, Regions: []world.Region{{Name: "eu", Nodes: 2}}})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := w.Close(); err != nil {
					t.Error(err)
				}
			}()
			if s := w.Stores(); strings.Contains(s, "embedded") != embedded || !strings.Contains(s, w.stores.redis.addr()) {
				t.Error(s)
			}
			flows := some()
			wait := func(within time.Duration, what string, so func() bool) {
				t.Helper()
				for end := w.Now() + within; !so(); {
					if w.Now() > end {
						t.Fatalf("not within %v: %s; %+v", within, what, w.State("eu-1").Cluster.Store)
					}
					if err := w.Run(100*time.Millisecond, flows); err != nil {
						t.Fatal(err)
					}
				}
			}
			fault := func(store, fault string) {
				t.Helper()
				if err := w.Fault(store, fault); err != nil {
					t.Fatal(err)
				}
			}
			fallback := func() bool {
				return w.State("eu-1").Cluster.Store.FallbackActive && w.State("eu-2").Cluster.Store.FallbackActive
			}
			stored := func() bool {
				s := w.State("eu-1").Cluster.Store
				return !s.FallbackActive && s.PendingSegments == 0 && s.LastSnapshot != nil
			}
			wait(20*time.Second, "all is in KV", func() bool { return stored() && len(w.stores.kv.Dump()) > 0 })
			fault("kv", "500")
			wait(20*time.Second, "snapshots go to Redis", fallback)
			for _, both := range []string{"hang", "down", "empty"} {
				fault("redis", both)
				if err := w.Run(time.Second, flows); err != nil {
					t.Fatal(err)
				}
			}
			fault("redis", "")
			was := *w.State("eu-1").Cluster.Store.LastSnapshot
			wait(30*time.Second, "snapshots go to Redis again", func() bool { return w.State("eu-1").Cluster.Store.LastSnapshot.After(was) })
			fault("kv", "")
			wait(30*time.Second, "all is in KV again", stored)
		})
	}
}

func TestFaultsThatAreNotKnown(t *testing.T) {
	s, err := openStores(t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for _, c := range [][2]string{{"kv", "empty"}, {"redis", "429"}, {"etcd", "down"}} {
		if err := s.fault(c[0], c[1]); !errors.Is(err, world.ErrCannot) {
			t.Errorf("%s %q: %v", c[0], c[1], err)
		}
	}
	if err := s.fault("kv", "lag soon"); err == nil {
		t.Error("a lag of soon")
	}
	for _, c := range [][2]string{{"kv", "lag"}, {"kv", "lag 20s"}, {"kv", "429"}, {"kv", "slow"}, {"kv", "hang"}, {"kv", "down"}, {"kv", ""}} {
		if err := s.fault(c[0], c[1]); err != nil {
			t.Error(err)
		}
	}
}

// A node that has crashed writes to no store any more, though its goroutines still wind up.
func TestACrashedNodeWritesNothingMore(t *testing.T) {
	w, err := New(Config{Embedded: true, Regions: []world.Region{{Name: "eu", Nodes: 2}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}()
	held := func() map[string]string {
		by := make(map[string]string)
		for key, p := range w.stores.kv.Dump() {
			if strings.Contains(key, ":eu-2:") {
				by[key] = string(p.Value)
			}
		}
		return by
	}
	flows := some()
	for end := w.Now() + 30*time.Second; len(held()) == 0; {
		if w.Now() > end {
			t.Fatal("eu-2 stored nothing in 30 s")
		}
		if err := w.Run(100*time.Millisecond, flows); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Run(time.Second, flows); err != nil { // there is something new to store
		t.Fatal(err)
	}
	zombie := w.byName["eu-2"]
	if err := w.Crash("eu-2"); err != nil {
		t.Fatal(err)
	}
	before := held()
	for end := w.Now() + 20*time.Second; !zombie.Buried(); {
		if w.Now() > end {
			t.Fatal("it has not wound up after 20 s")
		}
		if err := w.Run(100*time.Millisecond, flows); err != nil {
			t.Fatal(err)
		}
	}
	after := held()
	for key, value := range after {
		if before[key] != value {
			t.Errorf("%s was written after the crash", key)
		}
	}
}
