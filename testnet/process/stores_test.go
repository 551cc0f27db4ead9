package process

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openclaw/edge/testnet/kv"
	"github.com/openclaw/edge/testnet/redis"
)

// Nothing that a node says may contain these.
const (
	kvSecret    = "kv-Secret-0d1f6a"
	redisSecret = "redis-Secret-77b2c9"
)

const (
	storeKeys     = 24    // of the limit under load
	storeCapacity = 90000 // at a token an hour: a level is a count of takes
)

// site is three nodes, a KV stand-in and a Redis. What the nodes hold can be told to the token,
// as the limit "g" refills one in an hour.
type site struct {
	t     *testing.T
	kv    *kv.Server
	doors []*door // one a node: where it finds KV
	redis *redis.Server
	nodes []*Node
	load  *Load
	asker http.Client

	owed  [storeKeys]float64 // takes that a snapshot of all nodes has acknowledged
	acked int                // such snapshots
}

// siteOptions change what a site is made of; the zero value is the usual one.
type siteOptions struct {
	kv       kv.Config
	redis    redis.Options
	redisURL string // "": the site's own Redis, with its password; noRedis: none
	cluster  bool   // what redisURL names is one of a Redis Cluster
	env      []string
	log      string // level; "": info
	fresh    bool   // its nodes never ran before: they earn each call of KV

	reconcileEvery time.Duration // 0: 3 s
}

const noRedis = "none"

func newSite(t *testing.T, o siteOptions) *site {
	t.Helper()
	redis.Skip(t)
	o.kv.Token = kvSecret
	s := &site{t: t, kv: kv.New(o.kv), asker: http.Client{Timeout: 30 * time.Second}}
	if o.redisURL == "" {
		o.redis.Password = redisSecret
		s.redis = redis.Start(t, o.redis)
		o.redisURL = "redis://:${REDIS_PASSWORD}@" + s.redis.Addr
		if s.redis.TLS {
			o.redisURL = strings.Replace(o.redisURL, "redis", "rediss", 1)
			o.env = append(o.env, "SSL_CERT_FILE="+s.redis.CA)
		}
	}
	gossip := []string{FreeAddr(t), FreeAddr(t), FreeAddr(t)}
	for i := range gossip {
		var join []string // the first one founds; all of them with seeds would wait 10 s for each other
		if i > 0 {
			join = gossip[:1]
		}
		d := openDoor(t, s.kv)
		s.doors = append(s.doors, d)
		dir := t.TempDir()
		if !o.fresh {
			if err := kv.Rested(dir); err != nil {
				t.Fatal(err)
			}
		}
		s.nodes = append(s.nodes, Start(t, Options{
			Node: fmt.Sprintf("edge-%d", i+1), Region: "eu", Dir: dir, Gossip: gossip[i], API: FreeAddr(t), Join: join, Log: cmp.Or(o.log, "info"),
			Config: storesConfig(d.addr, o.redisURL, o.cluster, cmp.Or(o.reconcileEvery, 3*time.Second)),
			Env:    append([]string{"KV_TOKEN=" + kvSecret, "REDIS_PASSWORD=" + redisSecret}, o.env...),
		}))
	}
	t.Cleanup(func() {
		for _, n := range s.nodes {
			for _, path := range []string{"/v1/cluster", "/v1/limits", "/v1/buckets/g/key-0", "/readyz", "/healthz", "/v1/nothing"} {
				s.ask(n, "GET", "http://"+n.HTTP+path)
			}
			s.metrics(n)
			s.hush(n.Node+"'s log", n.Logs())
		}
	})
	whole(t, s.nodes)
	return s
}

func storesConfig(kvAddr, redisURL string, cluster bool, reconcileEvery time.Duration) string {
	redisLine := fmt.Sprintf("  redis: {url: %q, cluster: %t}\n", redisURL, cluster)
	if redisURL == noRedis {
		redisLine = ""
	}
	return fmt.Sprintf(`version: 1
limits:
  - {name: g, capacity: %d, refill_rate: 1/h}
  - {name: ordinary, capacity: 100, refill_rate: 10}
persist:
  snapshot_every: 1s
  reconcile_every: %v
  kv: {backend: cloudflare, account_id: account, namespace_id: namespace, token_env: KV_TOKEN, base_url: "http://%s/client/v4"}
`, storeCapacity, reconcileEvery, kvAddr) + redisLine
}

// offer begins the load: rate takes a second at each node.
func (s *site) offer(rate float64) {
	s.load = (&Load{Nodes: s.nodes, Limit: "g", Key: "key", Keys: storeKeys, PerNode: rate, Workers: 4}).Begin()
	s.t.Cleanup(func() { s.load.Stop() })
}

// hush fails the test if a text contains a secret.
func (s *site) hush(what, text string) {
	s.t.Helper()
	for _, secret := range []string{kvSecret, redisSecret} {
		if at := strings.Index(text, secret); at >= 0 {
			s.t.Errorf("%s contains a secret: …%.200s", what, text[max(0, at-100):])
		}
	}
}

// ask is the status and the body of a request; 0 if there was no answer.
func (s *site) ask(n *Node, method, url string) (status int, body string) {
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		s.t.Error(err)
		return 0, ""
	}
	resp, err := s.asker.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	s.hush(fmt.Sprintf("%s %s of %s", method, url, n.Node), string(b))
	return resp.StatusCode, string(b)
}

// metrics is all series of a node, named as they stand in the exposition; none if it is silent.
func (s *site) metrics(n *Node) map[string]float64 {
	_, body := s.ask(n, "GET", "http://"+n.Metrics+"/metrics")
	all := map[string]float64{}
	for line := range strings.Lines(body) {
		if at := strings.LastIndexByte(line, ' '); at > 0 && line[0] != '#' {
			var v float64
			if _, err := fmt.Sscan(line[at+1:], &v); err == nil {
				all[line[:at]] = v
			}
		}
	}
	return all
}

// sum adds a series of all nodes.
func (s *site) sum(series string) (sum float64) {
	for _, n := range s.nodes {
		sum += s.metrics(n)[series]
	}
	return sum
}

// taken is what a node shows of each key; ok is false if it did not answer.
func (s *site) taken(n *Node) (counts [storeKeys]float64, ok bool) {
	for k := range counts {
		var b bucketBody
		if !n.Get("/v1/buckets/g/"+s.load.KeyName(k), &b) {
			return counts, false
		}
		counts[k] = storeCapacity - b.Tokens + b.Debt
	}
	return counts, true
}

// snapshot asks all nodes for a snapshot. When all say that it is stored, what all had shown
// before is owed: whichever of them owns a key's segment held at least that much.
func (s *site) snapshot() (refusals []string) {
	var least [storeKeys]float64
	for i, n := range s.nodes {
		counts, ok := s.taken(n)
		if !ok {
			return []string{n.Node + " does not answer"}
		}
		for k := range least {
			if i == 0 || counts[k] < least[k] {
				least[k] = counts[k]
			}
		}
	}
	said := make([]string, len(s.nodes))
	var wg sync.WaitGroup
	for i, n := range s.nodes {
		wg.Go(func() {
			if status, body := s.ask(n, "POST", "http://"+n.HTTP+"/-/snapshot"); status != 200 {
				said[i] = fmt.Sprintf("%s: %d %s", n.Node, status, body)
			}
		})
	}
	wg.Wait()
	for _, text := range said {
		if text != "" {
			refusals = append(refusals, text)
		}
	}
	if refusals == nil {
		s.acked++
		for k := range least {
			s.owed[k] = max(s.owed[k], least[k])
		}
	}
	return refusals
}

// stored waits until a snapshot of all nodes is acknowledged.
func (s *site) stored(within time.Duration) {
	s.t.Helper()
	var refusals []string
	for until := time.Now().Add(within); ; time.Sleep(100 * time.Millisecond) {
		if refusals = s.snapshot(); refusals == nil {
			return
		}
		if time.Now().After(until) {
			s.t.Fatalf("no snapshot within %v: %s", within, refusals)
		}
	}
}

// settled waits until all nodes agree on every key, and hold all that was admitted.
func (s *site) settled() {
	s.t.Helper()
	s.nodes[0].Eventually(10*time.Second, "agrees with the others on all takes", func() bool {
		for _, n := range s.nodes {
			counts, ok := s.taken(n)
			for k := range counts {
				if least, most := s.load.Taken(k); !ok || counts[k] < float64(least) || counts[k] > float64(most) {
					return false
				}
			}
		}
		return true
	})
}

// loseAll kills all nodes at once and empties their disks: only the stores remain.
func (s *site) loseAll() {
	s.t.Helper()
	s.load.Stop()
	var wg sync.WaitGroup
	for _, n := range s.nodes {
		wg.Go(n.Kill)
	}
	wg.Wait()
	for _, n := range s.nodes {
		n.Wipe()
	}
}

// reborn starts the nodes again and holds what they restored against what is owed. Only
// what a store shows late may come late.
func (s *site) reborn(late time.Duration) {
	s.t.Helper()
	began := time.Now()
	for _, n := range s.nodes {
		n.Restart()
	}
	for _, n := range s.nodes {
		n.Ready(40 * time.Second)
	}
	ready := time.Since(began)
	lost := s.lost()
	for lost != nil && time.Since(began) < late {
		time.Sleep(100 * time.Millisecond)
		lost = s.lost()
	}
	s.t.Logf("ready again after %v, all there after %v", ready.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	for _, text := range lost {
		s.t.Error(text)
	}
}

// lost is what the nodes do not show of what is owed. What they show beyond what was taken
// fails the test at once.
func (s *site) lost() (lost []string) {
	s.t.Helper()
	for _, n := range s.nodes {
		counts, ok := s.taken(n)
		if !ok {
			lost = append(lost, n.Node+" does not answer")
			continue
		}
		keys, takes := 0, 0.0
		for k := range counts {
			if counts[k] < s.owed[k] {
				keys++
				takes += s.owed[k] - counts[k]
			}
			if _, most := s.load.Taken(k); counts[k] > float64(most) {
				s.t.Errorf("%s shows %.0f takes of key %d; there were at most %d", n.Node, counts[k], k, most)
			}
		}
		if keys > 0 {
			lost = append(lost, fmt.Sprintf("%s lost %.0f acknowledged takes of %d keys\nowed  %v\nshows %v", n.Node, takes, keys, s.owed, counts))
		}
	}
	return lost
}

// served fails the test if a take went without an answer.
func (s *site) served() {
	s.t.Helper()
	if n := s.load.Unserved.Load(); n > 0 {
		s.t.Errorf("%d takes went without an answer", n)
	}
}

// thrifty holds the calls of KV against the budget: 200 calls at once and 3 a second are what the
// cluster may make, however often its processes start. (A second more for calls that were slow to
// arrive.)
func (s *site) thrifty() {
	s.t.Helper()
	stats := s.kv.Stats()
	calls := stats.Log
	for i := range calls {
		for j := i; j < len(calls); j++ {
			if most := 200 + 3*(1+calls[j].At.Sub(calls[i].At).Seconds()); float64(j-i+1) > most {
				s.t.Fatalf("%d calls in %v, the budget is %.0f", j-i+1, calls[j].At.Sub(calls[i].At), most)
			}
		}
	}
	s.t.Logf("KV: %d calls, %d in the fullest five minutes", stats.Total(), stats.Fullest(5*time.Minute))
}

// calls is how many the stand-in got.
func (s *site) calls() int { return s.kv.Stats().Total() }

// down closes all doors to KV, up opens them.
func (s *site) down() {
	for _, d := range s.doors {
		d.close()
	}
}

func (s *site) up() {
	s.t.Helper()
	for _, d := range s.doors {
		d.open()
	}
}

// door is an address of the stand-in, which can be closed: then connections are refused.
type door struct {
	t    testing.TB
	kv   http.Handler
	addr string

	mu      sync.Mutex   // guards the rest
	server  *http.Server // nil: closed
	passing func(r *http.Request, serve func())
}

func openDoor(t testing.TB, kv http.Handler) *door {
	d := &door{t: t, kv: kv, addr: FreeAddr(t)}
	d.open()
	t.Cleanup(d.close)
	return d
}

func (d *door) open() {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.server != nil {
		return
	}
	l, err := net.Listen("tcp", d.addr)
	if err != nil {
		d.t.Fatal(err)
	}
	d.server = &http.Server{Handler: d, ReadHeaderTimeout: 10 * time.Second}
	go d.server.Serve(l) // until close
}

func (d *door) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.server != nil {
		d.server.Close()
		d.server = nil
	}
}

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	passing := d.passing
	d.mu.Unlock()
	if passing == nil {
		d.kv.ServeHTTP(w, r)
		return
	}
	passing(r, func() { d.kv.ServeHTTP(w, r) })
}

// watch has f decide what becomes of every request; nil: it is served.
func (d *door) watch(f func(r *http.Request, serve func())) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.passing = f
}
