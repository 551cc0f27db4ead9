// Package stores runs whole clusters against stores that fail: real nodes, a real
// redis-server, and the stand-in for Cloudflare KV.
//
//	nodes ──HTTP──▶ testnet/kv       the first choice: faults are switched on it
//	  └────RESP──▶ redis-server      the fallback: stopped, killed, emptied
//
// Everything is a test. What takes minutes waits for its flag:
//
//	go test ./testnet/stores -run TestTakesNeverWaitForAStore -v -phase 5s
//	go test ./testnet/stores -run TestChaos -v -chaos 10m -seed 1
//	go test ./testnet/stores -run TestALaggingStore -v
package stores

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/node"
	"github.com/openclaw/edge/testnet/kv"
	"github.com/openclaw/edge/testnet/process"
	"github.com/openclaw/edge/testnet/program"
	"github.com/openclaw/edge/testnet/redis"
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Setenv(tokenEnv, token)
	code := m.Run()
	process.Cleanup()
	os.Exit(code)
}

const (
	tokenEnv = "TESTNET_STORES_TOKEN"
	token    = "testnet-stores-token"
)

// world is the stores that a cluster shares.
type world struct {
	kv    *kv.Server
	kvURL string // base_url
	redis *redis.Server
}

func newWorld(t testing.TB, cfg kv.Config) *world {
	t.Helper()
	cfg.Token = token
	w := &world{kv: kv.New(cfg), redis: redis.Start(t, redis.Options{})}
	server := httptest.NewServer(w.kv)
	t.Cleanup(func() { w.kv.Close(); server.CloseClientConnections(); server.Close() })
	w.kvURL = server.URL + kv.BasePath
	return w
}

func (w *world) persist(every, reconcile time.Duration) node.Persist {
	return node.Persist{
		SnapshotEvery: every, ReconcileEvery: reconcile, Backend: node.BackendCloudflare, AccountID: "account",
		NamespaceID: "namespace", TokenEnv: tokenEnv, BaseURL: w.kvURL, RedisURL: node.Secret(w.redis.URL()),
	}
}

// member is a node in this process.
type member struct {
	*node.Node
	cfg  node.Config
	log  *program.Output
	stop func()
}

// members configures nodes on loopback, whose one limit hardly refills.
func members(t testing.TB, count int, p node.Persist) (all []*member) {
	t.Helper()
	rate, err := crdt.ParseRate("100/h")
	if err != nil {
		t.Fatal(err)
	}
	for i := range count {
		m := &member{cfg: node.DefaultConfig(), log: &program.Output{}}
		c := &m.cfg
		c.Node, c.Gossip, c.NoListen, c.DataDir = fmt.Sprint("edge-", i+1), process.FreeAddr(t), true, t.TempDir()
		c.Logger = slog.New(slog.NewTextHandler(m.log, &slog.HandlerOptions{Level: slog.LevelInfo}))
		c.Limits = []crdt.Definition{{Name: "hourly", Capacity: 1_000_000 * crdt.Token, Rate: rate, MaxBuckets: 1_000_000, TTL: 24 * time.Hour}}
		c.LimitsVersion, c.Persist = 1, p
		if i > 0 {
			c.Join = []string{all[0].cfg.Gossip}
		}
		// They have run before, long enough to have their burst of KV calls.
		if err := kv.Rested(c.DataDir); err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

// run starts the node, which need not be ready yet.
func (m *member) run(t testing.TB) {
	t.Helper()
	n, err := node.New(m.cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	var once sync.Once
	m.Node, m.stop = n, func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("%s: %v", m.cfg.Node, err)
			}
		})
	}
	t.Cleanup(m.stop)
}

func start(t testing.TB, all []*member) {
	t.Helper()
	for _, m := range all {
		m.run(t)
	}
	for _, m := range all {
		eventually(t, time.Minute, m.cfg.Node+" is ready in a whole cluster", func() bool {
			ok, _ := m.Ready()
			return ok && m.Stats().AliveMembers == len(all)
		})
	}
}

func eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for began := time.Now(); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > within {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}
