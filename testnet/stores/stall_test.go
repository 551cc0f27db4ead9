package stores

import (
	"flag"
	"fmt"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/openclaw/edge/node"
	"github.com/openclaw/edge/testnet/kv"
	"github.com/openclaw/edge/testnet/latency"
)

var (
	phase   = flag.Duration("phase", time.Second, "how long takes are measured in each kind of outage")
	buckets = flag.Int("buckets", 20_000, "that each node of TestTakesNeverWaitForAStore holds and stores")
)

// What no take may wait at p99, and what none may wait at all: generous to a busy machine, but
// less than any store takes to fail. The ratio to the quiet ones is in the log.
const (
	stallAtP99 = 50 * time.Millisecond
	stallAtAll = 3 * time.Second
)

// Whatever the stores do, takes are answered from memory: three nodes take all along, while
// every kind of outage comes and goes. The figures are in the log (-v).
func TestTakesNeverWaitForAStore(t *testing.T) {
	w := newWorld(t, kv.Config{})
	keys := make([]string, *buckets)
	for i := range keys {
		keys[i] = fmt.Sprintf("key-%012d", i)
	}
	all := members(t, 3, w.persist(time.Hour, 24*time.Hour))
	start(t, all)
	fill(t, all, keys)
	alone := control(t, all[0], keys)
	load := func(what string, quiet *latency.Histogram) *latency.Histogram {
		t.Helper()
		before := busy()
		h, c := takes(t, all, alone, keys, *phase)
		ratio := ""
		if quiet != nil {
			ratio = fmt.Sprintf(", at p99 %.2f times the quiet", float64(h.At(0.99))/float64(quiet.At(0.99)))
		}
		s := all[0].Stats().Store
		t.Logf("%-25s %v%s; without stores p99 %v p99.9 %v; %s; fallback %v", what, h, ratio, c.At(0.99), c.At(0.999), busy().since(before), s.FallbackActive)
		if h.At(0.99) > stallAtP99 || h.Worst() > stallAtAll {
			t.Errorf("%s: takes wait %v at p99, %v at most", what, h.At(0.99), h.Worst())
		}
		return h
	}
	quiet := load("quiet", nil)
	load("quiet again", quiet)

	for _, m := range all { // again, with three rounds to a phase
		m.stop()
		m.cfg.Persist = w.persist(*phase/3, *phase)
	}
	start(t, all)
	load("rounds", quiet)
	for i, o := range outages(w) {
		if i > 0 && *phase > time.Second { // else they run into each other: a breaker is open for 20 s
			inKV(t, all)
		}
		o.begin()
		load(o.name, quiet)
		for tries := 0; i == 0 && fallen(all) == 0 && tries < 20; tries++ { // a short phase may end before a round does
			load(o.name, quiet)
		}
		o.end()
	}
	load("recovery, reconcile", quiet)
	inKV(t, all)
	load("whole again", quiet)
	for _, m := range all {
		s := m.Stats().Store
		t.Logf("%s: reconciles %v, %+v", m.cfg.Node, s.Reconciles, s.Stores)
	}
	t.Logf("calls of KV: %v", w.kv.Stats().Calls)
	if fallen(all) == 0 {
		t.Error("nothing went to Redis: there was no outage")
	}
}

// fallen is how many segments went to Redis.
func fallen(all []*member) (n uint64) {
	for _, m := range all {
		n += m.Stats().Store.Stores[1].Written
	}
	return n
}

// inKV waits until nothing waits in Redis.
func inKV(t *testing.T, all []*member) {
	t.Helper()
	for _, m := range all {
		eventually(t, 2*time.Minute, "all that "+m.cfg.Node+" owns is in KV", func() bool {
			s := m.Stats().Store
			return !s.FallbackActive && s.Pending == 0
		})
	}
}

type outage struct {
	name       string
	begin, end func()
}

// outages of both stores, in this order.
func outages(w *world) []outage {
	fault := func(f kv.Fault) func() { return func() { w.kv.Fault(f) } }
	both := func(fs ...func()) func() {
		return func() {
			for _, f := range fs {
				f()
			}
		}
	}
	return []outage{
		{"KV: 500", fault(kv.Fault{Kind: kv.Failure}), w.kv.Heal},
		{"KV: partial bulks", fault(kv.Fault{Kind: kv.Partial}), w.kv.Heal},
		{"KV: slow", fault(kv.Fault{Kind: kv.Slow, Delay: kv.Duration(time.Second)}), w.kv.Heal},
		{"Redis: stopped", w.redis.Stop, w.redis.Cont},
		{"KV: 500, Redis: stopped", both(fault(kv.Fault{Kind: kv.Failure}), w.redis.Stop), both(w.kv.Heal, w.redis.Cont)},
		{"KV: down", fault(kv.Fault{Kind: kv.Down}), w.kv.Heal},
		{"KV: no answer", fault(kv.Fault{Kind: kv.Hang}), w.kv.Heal},
	}
}

// fill takes from every key once, a third of them at each node, and waits until all have all.
func fill(t *testing.T, all []*member, keys []string) {
	t.Helper()
	for i, key := range keys {
		if d, err := all[i%len(all)].Take("hourly", key, int64(1+i%1000)); err != nil || !d.Allowed {
			t.Fatalf("%s: %+v, %v", key, d, err)
		}
		if i%100 == 99 {
			time.Sleep(5 * time.Millisecond) // 20,000 a second
		}
	}
	for _, m := range all {
		eventually(t, time.Minute, m.cfg.Node+" holds all buckets", func() bool { return m.Stats().Limits[0].Live == len(keys) })
	}
}

// control is a node that does not run, with the same buckets: what disturbs its takes is the
// machine.
func control(t *testing.T, like *member, keys []string) *node.Node {
	t.Helper()
	cfg := like.cfg
	cfg.Node, cfg.DataDir, cfg.Persist = "control", "", node.Persist{Backend: node.BackendNone}
	n, err := node.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		n.Take("hourly", key, 1)
	}
	return n
}

// takes are made by one client for each node, 200 in a row twenty times a second: so many that
// the machine does something else as well. Each is followed by one of the control node.
func takes(t *testing.T, all []*member, alone *node.Node, keys []string, lasts time.Duration) (sum, control *latency.Histogram) {
	t.Helper()
	sum, control = &latency.Histogram{}, &latency.Histogram{}
	mu, wg := sync.Mutex{}, sync.WaitGroup{}
	end := time.Now().Add(lasts)
	for k, m := range all {
		wg.Go(func() {
			h, c := &latency.Histogram{}, &latency.Histogram{}
			for i := k; time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
				for range 200 {
					began := time.Now()
					d, err := m.Take("hourly", keys[i%len(keys)], 1)
					between := time.Now()
					alone.Take("hourly", keys[i%len(keys)], 1)
					h.Add(between.Sub(began))
					c.Add(time.Since(between))
					if err != nil || !d.Allowed {
						t.Errorf("%s: %+v, %v", m.cfg.Node, d, err)
						return
					}
					i += 7919
				}
			}
			mu.Lock()
			defer mu.Unlock()
			sum.Merge(h)
			control.Merge(c)
		})
	}
	wg.Wait()
	return sum, control
}

// usage is what the machine's processors did since it started, and this process.
type usage struct {
	at        time.Time
	ours, all time.Duration
}

func busy() (u usage) {
	u.at = time.Now()
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) == nil {
		u.ours = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	stat, err := os.ReadFile("/proc/stat") // Linux; elsewhere 0
	if err != nil {
		return u
	}
	var user, nice, system int64 // in hundredths of a second
	fmt.Sscanf(string(stat), "cpu %d %d %d", &user, &nice, &system)
	u.all = time.Duration(user+nice+system) * 10 * time.Millisecond
	return u
}

func (u usage) since(before usage) string {
	wall := u.at.Sub(before.at).Seconds()
	return fmt.Sprintf("CPU %.1f, others' %.1f", (u.ours-before.ours).Seconds()/wall, max(0, (u.all-before.all-u.ours+before.ours).Seconds()/wall))
}
