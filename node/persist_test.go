package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/openclaw/edge/persist"
	"github.com/openclaw/edge/testnet/kv"
	"github.com/openclaw/edge/testnet/memnet"
	"github.com/openclaw/edge/testnet/program"
)

// An operator's snapshot stores what was taken before it was asked for, or says why not.
func TestASnapshotOnRequest(t *testing.T) {
	c := testConfig(t)
	c.Persist.SnapshotEvery = time.Hour
	store := newMemStore("kv")
	c.stores = &stores{primary: store, shared: true}
	n := startNode(t, c)
	eventually(t, "rounds", func() bool { return n.keeper.Load().rounds.Load() })
	n.call(t, "POST", "/v1/take/per-user/alice?cost=60", "")
	if a := n.call(t, "POST", "/-/snapshot", ""); a.StatusCode != 200 || !strings.Contains(a.body, `"stored":true`) {
		t.Fatalf("%s %s", a.Status, a.body)
	}
	var body Cluster
	if err := json.Unmarshal([]byte(n.call(t, "GET", "/v1/cluster", "").body), &body); err != nil || body.Store.LastSnapshot == nil || time.Since(*body.Store.LastSnapshot) > time.Minute {
		t.Errorf("%+v, %v", body.Store, err)
	}
	store.mu.Lock()
	held := len(store.values)
	store.mu.Unlock()
	if held < 2 {
		t.Errorf("%d values are stored", held)
	}
	store.fail(errors.New("the disk is full"))
	n.call(t, "POST", "/v1/take/per-user/alice?cost=1", "")
	checkProblem(t, "a store that fails", n.call(t, "POST", "/-/snapshot", ""), 503, "the disk is full")
}

// The series of the stores begin at 0, before anything has happened.
func TestStoreSeriesStartAtZero(t *testing.T) {
	c := testConfig(t)
	c.Persist.SnapshotEvery, c.Persist.ReconcileEvery = time.Hour, 2*time.Hour
	c.Persist.RedisURL = "redis://127.0.0.1:1"
	n := startNode(t, c)
	body := call(t, "GET", "http://"+n.metrics+"/metrics", "").body
	for _, want := range []string{
		`openclaw_store_operations_total{op="put",result="ok",store="kv"} `,
		`openclaw_store_operations_total{op="put",result="throttled",store="kv"} 0`,
		`openclaw_store_operations_total{op="delete",result="partial",store="redis"} 0`,
		`openclaw_store_operation_duration_seconds_count{op="get",store="redis"} `,
		`openclaw_store_fallback_active 0`,
		`openclaw_store_pending_segments{store="redis"} 0`,
		`openclaw_snapshot_last_success_timestamp_seconds `,
		`openclaw_snapshot_interval_seconds 3600`,
		`openclaw_reconcile_last_success_timestamp_seconds `,
		`openclaw_reconcile_interval_seconds 7200`,
		`openclaw_reconcile_runs_total{result="ok"} `,
		`openclaw_reconcile_runs_total{result="failed"} `,
		`openclaw_store_set_aside_total{reason="damaged"} 0`,
	} {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("no %s", want)
		}
	}
}

// Nothing that a user sees holds a secret: not the log of a node whose stores refuse it, not
// its errors, not its pages.
func TestSecretsStayInside(t *testing.T) {
	const token, password = "t0ken-that-nobody-may-see", "hunter2-and-more"
	t.Setenv("TEST_KV_TOKEN", token)
	server := httptest.NewServer(kv.New(kv.Config{Account: "account", Namespace: "namespace", Token: "another"}))
	defer server.Close()
	c := testConfig(t)
	log := &program.Output{}
	c.Logger = textLogger(log)
	c.Persist.Backend, c.Persist.AccountID, c.Persist.NamespaceID, c.Persist.TokenEnv = BackendCloudflare, "account", "namespace", "TEST_KV_TOKEN"
	c.Persist.BaseURL = server.URL + kv.BasePath
	c.Persist.RedisURL = Secret("redis://:" + password + "@127.0.0.1:1")
	c.Persist.SnapshotEvery = time.Hour
	var seen []string
	t.Run("a node's life", func(t *testing.T) {
		n := startNode(t, c)
		eventually(t, "rounds", func() bool { return n.keeper.Load().rounds.Load() })
		n.call(t, "POST", "/v1/take/per-user/alice", "")
		a := n.call(t, "POST", "/-/snapshot", "")
		if a.StatusCode != 503 {
			t.Errorf("a wrong token: %s %s", a.Status, a.body)
		}
		seen = append(seen, a.body, n.call(t, "GET", "/v1/cluster", "").body, n.call(t, "GET", "/readyz", "").body,
			call(t, "GET", "http://"+n.metrics+"/metrics", "").body)
	})
	seen = append(seen, log.String(), fmt.Sprintf("%v %+v %#v %s", c.Persist, c.Persist, c.Persist, c.Persist.RedisURL))
	if !strings.Contains(log.String(), "token_env") {
		t.Errorf("the log does not speak of the token:\n%s", log)
	}
	for _, text := range seen {
		for _, secret := range []string{token, password} {
			if strings.Contains(text, secret) {
				t.Errorf("%s is in\n%s", secret, text)
			}
		}
	}
}

// What cannot be used is kept once, under a name that leads nowhere else, and not without end.
func TestWhatIsSetAsideIsKeptOnceAndBounded(t *testing.T) {
	c := testConfig(t)
	n, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(c.DataDir, asideDir)
	files := func() []string {
		all, _ := filepath.Glob(filepath.Join(dir, "*"))
		return all
	}
	why := errors.New("damaged")
	for range 3 {
		n.keepAside("rating_bucket:07:edge-1:00ff", []byte("garbage"), why)
	}
	n.keepAside("../../../etc/passwd", []byte("garbage"), why)
	if all := files(); len(all) != 2 || !strings.Contains(strings.Join(all, " "), "rating_bucket_07_edge-1_00ff-") {
		t.Errorf("%v", all)
	}
	for i := range 100 {
		n.keepAside("key", fmt.Append(nil, i), why)
	}
	if all := files(); len(all) != maxAside {
		t.Errorf("%d files are kept", len(all))
	}
	os.RemoveAll(dir)
	for i := range 10 {
		n.keepAside("key", append(make([]byte, 10<<20), byte(i)), why)
	}
	if all := files(); len(all) != 6 {
		t.Errorf("%d files of 10 MiB are kept", len(all))
	}
}

// A damaged segment, one of a newer format and one of another cluster: kept, counted, named
// in the log; all else is restored.
func TestASegmentOfNoUseDoesNotStopTheStart(t *testing.T) {
	bubble(t, func(t *testing.T, net *memnet.Network) {
		store := newMemStore("kv")
		m := newLife(t, net, 0, t.TempDir())
		m.cfg.stores = &stores{primary: store, shared: true}
		m.start()
		for i := range 200 {
			m.take("hourly", fmt.Sprint("key-", i), 500)
		}
		m.stop()
		spoilt := 0
		for key, v := range store.values {
			switch {
			case strings.Contains(key, ":07:"):
				v.Data = append([]byte(nil), v.Data...)
				v.Data[len(v.Data)/2] ^= 1
			case strings.Contains(key, ":08:"):
				v.Data = v.Data[:len(v.Data)/2]
			case strings.Contains(key, ":09:"):
				s, err := persist.DecodeSegment(v.Data)
				if err != nil {
					t.Fatal(err)
				}
				s.Cluster = "another"
				v.Data, _ = s.Bytes()
			default:
				continue
			}
			store.values[key] = v
			spoilt++
		}
		m.cfg.DataDir = t.TempDir()
		m.start()
		aside, _ := filepath.Glob(filepath.Join(m.cfg.DataDir, asideDir, "*"))
		if len(aside) != spoilt || spoilt != 3 {
			t.Errorf("%d spoilt, kept %v", spoilt, aside)
		}
		if s := m.Stats().Store.SetAside; s["damaged"] != 2 || s["cluster"] != 1 {
			t.Errorf("%v", s)
		}
		full := 0
		for i := range 200 {
			if m.level("hourly", fmt.Sprint("key-", i)) == 1000 {
				full++
			}
		}
		if full == 0 || full > 30 {
			t.Errorf("%d of 200 buckets were not restored", full)
		}
		for _, name := range []string{":07:", ":08:", ":09:"} {
			if !strings.Contains(m.log.String(), name) {
				t.Errorf("%s is not in the log", name)
			}
		}
		m.stop()
	})
}

// A data directory that cannot be written to ends the start with what to do about it.
func TestAnUnwritableDataDirectoryEndsTheStart(t *testing.T) {
	c := testConfig(t)
	path := filepath.Join(c.DataDir, snapshotFile)
	if err := os.Mkdir(path, 0o700); err != nil { // what is not a file can be written by nobody, not even root
		t.Fatal(err)
	}
	n, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Run(t.Context()); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("%v", err)
	}
}

// Without a data directory and without stores a node runs as it did, and says so once.
func TestANodeWithoutStoresKeepsNothing(t *testing.T) {
	bubble(t, func(t *testing.T, net *memnet.Network) {
		m := newLife(t, net, 0, "")
		m.start()
		m.take("hourly", "alice", 600)
		if err := m.Snapshot(t.Context()); err == nil || !strings.Contains(err.Error(), "--data-dir") {
			t.Errorf("a snapshot to nowhere: %v", err)
		}
		if s := m.Cluster().Store; s != (StoreState{}) {
			t.Errorf("%+v", s)
		}
		m.stop()
		if strings.Count(m.log.String(), "nothing is persisted") != 1 {
			t.Errorf("the log:\n%s", m.log)
		}
		m.start()
		m.expect("nothing is known", "hourly", "alice", 1000, 0)
		m.stop()
	})
}
