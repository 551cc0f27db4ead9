package node

import (
	"context"
	"flag"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/kv"
	"github.com/openclaw/edge/testnet/latency"
	"github.com/openclaw/edge/testnet/program"
)

var aMillion = flag.Bool("million", false, "snapshots of a million buckets instead of 50,000; a minute, 2 GB")

// What a million buckets may take; the smaller run is held to the same.
const (
	mostRestore = 10 * time.Second
	stallAtP99  = 50 * time.Millisecond
	stallAtAll  = 3 * time.Second // more than a busy machine lets anybody wait
)

// A full round of a million buckets, a round of some segments, and the restore, by file and by
// KV; takes go on meanwhile. Run with -million -v for the figures.
func TestAMillionBuckets(t *testing.T) {
	for _, backend := range []string{BackendLocal, BackendCloudflare} {
		t.Run(backend, func(t *testing.T) {
			m := newMillion(t, backend)
			n, stop := m.run(t)
			m.fill(t, n)
			m.full(t, n)
			m.unchanged(t, n)
			m.some(t, n)
			before := m.sample(t, n)
			stop()
			m.restore(t, before)
		})
	}
}

type millionBuckets struct {
	cfg  Config
	kv   *kv.Server
	keys []string
	log  *progress
}

// progress keeps what restore tells the log.
type progress struct{ program.Output }

func (p *progress) lines() (n int) { return strings.Count(p.String(), "restore: ") }

func newMillion(t *testing.T, backend string) *millionBuckets {
	m := &millionBuckets{cfg: testConfig(t), keys: benchKeys(50_000), log: &progress{}}
	if *aMillion {
		m.keys = benchKeys(1_000_000)
	}
	c := &m.cfg
	c.NoListen = true
	c.Logger = slog.New(slog.NewTextHandler(m.log, nil))
	c.Limits = []crdt.Definition{definition(t, "hourly", 1000, "100/h")}
	c.Persist = Persist{SnapshotEvery: time.Hour, ReconcileEvery: 24 * time.Hour, Backend: backend} // rounds are asked for
	if backend != BackendCloudflare {
		return m
	}
	m.kv = kv.New(kv.Config{Token: "million-token"})
	server := httptest.NewServer(m.kv)
	t.Cleanup(func() { m.kv.Close(); server.Close() })
	t.Setenv("MILLION_TOKEN", "million-token")
	c.Persist.AccountID, c.Persist.NamespaceID, c.Persist.TokenEnv = "account", "namespace", "MILLION_TOKEN"
	c.Persist.BaseURL = server.URL + kv.BasePath
	return m
}

// run starts a node and waits until it is ready.
func (m *millionBuckets) run(t *testing.T) (n *Node, stop func()) {
	t.Helper()
	n, err := New(m.cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		ok, why := n.Ready()
		if ok {
			return n, stop
		}
		if time.Since(begin) > time.Minute {
			t.Fatalf("not ready: %s\n%s", why, m.log)
		}
	}
}

func (m *millionBuckets) fill(t *testing.T, n *Node) {
	t.Helper()
	for i, key := range m.keys {
		if d, err := n.Take("hourly", key, int64(1+i%700)); err != nil || !d.Allowed {
			t.Fatalf("%s: %+v, %v", key, d, err)
		}
	}
}

// put is what the store that comes first was given so far.
type put struct {
	values, bytes uint64
	calls         int
}

func (m *millionBuckets) given(n *Node) (p put) {
	s := n.storeStats().Stores[0]
	p.values, p.bytes = s.Written, s.WrittenBytes
	if m.kv != nil {
		p.calls = m.kv.Stats().Total()
	}
	return p
}

// round makes a snapshot and says what it took.
func (m *millionBuckets) round(t *testing.T, n *Node, what string) put {
	t.Helper()
	before, began := m.given(n), time.Now()
	if err := n.Snapshot(t.Context()); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	after := m.given(n)
	p := put{after.values - before.values, after.bytes - before.bytes, after.calls - before.calls}
	t.Logf("%s: %v, %d values, %.1f MB, %d calls of KV", what, time.Since(began).Round(time.Millisecond), p.values, float64(p.bytes)/1e6, p.calls)
	return p
}

// full is the first round, with takes that go on. They are of keys that exist, and so change
// what is being stored.
func (m *millionBuckets) full(t *testing.T, n *Node) {
	t.Helper()
	quiet := takeWhile(n, m.keys, func() { time.Sleep(2 * time.Second) })
	var p put
	during := takeWhile(n, m.keys, func() { p = m.round(t, n, "full round") })
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	t.Logf("takes: quiet %v; during the round %v, at p99 %.2f times the quiet; %d MB of heap in use", quiet, during,
		float64(during.At(0.99))/float64(quiet.At(0.99)), mem.HeapInuse>>20)
	if p99 := during.At(0.99); p99 > stallAtP99 || during.Worst() > stallAtAll {
		t.Errorf("takes waited %v at p99, %v at most, during the round", p99, during.Worst())
	}
	if p.values < 1+bucketSegs {
		t.Errorf("%d values, want at least one for each of %d segments", p.values, 1+bucketSegs)
	}
	if m.kv != nil && p.calls > 20 {
		t.Errorf("%d calls of KV for one round", p.calls)
	}
}

func (m *millionBuckets) unchanged(t *testing.T, n *Node) {
	t.Helper()
	time.Sleep(10 * n.cfg.RoundRegion) // a change that gossip has not sent yet counts again when it is
	m.round(t, n, "what the takes changed meanwhile")
	if p := m.round(t, n, "nothing changed"); p.values != 0 || p.calls != 0 {
		t.Errorf("nothing changed, and %d values were written in %d calls", p.values, p.calls)
	}
}

// some changes keys of ten segments.
func (m *millionBuckets) some(t *testing.T, n *Node) {
	t.Helper()
	l := n.force.Load().byName["hourly"]
	touched := 0
	for _, key := range m.keys {
		if l.segmentOf(key) < 10 && touched < 1000 {
			n.Take("hourly", key, 1)
			touched++
		}
	}
	per := uint64(1 + len(m.keys)*60/bucketSegs/packBytes) // values of a segment
	if p := m.round(t, n, "ten segments changed"); p.values < 10 || p.values > 10*per {
		t.Errorf("%d values were written for ten segments", p.values)
	}
}

// sample is the levels of some keys.
func (m *millionBuckets) sample(t *testing.T, n *Node) (levels []crdt.Milli) {
	t.Helper()
	for i := 0; i < len(m.keys); i += 97 {
		b, err := n.Look("hourly", m.keys[i])
		if err != nil {
			t.Fatal(err)
		}
		levels = append(levels, b.Level)
	}
	return levels
}

// restore starts again from what the first store holds.
func (m *millionBuckets) restore(t *testing.T, before []crdt.Milli) {
	t.Helper()
	calls := 0
	if m.kv != nil {
		m.cfg.DataDir = filepath.Join(t.TempDir(), "other") // nothing on the disk
		calls = m.kv.Stats().Total()
	}
	runtime.GC()
	m.log = &progress{}
	m.cfg.Logger = slog.New(slog.NewTextHandler(m.log, nil))
	began := time.Now()
	n, stop := m.run(t)
	took := time.Since(began)
	defer stop()
	held := 0
	n.table.walk(func(int, *entry, uint32) { held++ })
	found := n.storeStats().Restored
	if m.kv != nil {
		calls = m.kv.Stats().Total() - calls
	}
	t.Logf("restored and ready after %v: %d buckets, %d values, %.1f MB, %d calls of KV", took.Round(time.Millisecond), held, found.Values, float64(found.Bytes)/1e6, calls)
	t.Logf("the log:\n%s", m.log)
	if held != len(m.keys) {
		t.Errorf("%d buckets restored of %d", held, len(m.keys))
	}
	if took > mostRestore {
		t.Errorf("restore took %v, want at most %v", took, mostRestore)
	}
	if took > 2*time.Second && m.log.lines() == 0 {
		t.Error("no progress in the log")
	}
	for i, level := range m.sample(t, n) {
		if d := level - before[i]; d < 0 || d > 10*crdt.Token { // a token in 36 s
			t.Fatalf("%s restored at %v, was at %v", m.keys[i*97], level, before[i])
		}
	}
}

// takeWhile takes as fast as it can while f runs.
func takeWhile(n *Node, keys []string, f func()) *latency.Histogram {
	h, stop, done := &latency.Histogram{}, atomic.Bool{}, make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; !stop.Load(); i += 7919 {
			began := time.Now()
			n.Take("hourly", keys[i%len(keys)], 1)
			h.Add(time.Since(began))
		}
	}()
	f()
	stop.Store(true)
	<-done
	return h
}
