package node

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/openclaw/edge/persist"
)

// Persist says where snapshots go.
type Persist struct {
	SnapshotEvery  time.Duration // between rounds; what a crash of the whole cluster loses; less: more writes
	ReconcileEvery time.Duration // between looks at what the stores hold of others, and of each other's

	Backend     string // BackendLocal, BackendCloudflare or BackendNone
	AccountID   string // of Cloudflare
	NamespaceID string
	TokenEnv    string // variable that holds the API token
	Token       Secret // in its place, where there is no variable
	BaseURL     string // "": Cloudflare's

	RedisURL     Secret // "": no Redis
	RedisCluster bool
}

// Backends, the first choice for snapshots. With BackendNone Redis alone is used, if there is one.
const (
	BackendLocal      = "local" // a file under the data directory
	BackendCloudflare = "cloudflare"
	BackendNone       = "none"
)

// Secret is a text that does not appear in logs and errors.
type Secret string

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "[hidden]"
}

// GoString and LogValue are for %#v and slog.
func (s Secret) GoString() string     { return s.String() }
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

func (p *Persist) token() string {
	if p.Token != "" {
		return string(p.Token)
	}
	return os.Getenv(p.TokenEnv)
}

func defaultPersist() Persist {
	return Persist{SnapshotEvery: 10 * time.Second, ReconcileEvery: 5 * time.Minute, Backend: BackendLocal}
}

// persist reads the section. Each mistake is named here, where its line is known; what the
// stores check themselves they check again when they are opened.
func (r *reader) persist(f *fileSchema, c *Config) {
	p := f.Persist
	if p == nil {
		return
	}
	r.within(p.SnapshotEvery, "persist.snapshot_every", time.Second, time.Hour)
	r.within(p.ReconcileEvery, "persist.reconcile_every", time.Second, 24*time.Hour)
	c.Persist.SnapshotEvery = p.SnapshotEvery.or(c.Persist.SnapshotEvery)
	c.Persist.ReconcileEvery = p.ReconcileEvery.or(c.Persist.ReconcileEvery)
	if p.KV != nil {
		r.backend(p.KV, &c.Persist)
	}
	if p.Redis != nil {
		r.redis(p.Redis, &c.Persist)
	}
}

func (r *reader) backend(kv *kvSchema, c *Persist) {
	c.Backend = kv.Backend.or(BackendLocal)
	switch b := kv.Backend; {
	case b.good && b.value != BackendLocal && b.value != BackendCloudflare && b.value != BackendNone:
		r.fail(b.pos, "persist.kv.backend: %q; write local, cloudflare or none", b.value)
		return
	case c.Backend != BackendCloudflare:
		for _, a := range []struct {
			at   at[string]
			name string
		}{{kv.AccountID, "account_id"}, {kv.NamespaceID, "namespace_id"}, {kv.TokenEnv, "token_env"}, {kv.BaseURL, "base_url"}} {
			if a.at.set {
				r.fail(a.at.pos, "persist.kv.%s: only Cloudflare has one; write backend: cloudflare, or leave the line out", a.name)
			}
		}
		return
	}
	need := func(a at[string], name, do string) string {
		if !a.set || a.good && a.value == "" {
			pos := kv.position
			if a.set {
				pos = a.pos
			}
			r.fail(pos, "persist.kv.%s: missing; %s", name, do)
		}
		return a.or("")
	}
	c.AccountID = need(kv.AccountID, "account_id", "copy it from the Workers KV page of the Cloudflare dashboard")
	c.NamespaceID = need(kv.NamespaceID, "namespace_id", "copy it from the Workers KV page of the Cloudflare dashboard")
	c.TokenEnv = need(kv.TokenEnv, "token_env", "write the name of the environment variable that holds the API token, such as CF_API_TOKEN")
	c.BaseURL = kv.BaseURL.or("")
	token := os.Getenv(c.TokenEnv)
	switch {
	case c.TokenEnv == "" || c.AccountID == "" || c.NamespaceID == "":
		return
	case token == "":
		r.fail(kv.TokenEnv.pos, "persist.kv.token_env: the environment variable %s is empty; put an API token with the right \"Workers KV Storage: Edit\" into it", c.TokenEnv)
		token = "not-known"
	}
	_, err := persist.NewCloudflare(persist.CloudflareConfig{AccountID: c.AccountID, NamespaceID: c.NamespaceID, Token: token, BaseURL: c.BaseURL})
	switch {
	case err != nil && persist.KindOf(err) == persist.Denied:
		r.fail(kv.TokenEnv.pos, "persist.kv.token_env: %v", reason(err))
	case err != nil && kv.BaseURL.set:
		r.fail(kv.BaseURL.pos, "persist.kv: %v", reason(err))
	case err != nil:
		r.fail(kv.position, "persist.kv: %v", reason(err))
	}
}

func (r *reader) redis(redis *redisSchema, c *Persist) {
	switch {
	case !redis.URL.set || redis.URL.good && redis.URL.value == "":
		r.fail(redis.position, "persist.redis.url: missing; write url: \"rediss://:${REDIS_PASSWORD}@HOST:6379\", or leave redis out")
		return
	case !redis.URL.good:
		return
	}
	address, err := expand(redis.URL.value)
	if err == nil {
		var store *persist.Redis
		if store, err = persist.NewRedis(persist.RedisConfig{URL: address, Cluster: redis.Cluster.or(false)}); err == nil {
			err = store.Close()
		}
	}
	if err != nil {
		r.fail(redis.URL.pos, "persist.redis.url: %v", reason(err))
		return
	}
	c.RedisURL, c.RedisCluster = Secret(address), redis.Cluster.or(false)
}

// reason is what a store says is wrong, without the words around it.
func reason(err error) error {
	var e *persist.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

var variable = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// expand puts the environment's values in the place of ${NAME}, so that a password need not
// stand in the file: as they are where one is the whole text, else escaped as a URL needs it.
func expand(text string) (string, error) {
	var missing []string
	out := variable.ReplaceAllStringFunc(text, func(ref string) string {
		value := os.Getenv(ref[2 : len(ref)-1])
		switch {
		case value == "":
			missing = append(missing, ref[2:len(ref)-1])
		case ref != text:
			value = strings.ReplaceAll(url.QueryEscape(value), "+", "%20")
		}
		return value
	})
	if len(missing) > 0 {
		return "", fmt.Errorf("the environment variable %s is empty; set it, or write the URL without it", strings.Join(missing, ", "))
	}
	return out, nil
}
