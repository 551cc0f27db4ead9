package process

import (
	"strings"
	"testing"
	"time"

	"github.com/openclaw/edge/testnet/redis"
)

// Whatever Redis does, alone or together with KV: what was acknowledged is restored, and what
// neither takes is not acknowledged.
func TestRedisFails(t *testing.T) {
	t.Parallel()
	restart := func(empty bool) func(s *site) {
		return func(s *site) {
			if err := s.redis.Restart(empty); err != nil {
				s.t.Error(err)
			}
			s.up()
		}
	}
	full := func(s *site) {
		s.down()
		if err := s.redis.Do("CONFIG", "SET", "maxmemory", "1mb"); err != nil {
			s.t.Fatal(err)
		}
	}
	roomy := func(s *site) {
		s.redis.Do("CONFIG", "SET", "maxmemory", "0")
		s.up()
	}
	for _, o := range []outage{
		{name: "refuses", begin: func(s *site) { s.redis.Kill() }, end: restart(false), result: "ok", stored: true, heals: 10 * time.Second, calls: 200},
		{name: "hangs", begin: func(s *site) { s.redis.Stop() }, end: func(s *site) { s.redis.Cont() }, result: "ok", stored: true, heals: 10 * time.Second, calls: 200, rare: true},
		{name: "comes back empty", begin: func(s *site) { restart(true)(s) }, result: "ok", stored: true, heals: 10 * time.Second, calls: 200},
		{name: "refuses, KV is down", begin: func(s *site) { s.down(); s.redis.Kill() }, end: restart(false), says: "is Redis running", heals: opened, rare: true},
		{name: "hangs, KV is down", begin: func(s *site) { s.down(); s.redis.Stop() }, end: func(s *site) { s.redis.Cont(); s.up() }, says: "did not answer", heals: opened},
		{name: "has no memory, KV is down", begin: full, end: roomy, says: "raise maxmemory", heals: opened},
		{name: "has TLS, KV is down", site: siteOptions{redis: redis.Options{TLS: true}}, begin: (*site).down, end: (*site).up, stored: true, active: true, heals: opened},
	} {
		o.run(t)
	}
}

// A Redis Cluster takes what KV does not, every key in the place that its slot has.
func TestARedisClusterTakesOver(t *testing.T) {
	t.Parallel()
	c := redis.StartCluster(t, 3, redis.Options{Password: redisSecret})
	play(t, outage{
		site:  siteOptions{redisURL: "redis://:${REDIS_PASSWORD}@" + c.Servers[0].Addr, cluster: true},
		begin: (*site).down, end: (*site).up, stored: true, active: true, heals: opened,
	})
	for _, server := range c.Servers {
		if size, err := server.Ask("DBSIZE"); err != nil || size == int64(0) {
			t.Errorf("a master holds %v keys (%v)", size, err)
		}
	}
}

// While KV is down Redis loses all that it had acknowledged, and nothing changes any more. The next
// snapshot that is acknowledged is there.
func TestRedisComesBackEmptyWhileKVIsDown(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteOptions{reconcileEvery: time.Hour})
	s.offer(60)
	s.down()
	time.Sleep(time.Second)
	s.stored(10 * time.Second)
	s.load.Stop() // what is stored is not written again for the change's sake
	s.settled()
	s.stored(10 * time.Second)
	s.stored(10 * time.Second)
	if err := s.redis.Restart(true); err != nil {
		t.Fatal(err)
	}
	s.stored(10 * time.Second)
	s.loseAll()
	s.reborn(0)
}

// A mistake in the URL is answered with what to do, in the log and to whoever asks.
func TestAPlainURLToATLSRedis(t *testing.T) {
	t.Parallel()
	r := redis.Start(t, redis.Options{TLS: true, Password: redisSecret})
	s := newSite(t, siteOptions{redisURL: "redis://:${REDIS_PASSWORD}@" + r.Addr})
	s.down()
	s.offer(60)
	time.Sleep(300 * time.Millisecond)
	refusals := s.snapshot()
	if text := strings.Join(refusals, "\n"); !strings.Contains(text, "rediss://") {
		t.Errorf("the refusals do not say what to do: %s", text)
	}
	for _, n := range s.nodes {
		if !strings.Contains(n.Logs(), "rediss://") {
			t.Errorf("%s's log does not say what to do", n.Node)
		}
	}
}
