package process

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/openclaw/edge/testnet/kv"
)

// outage is something that happens to the stores while three nodes take.
type outage struct {
	name  string
	site  siteOptions
	begin func(s *site)
	end   func(s *site)

	result string        // of a KV put, which the metrics must have counted; "": any
	stored bool          // snapshots are acknowledged meanwhile
	active bool          // the fallback is used meanwhile
	heals  time.Duration // after its end, until KV has everything; 0: not while the processes live
	lag    time.Duration // of KV for readers
	says   string        // in the answer to who asks for a snapshot that cannot be
	calls  int           // of KV meanwhile, at most, beside the budget's 3 a second; 0: 6
	rare   bool          // with -long only: another one here takes the same way through the code
}

func faulty(faults ...kv.Fault) func(s *site) {
	return func(s *site) {
		for _, f := range faults {
			s.kv.Fault(f)
		}
	}
}

func heal(s *site) { s.kv.Heal() }

const (
	opened = 35 * time.Second // the breaker's 20 s, and a probe's back-off
	struck = 80 * time.Second // a minute for a person to mend it, and a back-off
	// After a minute's outage the pauses between two tries have grown to one, give or take a half.
	backOff = 90 * time.Second
	// Lists that KV answers while it breaks puts keep the breaker closed: one reconcile for thirty
	// rounds, as by default, does not matter; one for three would double the calls.
	seldom = 30 * time.Second
)

// Whatever KV answers: takes go on, Redis takes what KV does not, and when all nodes die at once
// and their disks with them, everything acknowledged is restored; then KV alone is enough.
func TestKVFails(t *testing.T) {
	t.Parallel()
	limited := func(code int, retryAfter string) func(s *site) {
		return faulty(kv.Fault{Kind: kv.Failure, Status: 429, Code: code, RetryAfter: retryAfter})
	}
	for _, o := range []outage{
		{name: "429, the day's quota", begin: limited(10048, ""), result: "throttled", stored: true, active: true},
		{name: "429, the account's rate", begin: limited(971, "3"), result: "throttled", stored: true, active: true, heals: 15 * time.Second},
		{name: "429, the token's rate", begin: limited(10429, "2"), result: "throttled", stored: true, active: true, heals: 15 * time.Second, rare: true},
		{name: "429, a key's rate", begin: limited(10022, ""), stored: true, active: true, heals: 15 * time.Second, calls: 200, rare: true},
		{name: "500", begin: faulty(kv.Fault{Kind: kv.Failure}), result: "failed", stored: true, active: true, heals: opened, rare: true},
		{name: "HTML 502", begin: faulty(kv.Fault{Kind: kv.HTML}), result: "failed", stored: true, active: true, heals: opened},
		{name: "200 without success", begin: faulty(kv.Fault{Kind: kv.False}), result: "failed", stored: true, active: true, heals: opened, rare: true},
		{name: "401", begin: faulty(kv.Fault{Kind: kv.Failure, Status: 401, Code: 10000}), result: "denied", stored: true, active: true, heals: struck},
		{name: "hangs", begin: faulty(kv.Fault{Kind: kv.Hang}), stored: true, active: true, heals: opened},
		{name: "resets", begin: faulty(kv.Fault{Kind: kv.Reset}), result: "unknown", stored: true, active: true, heals: opened, rare: true},
		{name: "applies, and the answer is lost", site: siteOptions{reconcileEvery: seldom}, begin: faulty(kv.Fault{Op: "put", Kind: kv.Lost}), result: "unknown", stored: true, active: true, heals: opened},
		{name: "applies late", site: siteOptions{reconcileEvery: seldom}, begin: faulty(kv.Fault{Op: "put", Kind: kv.Late, Delay: kv.Duration(3 * time.Second)}), stored: true, active: true, heals: opened, calls: 18, rare: true},
		{name: "applies half", begin: faulty(kv.Fault{Op: "put", Kind: kv.Partial}), result: "partial", stored: true, heals: 15 * time.Second, calls: 200},
		{name: "every other call fails", begin: faulty(kv.Fault{Kind: kv.Failure, Rate: 0.5}), stored: true, heals: opened, calls: 200, rare: true},
		{name: "is down", begin: (*site).down, end: (*site).up, result: "failed", stored: true, active: true, heals: opened},
		{name: "one node does not reach it", begin: func(s *site) { s.doors[1].close() }, end: (*site).up, result: "failed", stored: true, heals: opened, calls: 200},
		{name: "shows old states", begin: func(s *site) {}, stored: true, heals: time.Second, lag: 6 * time.Second, calls: 200},
	} {
		o.run(t)
	}
}

func (o outage) run(t *testing.T) {
	if o.rare && !*long {
		return
	}
	t.Run(o.name, func(t *testing.T) {
		t.Parallel()
		play(t, o)
	})
}

// play lets an outage happen, and all nodes die in it or, where there is time, after it.
func play(t *testing.T, o outage) {
	if o.end == nil {
		o.end = heal
	}
	lag, late := o.lag, time.Duration(0)
	if *long {
		lag *= 10
	}
	if lag > 0 {
		late = lag + 20*time.Second // KV is read again every 15 s
	}
	s := newSite(t, o.site)
	s.offer(60)
	time.Sleep(time.Second)
	s.stored(5 * time.Second)
	quiet := s.load.P99()
	before := s.calls()
	o.begin(s)
	s.kv.Lag(lag)
	began := time.Now()
	seen := s.endure(outageTime())
	lasted, calls := time.Since(began), s.calls()-before
	t.Logf("outage of %v: %d snapshots acknowledged, %d refused, %d KV calls; p99 of a take %v, before %v",
		lasted.Round(time.Millisecond), seen.acked, seen.refused, calls, s.load.P99(), quiet)
	s.check(o, seen)
	if o.calls == 0 {
		o.calls = 6
	}
	if most := o.calls + int(3*lasted.Seconds()); calls > most {
		t.Errorf("%d KV calls in an outage of %v, want at most %d", calls, lasted, most)
	}
	if *long && o.heals > 0 || o.heals <= 20*time.Second && o.heals > 0 || !o.stored {
		o.end(s)
		if *long {
			s.heals(o.heals + backOff)
		} else if o.stored {
			s.heals(o.heals)
		} else {
			s.stored(25 * time.Second) // by whichever store comes back first
		}
		s.load.Stop()
		s.settled()
		s.stored(5 * time.Second)
		if *long && s.redis != nil {
			s.redisEmpty(5 * time.Minute)
		}
	}
	s.served()
	s.loseAll()
	o.end(s)
	s.reborn(late)
	if s.redis != nil {
		s.stored(15 * time.Second)
		s.loseAll()
		if err := s.redis.Do("FLUSHALL"); err != nil {
			t.Fatal(err)
		}
		s.reborn(late)
	}
	s.thrifty()
}

func outageTime() time.Duration {
	if *long {
		return time.Minute
	}
	return 4 * time.Second
}

// endured is what was seen during an outage.
type endured struct {
	acked, refused int
	active         float64 // nodes at once that used the fallback
	pending        float64
	refusal        string
}

// endure asks for snapshots until lasts has passed, and looks at the metrics.
func (s *site) endure(lasts time.Duration) (e endured) {
	for end := time.Now().Add(lasts); time.Now().Before(end); {
		time.Sleep(300 * time.Millisecond) // for every node to have something to store
		if refusals := s.snapshot(); refusals == nil {
			e.acked++
		} else {
			e.refused++
			e.refusal = fmt.Sprint(refusals)
		}
		e.active = max(e.active, s.sum("openclaw_store_fallback_active"))
		e.pending = max(e.pending, s.sum(`openclaw_store_pending_segments{store="redis"}`))
	}
	return e
}

// check holds what was seen against what the outage should show.
func (s *site) check(o outage, e endured) {
	s.t.Helper()
	if o.stored && e.acked == 0 {
		s.t.Errorf("no snapshot was acknowledged: %s", e.refusal)
	}
	if !o.stored && e.acked > 0 {
		s.t.Errorf("%d snapshots were acknowledged that nobody has", e.acked)
	}
	if !strings.Contains(e.refusal, o.says) {
		s.t.Errorf("the refusal does not say %q: %s", o.says, e.refusal)
	}
	if o.active && (e.active < float64(len(s.nodes)) || e.pending == 0) {
		s.t.Errorf("the metrics showed %.0f nodes with an active fallback and %.0f pending segments", e.active, e.pending)
	}
	if o.result != "" {
		series := fmt.Sprintf(`openclaw_store_operations_total{op="put",result="%s",store="kv"}`, o.result)
		if s.sum(series) == 0 {
			s.t.Errorf("%s is 0", series)
		}
	}
}

// redisEmpty waits until nothing is left in Redis: KV has it, and every reader has seen that.
func (s *site) redisEmpty(within time.Duration) {
	s.t.Helper()
	began := time.Now()
	s.nodes[0].Eventually(within, "and the others leave nothing in Redis", func() bool {
		time.Sleep(time.Second)
		size, err := s.redis.Ask("DBSIZE")
		return err == nil && size == int64(0)
	})
	s.t.Logf("Redis empty %v after that", time.Since(began).Round(time.Second))
}

// heals waits until KV has everything again, by the metrics.
func (s *site) heals(within time.Duration) {
	s.t.Helper()
	began := time.Now()
	s.nodes[0].Eventually(within, "and the others have everything in KV again", func() bool {
		time.Sleep(50 * time.Millisecond)
		return s.sum("openclaw_store_fallback_active") == 0 && s.sum(`openclaw_store_pending_segments{store="redis"}`) == 0
	})
	s.t.Logf("all in KV again after %v", time.Since(began).Round(time.Millisecond))
}
