package node

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/openclaw/edge/crdt"
)

var update = flag.Bool("update", false, "rewrite golden files")

var someTime = time.UnixMilli(1_800_000_000_123)

// Each case of testdata/config.txtar is NAME.yaml, followed by NAME.out: the warnings and the
// errors that it gets, in the words that a user reads.
func TestMistakesInTheFileAreNamedByLineAndColumn(t *testing.T) {
	const golden = "testdata/config.txtar"
	archive, err := txtar.ParseFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	out := &txtar.Archive{Comment: archive.Comment}
	want := map[string]string{}
	for _, f := range archive.Files {
		want[f.Name] = string(f.Data)
	}
	for _, f := range archive.Files {
		name, ok := strings.CutSuffix(f.Name, ".yaml")
		if !ok {
			continue
		}
		_, warnings, err := parseConfig("edge.yaml", f.Data, someTime)
		lines := warnings
		if err != nil {
			lines = append(lines, err.Error())
		}
		got := strings.Join(append(lines, ""), "\n")
		out.Files = append(out.Files, f, txtar.File{Name: name + ".out", Data: []byte(got)})
		if got != want[name+".out"] && !*update {
			t.Errorf("%s:\n%s\n got %s\nwant %s", name, f.Data, got, want[name+".out"])
		}
	}
	if *update {
		if err := os.WriteFile(golden, txtar.Format(out), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// The example of the contract, whole.
const wholeFile = `
version: 7
cluster: openclaw
node: edge-1
region: eu-west
limits:
  - name: per-user
    capacity: 100
    refill_rate: 10
    key: {header: X-User-ID}
    on_partition: share
    backup: {capacity: 10, refill_rate: 0.5}
    max_buckets: 1000000
    ttl: 10m
gossip:
  join: [edge-2.example:7946]
  keys: [MDEyMzQ1Njc4OWFiY2RlZg==]
  doubt: 600ms
  lease: 3s
  round: {region: 50ms, wan: 200ms}
persist:
  snapshot_every: 10s
  reconcile_every: 5m
  kv: {backend: cloudflare, account_id: "1", namespace_id: "2", token_env: CF_API_TOKEN, base_url: "https://api.cloudflare.com/client/v4"}
  redis: {url: "rediss://:${REDIS_PASSWORD}@redis.example:6380", cluster: false}
admin: {token_env: OPENCLAW_ADMIN_TOKEN}
tls: {cert: a, key: b, client_ca: c}
ratings: {limit: per-user}
envoy:
  domains:
    edge:
      - {match: [{key: route, value: /login}, {key: user}], limit: per-user, shadow: true}
      - {match: [{key: user}], limit: per-user}
`

func TestTheWholeSchemaIsRead(t *testing.T) {
	t.Setenv("CF_API_TOKEN", "token")
	t.Setenv("REDIS_PASSWORD", "password")
	c, warnings, err := parseConfig("edge.yaml", []byte(wholeFile), someTime)
	if err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
	want := DefaultConfig()
	want.File, want.LimitsVersion, want.Node, want.Region = "edge.yaml", 7, "edge-1", "eu-west"
	want.Join, want.GossipKeys = []string{"edge-2.example:7946"}, [][]byte{[]byte("0123456789abcdef")}
	want.AdminTokenEnv = "OPENCLAW_ADMIN_TOKEN"
	want.TLS = TLS{Cert: "a", Key: "b", ClientCA: "c", where: map[string]string{
		"a": "edge.yaml:27:13: tls.cert", "b": "edge.yaml:27:21: tls.key", "c": "edge.yaml:27:35: tls.client_ca"}}
	want.Envoy = map[string][]EnvoyRule{"edge": {
		{Match: []EnvoyEntry{{"route", "/login"}, {"user", ""}}, Limit: "per-user", Shadow: true},
		{Match: []EnvoyEntry{{"user", ""}}, Limit: "per-user"},
	}}
	want.Persist = Persist{
		SnapshotEvery: 10 * time.Second, ReconcileEvery: 5 * time.Minute,
		Backend: BackendCloudflare, AccountID: "1", NamespaceID: "2", TokenEnv: "CF_API_TOKEN", BaseURL: "https://api.cloudflare.com/client/v4",
		RedisURL: "rediss://:password@redis.example:6380",
	}
	want.Limits = []crdt.Definition{{
		Name: "per-user", Capacity: 100 * crdt.Token, Rate: mustRate(t, "10"), Policy: crdt.Share,
		TTL: 10 * time.Minute, MaxBuckets: 1_000_000, Key: "header=X-User-ID",
		Backup: &crdt.Backup{Capacity: 10 * crdt.Token, Rate: mustRate(t, "0.5")},
	}}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

func TestWhatTheFileLeavesOutHasItsDefault(t *testing.T) {
	c, _, err := parseConfig("edge.yaml", []byte("limits:\n- {name: a, capacity: 1, refill_rate: 1000/h}\npersist:\n"), someTime)
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultConfig()
	want.File, want.LimitsVersion = "edge.yaml", uint64(someTime.UnixMilli())
	want.Limits = []crdt.Definition{{Name: "a", Capacity: crdt.Token, Rate: mustRate(t, "1000/h"), MaxBuckets: 1_000_000}}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

func TestWithoutAFileThereAreBuiltInLimits(t *testing.T) {
	c, _, err := ReadConfig("")
	if err != nil || c.LimitsVersion != 0 {
		t.Fatal(c.LimitsVersion, err)
	}
	for i, want := range []struct {
		name, rate string
		capacity   crdt.Milli
	}{{"per-user", "10", 100}, {"per-ip", "30", 300}, {"per-api-key", "10000/m", 10_000}} {
		l := c.Limits[i]
		if l.Name != want.name || l.Rate.String() != want.rate || l.Capacity != want.capacity*crdt.Token || l.Policy != crdt.Quorum {
			t.Errorf("%+v, want %+v", l, want)
		}
	}
	if _, _, err := ReadConfig(filepath.Join(t.TempDir(), "none.yaml")); err == nil {
		t.Error("a file that is not there was read")
	}
}

func TestFlagsAreCheckedByName(t *testing.T) {
	for name, spoil := range map[string]func(*Config){
		"--node":         func(c *Config) { c.Node = "a b" },
		"--region":       func(c *Config) { c.Region = "" },
		"--http":         func(c *Config) { c.HTTP = "8080" },
		"--grpc":         func(c *Config) { c.GRPC = "localhost" },
		"--gossip":       func(c *Config) { c.Gossip = "127.0.0.1:99999" },
		"--advertise":    func(c *Config) { c.Advertise = "edge" },
		"--join":         func(c *Config) { c.Join = []string{"edge-2:7946", "edge-3"} },
		"--metrics-port": func(c *Config) { c.MetricsPort = -1 },
	} {
		c := DefaultConfig()
		c.Node = "edge-1"
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
		spoil(&c)
		if err := c.Check(); err == nil || !strings.HasPrefix(err.Error(), name+" ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(wholeFile))
	f.Add([]byte("limits: [{name: a, capacity: 1, refill_rate: 1/d, key: {ip: true}, ttl: 1s}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, _, err := parseConfig("edge.yaml", text, someTime)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "edge.yaml:") {
				t.Errorf("no position: %v", err)
			}
			return
		}
		for _, d := range c.Limits { // what the core may rely on
			if !limitName.MatchString(d.Name) || d.Capacity < crdt.Token || d.Capacity > crdt.MaxCapacity ||
				d.Rate.PerSecond() <= 0 || d.MaxBuckets == 0 || d.TTL < 0 {
				t.Errorf("accepted %+v", d)
			}
		}
	})
}
