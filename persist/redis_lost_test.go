package persist

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/openclaw/edge/testnet/redis"
)

// Redis alone has what KV did not take. It loses that between two rounds, without a put that
// fails, and nothing changes meanwhile: the next round notices, and writes all of it again before
// it acknowledges anything. Then everybody dies, and the restore has it all.
func TestALossOfRedisIsNoticedInTheRound(t *testing.T) {
	single := func(t *testing.T) ([]*redis.Server, RedisConfig) {
		s := redis.Start(t, redis.Options{Password: "password"})
		return []*redis.Server{s}, RedisConfig{URL: s.URL()}
	}
	behind := func(t *testing.T) ([]*redis.Server, RedisConfig) {
		s := redis.Start(t, redis.Options{})
		return []*redis.Server{s}, RedisConfig{URL: redis.StartSentinel(t, s).URL()}
	}
	cluster := func(t *testing.T) ([]*redis.Server, RedisConfig) {
		c := redis.StartCluster(t, 3, redis.Options{})
		return c.Servers, RedisConfig{URL: c.URL(), Cluster: true}
	}
	// killed is the server with a round while it is away.
	killed := func(t *testing.T, s *redis.Server, h *Hybrid) {
		s.Kill()
		before := h.Stats().LastSnapshot
		if err := h.Snapshot(t.Context()); err == nil || !strings.Contains(err.Error(), "not known to be there") {
			t.Errorf("a snapshot while the only store that has it is gone: %v", err)
		}
		if err := h.round(t.Context(), false); err == nil || h.Stats().LastSnapshot != before {
			t.Errorf("a round then: %v", err)
		}
		if err := s.Restart(true); err != nil {
			t.Fatal(err)
		}
	}
	empty := func(t *testing.T, s *redis.Server, _ *Hybrid) {
		if err := s.Restart(true); err != nil {
			t.Fatal(err)
		}
	}
	flushed := func(t *testing.T, s *redis.Server, _ *Hybrid) {
		if err := s.Do("FLUSHALL"); err != nil {
			t.Fatal(err)
		}
	}
	evicted := func(t *testing.T, s *redis.Server, _ *Hybrid) {
		key, err := s.Ask("RANDOMKEY")
		if err == nil {
			err = s.Do("DEL", key)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		start func(t *testing.T) ([]*redis.Server, RedisConfig)
		lose  func(t *testing.T, s *redis.Server, h *Hybrid)
		alone bool // it has KV's place
	}{
		"away for a round":             {start: single, lose: killed},
		"killed and back empty":        {start: single, lose: empty},
		"flushed":                      {start: single, lose: flushed},
		"one key evicted":              {start: single, lose: evicted},
		"flushed behind a sentinel":    {start: behind, lose: flushed},
		"one master of three flushed":  {start: cluster, lose: flushed},
		"killed, without any KV":       {start: single, lose: killed, alone: true},
		"back empty, without any KV":   {start: single, lose: empty, alone: true},
		"one key gone, without any KV": {start: single, lose: evicted, alone: true},
	} {
		for _, asked := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				servers, cfg := c.start(t)
				separator := "?"
				if strings.Contains(cfg.URL, "?") {
					separator = "&"
				}
				cfg.URL += separator + "read_timeout=10s&dial_timeout=2s" // the machine may be busy
				store, err := NewRedis(cfg)
				if err != nil {
					t.Fatal(err)
				}
				defer store.Close()
				y := newToy(toySegments)
				y.pieces = 2
				kv := newMemory("kv", time.Minute)
				kv.failing(Failed)
				stores := toyConfig(y, kv, nil, nil)
				if stores.Fallback = store; c.alone {
					stores.Primary, stores.Fallback = store, nil
				}
				h := mustNew(t, stores)
				for i := range toySegments {
					y.raise(i, "x", i+1)
					y.raise(i, "y", i+1)
				}
				for range 2 { // the second finds nothing to do
					if err := h.Snapshot(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				written, last := redisStats(h).Written, h.Stats().LastSnapshot
				if written != 2*toySegments {
					t.Errorf("%d values written, want %d", written, 2*toySegments)
				}
				c.lose(t, holder(t, servers), h)
				if asked {
					err = h.Snapshot(t.Context())
				} else {
					err = h.round(t.Context(), false)
				}
				// A connection may have died, and the store not be asked for a moment; but a loss that is
				// noticed is mended at once.
				for until := time.Now().Add(20 * time.Second); err != nil && strings.Contains(err.Error(), "not known to be there") && time.Now().Before(until); {
					time.Sleep(50 * time.Millisecond)
					err = h.Snapshot(t.Context())
				}
				if err != nil || !h.Stats().LastSnapshot.After(last) || redisStats(h).Written == written {
					t.Errorf("%v; %d values written again", err, redisStats(h).Written-written)
				}
				again := newToy(toySegments)
				stores.State, stores.Incarnation = again, 2
				if !c.alone {
					stores.Primary = newMemory("kv", time.Minute)
				}
				if _, err := mustNew(t, stores).Restore(t.Context()); err != nil {
					t.Fatal(err)
				}
				if !maps.Equal(again.content(), y.content()) {
					t.Errorf("restored %v of %v", again.content(), y.content())
				}
			})
		}
	}
}

// holder is a server that holds something.
func holder(t *testing.T, servers []*redis.Server) *redis.Server {
	t.Helper()
	for _, s := range servers {
		if size, err := s.Ask("DBSIZE"); err == nil && size != int64(0) {
			return s
		}
	}
	t.Fatal("no server holds anything")
	return nil
}

func redisStats(h *Hybrid) StoreStats {
	all := h.Stats().Stores
	return all[len(all)-1]
}
