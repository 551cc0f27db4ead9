package stores

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openclaw/edge/testnet/kv"
	"github.com/openclaw/edge/testnet/netns"
	"github.com/openclaw/edge/testnet/process"
	"github.com/openclaw/edge/testnet/redis"
)

// town is a cluster of real processes, each on a machine of its own where that is possible,
// with its stores.
type town struct {
	kv           *kv.Server
	redis        *redis.Server
	redisStopped bool
	net          *netns.InTest // nil: links are not cut
	cuts         [][2]int
	healed       time.Time // the links
	lag          time.Duration
	nodes        []*citizen
}

// citizen is a process that comes and goes. Its methods but take are the test's goroutine's.
type citizen struct {
	*process.Node
	url   atomic.Pointer[string] // of the API; nil: down
	ready atomic.Bool
	up    bool

	mu   sync.Mutex
	snap time.Time // of this process, as it says: what changed before is stored
}

const (
	adminToken = "town-admin-token"
	startingUp = 60 * time.Second
)

var townClient = &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

func newTown(t *testing.T, count int) *town {
	t.Helper()
	w := &town{lag: 3 * time.Second}
	host := "127.0.0.1"
	if _, err := exec.LookPath("nft"); err == nil && os.Geteuid() == 0 {
		w.net = netns.Start(t, count)
		host = w.net.Host()
	} else {
		t.Log("no root, or no nft: links are not cut")
	}
	w.redis = redis.Start(t, redis.Options{Password: "town-password", Args: []string{"--bind", "127.0.0.1", host}})
	w.kv = kv.New(kv.Config{Token: token, Lag: w.lag, Stale: 0.5, EmptyPages: true})
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- w.kv.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	config := strings.NewReplacer("BASE", "http://"+l.Addr().String()+kv.BasePath, "TOKEN_ENV", tokenEnv,
		"REDIS", strings.Replace(w.redis.URL(), "127.0.0.1", host, 1), "EVERY", chaosEvery.String()).Replace(townConfig)
	for i := range count {
		o := process.Options{Node: fmt.Sprint("edge-", i+1), Region: "eu", Config: config, Log: "info", Env: []string{"TOWN_ADMIN=" + adminToken}}
		if w.net != nil {
			o.Host, o.Gossip, o.Wrap = w.net.Addr(i), w.net.Addr(i)+":7946", []string{"ip", "netns", "exec", w.net.Name(i)}
		} else {
			o.Gossip = process.FreeAddr(t)
		}
		if i > 0 {
			o.Join = []string{w.nodes[0].Options.Gossip}
		}
		n := &citizen{Node: process.Start(t, o)}
		n.began()
		w.nodes = append(w.nodes, n)
	}
	watching, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	for _, n := range w.nodes {
		go n.watch(watching)
	}
	w.whole(t)
	return w
}

// The limit hardly refills and never forgets, so that what is missing of a bucket is what was
// taken. share: a cut makes no node unready.
const townConfig = `version: 1
limits:
  - {name: g, capacity: 100000, refill_rate: 1/h, on_partition: share, ttl: 24h}
persist:
  snapshot_every: EVERY
  reconcile_every: 10s
  kv: {backend: cloudflare, account_id: account, namespace_id: namespace, token_env: TOKEN_ENV, base_url: "BASE"}
  redis: {url: "REDIS"}
admin: {token_env: TOWN_ADMIN}
`

func (w *town) split() (up, down []*citizen) {
	for _, n := range w.nodes {
		if n.up {
			up = append(up, n)
		} else {
			down = append(down, n)
		}
	}
	return up, down
}

func (w *town) cut(from, to int) {
	w.net.CutOneWay(from, to)
	w.cuts = append(w.cuts, [2]int{from, to})
}

func (w *town) heal() {
	if w.net != nil {
		w.net.Heal()
	}
	if len(w.cuts) > 0 {
		w.cuts, w.healed = nil, time.Now()
	}
}

// whole waits until all nodes run, reach each other, and hold the same; and returns what was
// taken of every key. It goes by a key's level, as slots come and go with generations.
func (w *town) whole(t *testing.T) (taken map[string]float64) {
	t.Helper()
	for _, n := range w.nodes {
		n.Ready(startingUp)
		n.Eventually(startingUp, "sees a whole cluster", func() bool {
			var c struct {
				Expected  int `json:"expected_members"`
				Reachable int `json:"reachable_members"`
			}
			return n.Get("/v1/cluster", &c) && c.Expected == len(w.nodes) && c.Reachable == len(w.nodes)
		})
	}
	why := ""
	for began := time.Now(); time.Since(began) < startingUp; time.Sleep(200 * time.Millisecond) {
		if taken, why = w.same(); why == "" {
			return taken
		}
	}
	t.Fatalf("the nodes do not agree: %s", why)
	return nil
}

func (w *town) same() (taken map[string]float64, why string) {
	for _, n := range w.nodes {
		mine := map[string]float64{}
		for _, key := range allKeys {
			v, ok := n.taken(key)
			if !ok {
				return nil, n.name() + " does not answer"
			}
			mine[key] = v
			if taken != nil && taken[key] != v {
				return nil, fmt.Sprintf("%s: %s knows of %.0f tokens taken, %s of %.0f", key, n.name(), v, w.nodes[0].name(), taken[key])
			}
		}
		taken = mine
	}
	return taken, ""
}

func (n *citizen) name() string { return n.Node.Node }

func (n *citizen) began() {
	url := "http://" + n.HTTP
	n.url.Store(&url)
	n.up = true
	n.mu.Lock()
	defer n.mu.Unlock()
	n.snap = time.Time{}
}

func (n *citizen) gone() {
	n.url.Store(nil)
	n.ready.Store(false)
	n.up = false
}

func (n *citizen) kill() { n.Kill(); n.gone() }
func (n *citizen) stop() { n.ready.Store(false); n.Stop(); n.gone() }

func (n *citizen) restart() { n.Restart(); n.began() }

// wipe leaves nothing in the data directory but the log.
func (n *citizen) wipe() {
	files, _ := filepath.Glob(filepath.Join(n.Dir, "*"))
	for _, f := range files {
		if base := filepath.Base(f); base != "log" {
			os.RemoveAll(f)
		}
	}
}

// watch notes whether a load balancer would send traffic here.
func (n *citizen) watch(ctx context.Context) {
	for ctx.Err() == nil {
		url := n.url.Load()
		ok := false
		if url != nil {
			if resp, err := townClient.Get(*url + "/readyz"); err == nil {
				resp.Body.Close()
				ok = resp.StatusCode == http.StatusOK
			}
		}
		n.ready.Store(ok && n.url.Load() == url)
		if ok {
			n.noteSnapshot(*url)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (n *citizen) noteSnapshot(url string) {
	resp, err := townClient.Get(url + "/v1/cluster")
	if err != nil {
		return
	}
	defer resp.Body.Close()
	var c storeBody
	if json.NewDecoder(resp.Body).Decode(&c) != nil || c.Store.Last == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if now := n.url.Load(); now != nil && *now == url {
		n.snap = *c.Store.Last
	}
}

// packed is a time before which all that the process knew is in its newest snapshot. Zero: it
// has not made one.
func (n *citizen) packed() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.snap
}

// take: whether it was admitted; !ok: there was no answer.
func (n *citizen) take(url, key string, cost int) (allowed, ok bool) {
	resp, err := townClient.Post(fmt.Sprintf("%s/v1/take/g/%s?cost=%d", url, key, cost), "", nil)
	if err != nil {
		return false, false
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode == http.StatusOK, resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusTooManyRequests
}

// taken is what is missing of a key.
func (n *citizen) taken(key string) (tokens float64, ok bool) {
	var b struct {
		Tokens   float64 `json:"tokens"`
		Debt     float64 `json:"debt"`
		Capacity float64 `json:"capacity"`
	}
	ok = n.Get("/v1/buckets/g/"+key, &b)
	return b.Capacity - b.Tokens + b.Debt, ok
}

func (n *citizen) admin(method, path string, v any) bool {
	r, err := http.NewRequest(method, "http://"+n.HTTP+path, nil)
	if err != nil {
		return false
	}
	r.Header.Set("Authorization", "Bearer "+adminToken)
	client := &http.Client{Timeout: 30 * time.Second, Transport: townClient.Transport}
	resp, err := client.Do(r)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode == http.StatusOK && (v == nil || json.Unmarshal(b, v) == nil)
}

// snapshot asks for one: true when everything is stored.
func (n *citizen) snapshot() bool { return n.admin("POST", "/-/snapshot", nil) }

type storeBody struct {
	Store struct {
		Active  bool       `json:"fallback_active"`
		Pending int        `json:"pending_segments"`
		Last    *time.Time `json:"last_snapshot"`
	} `json:"store"`
}

// stored: what changed before is stored; nil: nothing.
func (n *citizen) stored() *time.Time {
	var c storeBody
	n.Get("/v1/cluster", &c)
	return c.Store.Last
}

func (n *citizen) storedSince(at time.Time) bool {
	last := n.stored()
	return last != nil && last.After(at)
}

// nothingWaits: all that this node owns is in KV.
func (n *citizen) nothingWaits() bool {
	var c storeBody
	return n.Get("/v1/cluster", &c) && !c.Store.Active && c.Store.Pending == 0 && c.Store.Last != nil
}
