package processes

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/memnet"
	"github.com/openclaw/edge/testnet/world"
)

// Config says what testnet to make. The zero value is three nodes in three regions.
type Config struct {
	Regions []world.Region              // nil: eu, us and ap with one node each
	Delay   map[[2]string]time.Duration // one way, between two regions in either order; absent: none
	Limits  []crdt.Definition           // nil: one limit "g" of capacity 100 and 100/s
	Seed    uint64                      // of loads, and of what is lost
	Binary  string                      // openclaw-edge; "": built from this module
	Logger  *slog.Logger                // of what takes its time; nil: discarded
	Endless bool                        // for a run without end: Observed keeps running figures in the place of every take
}

// mostNodes of one testnet: two processors carry some ten.
const mostNodes = 32

func (c Config) complete() (Config, error) {
	if c.Regions == nil {
		c.Regions = []world.Region{{Name: "eu", Nodes: 1}, {Name: "us", Nodes: 1}, {Name: "ap", Nodes: 1}}
	}
	nodes, names := 0, make(map[string]bool)
	for _, r := range c.Regions {
		nodes += r.Nodes
		names[r.Name] = true
	}
	if nodes < 1 || nodes > mostNodes || len(names) != len(c.Regions) {
		return c, fmt.Errorf("processes: %d nodes in %d regions; give each region a name of its own, and ask for 1 to %d nodes", nodes, len(c.Regions), mostNodes)
	}
	if c.Limits == nil {
		rate, err := crdt.ParseRate("100")
		if err != nil {
			return c, err
		}
		c.Limits = []crdt.Definition{{Name: "g", Capacity: 100 * crdt.Token, Rate: rate}}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// usual is the link between two regions that nothing was done to: its delay, and a tenth of it as
// jitter.
func (c *Config) usual(a, b string) memnet.Link {
	d := cmp.Or(c.Delay[[2]string{a, b}], c.Delay[[2]string{b, a}])
	return memnet.Link{Delay: d - d/20, Jitter: d / 10}
}

// file is a node's configuration file. It is written as JSON, which is YAML, too.
type file struct {
	Version uint64      `json:"version"`
	Cluster string      `json:"cluster"`
	Limits  []fileLimit `json:"limits"`
	Persist filePersist `json:"persist"`
	Admin   struct {
		TokenEnv string `json:"token_env"`
	} `json:"admin"`
}

type fileLimit struct {
	Name        string         `json:"name"`
	Capacity    int64          `json:"capacity"`
	RefillRate  string         `json:"refill_rate"`
	Key         map[string]any `json:"key,omitempty"`
	OnPartition string         `json:"on_partition"`
	Backup      *fileBackup    `json:"backup,omitempty"`
	MaxBuckets  uint32         `json:"max_buckets,omitempty"`
	TTL         string         `json:"ttl,omitempty"`
}

type fileBackup struct {
	Capacity   int64  `json:"capacity"`
	RefillRate string `json:"refill_rate"`
}

type filePersist struct {
	SnapshotEvery  string     `json:"snapshot_every"`
	ReconcileEvery string     `json:"reconcile_every"`
	KV             fileKV     `json:"kv"`
	Redis          *fileRedis `json:"redis,omitempty"`
}

type fileKV struct {
	Backend     string `json:"backend"`
	AccountID   string `json:"account_id"`
	NamespaceID string `json:"namespace_id"`
	TokenEnv    string `json:"token_env"`
	BaseURL     string `json:"base_url"`
}

type fileRedis struct {
	URL string `json:"url"`
}

// The variables that hold what no file should.
const (
	adminEnv = "TESTNET_ADMIN_TOKEN"
	kvEnv    = "TESTNET_KV_TOKEN"
	redisEnv = "TESTNET_REDIS_PASSWORD"
)

// Snapshots and reconciliations come sooner than their defaults, so that the fall to Redis and
// the way back are seen in a run of a minute.
const (
	snapshotEvery  = "4s"
	reconcileEvery = "10s"
)

// configText is the file that every node has, or gets at its next start.
func (w *World) configText() (string, error) {
	f := file{Version: w.version, Cluster: "testnet"}
	f.Admin.TokenEnv = adminEnv
	f.Persist = filePersist{SnapshotEvery: snapshotEvery, ReconcileEvery: reconcileEvery, KV: fileKV{
		Backend: "cloudflare", AccountID: "account", NamespaceID: "namespace", TokenEnv: kvEnv, BaseURL: w.stores.kvURL(),
	}}
	if url := w.stores.redisURL(); url != "" {
		f.Persist.Redis = &fileRedis{url}
	}
	for i := range w.limits {
		l, err := limitOf(&w.limits[i])
		if err != nil {
			return "", err
		}
		f.Limits = append(f.Limits, l)
	}
	text, err := json.MarshalIndent(f, "", "  ")
	return string(text) + "\n", err
}

// limitOf is how a file says a definition.
func limitOf(d *crdt.Definition) (fileLimit, error) {
	l := fileLimit{Name: d.Name, Capacity: int64(d.Capacity / crdt.Token), RefillRate: d.Rate.String(), OnPartition: d.Policy.String(), MaxBuckets: d.MaxBuckets}
	if d.TTL > 0 {
		l.TTL = d.TTL.String()
	}
	if d.Backup != nil {
		l.Backup = &fileBackup{int64(d.Backup.Capacity / crdt.Token), d.Backup.Rate.String()}
	}
	switch header, hash := strings.CutSuffix(strings.TrimPrefix(d.Key, "header="), ",hash"); {
	case d.Key == "":
	case d.Key == "ip" || d.Key == "global":
		l.Key = map[string]any{d.Key: true}
	case strings.HasPrefix(d.Key, "header="):
		l.Key = map[string]any{"header": header, "hash": hash}
	default:
		return l, fmt.Errorf("processes: limit %s: key %q is not how a file says it", d.Name, d.Key)
	}
	return l, nil
}
