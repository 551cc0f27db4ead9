package node

import (
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"regexp"
	"time"

	"github.com/openclaw/edge/crdt"
)

// The schema of the configuration file, as contract.md has it. Sections that a later part of
// the project acts on are read and checked all the same: see Config.Inactive.
type fileSchema struct {
	Version at[uint64]    `yaml:"version"`
	Cluster at[string]    `yaml:"cluster"`
	Node    at[string]    `yaml:"node"`
	Region  at[string]    `yaml:"region"`
	Limits  []limitSchema `yaml:"limits"`
	Gossip  struct {
		Join  []at[string]      `yaml:"join"`
		Keys  []at[string]      `yaml:"keys"`
		Doubt at[time.Duration] `yaml:"doubt"`
		Lease at[time.Duration] `yaml:"lease"`
		Round struct {
			Region at[time.Duration] `yaml:"region"`
			WAN    at[time.Duration] `yaml:"wan"`
		} `yaml:"round"`
	} `yaml:"gossip"`
	Persist *struct {
		SnapshotEvery  at[time.Duration] `yaml:"snapshot_every"`
		ReconcileEvery at[time.Duration] `yaml:"reconcile_every"`
		KV             *struct {
			Backend     at[string] `yaml:"backend"`
			AccountID   at[string] `yaml:"account_id"`
			NamespaceID at[string] `yaml:"namespace_id"`
			TokenEnv    at[string] `yaml:"token_env"`
			BaseURL     at[string] `yaml:"base_url"`
		} `yaml:"kv"`
		Redis *struct {
			URL     at[string] `yaml:"url"`
			Cluster at[bool]   `yaml:"cluster"`
		} `yaml:"redis"`
	} `yaml:"persist"`
	Admin struct {
		TokenEnv at[string] `yaml:"token_env"`
	} `yaml:"admin"`
	TLS *struct {
		Cert     at[string] `yaml:"cert"`
		Key      at[string] `yaml:"key"`
		ClientCA at[string] `yaml:"client_ca"`
	} `yaml:"tls"`
	Ratings *struct {
		Limit at[string] `yaml:"limit"`
	} `yaml:"ratings"`
	Envoy *struct {
		Domains map[string][]envoyRule `yaml:"domains"`
	} `yaml:"envoy"`
}

type envoyRule struct {
	Match []struct {
		Key   at[string] `yaml:"key"`
		Value at[string] `yaml:"value"`
	} `yaml:"match"`
	Limit at[string] `yaml:"limit"`
}

type limitSchema struct {
	position
	Name        at[string]        `yaml:"name"`
	Capacity    at[uint64]        `yaml:"capacity"`
	RefillRate  at[crdt.Rate]     `yaml:"refill_rate"`
	Key         *keySchema        `yaml:"key"`
	OnPartition at[crdt.Policy]   `yaml:"on_partition"`
	Backup      *backupSchema     `yaml:"backup"`
	MaxBuckets  at[uint64]        `yaml:"max_buckets"`
	TTL         at[time.Duration] `yaml:"ttl"`
}

type keySchema struct {
	position
	Header at[string] `yaml:"header"`
	Hash   at[bool]   `yaml:"hash"`
	IP     at[bool]   `yaml:"ip"`
	Global at[bool]   `yaml:"global"`
}

type backupSchema struct {
	position
	Capacity   at[uint64]    `yaml:"capacity"`
	RefillRate at[crdt.Rate] `yaml:"refill_rate"`
}

func (p *position) stands(at position) { *p = at }

// What a file may say.
const (
	maxFile       = 4 << 20
	maxLimits     = 1000
	maxCapacity   = uint64(crdt.MaxCapacity / crdt.Token)
	maxMaxBuckets = 16_000_000
	maxVersion    = 1<<48 - 1
	maxFill       = 50 * 365 * 24 * time.Hour // twice that must fit a duration
	tightCapacity = 0.4                       // seconds of refill below which lawful traffic over regions may be refused
)

var (
	limitName  = regexp.MustCompile(`^[a-z0-9_.-]{1,64}$`)
	headerName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
)

// ReadConfig is the defaults, overlaid with what the file at path says; path "" means the
// defaults alone. The error has a line FILE:LINE:COLUMN: … for each mistake; the
// warnings look the same.
func ReadConfig(path string) (c Config, warnings []string, err error) {
	c = DefaultConfig()
	if path == "" {
		return c, nil, nil
	}
	text, modified, err := readFile(path)
	if err != nil {
		return c, nil, fmt.Errorf("config: %w", err)
	}
	return parseConfig(path, text, modified)
}

func readFile(path string) (text []byte, modified time.Time, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, modified, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, modified, err
	}
	text, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	if len(text) > maxFile {
		err = fmt.Errorf("%s is larger than %d MiB", path, maxFile>>20)
	}
	return text, info.ModTime(), err
}

func parseConfig(path string, text []byte, modified time.Time) (Config, []string, error) {
	c := DefaultConfig()
	c.File = path
	var f fileSchema
	r := &reader{file: path}
	r.read(text, &f)
	// The version is in milliseconds, so that two edits within a second keep their order.
	c.LimitsVersion = f.Version.or(uint64(max(1, modified.UnixMilli())))
	if c.LimitsVersion < 1 || c.LimitsVersion > maxVersion {
		r.fail(f.Version.pos, "version: write a whole number from 1 to %d", uint64(maxVersion))
	}
	c.Cluster = r.label(f.Cluster, c.Cluster, "cluster")
	c.Node = r.label(f.Node, c.Node, "node")
	c.Region = r.label(f.Region, c.Region, "region")
	c.AdminTokenEnv = f.Admin.TokenEnv.or("")
	c.Limits = r.limits(f.Limits)
	r.gossip(&f, &c)
	r.inactive(&f, &c)
	return c, r.warnings, r.err()
}

func (r *reader) label(a at[string], otherwise, path string) string {
	if a.set && !label.MatchString(a.value) {
		r.fail(a.pos, "%s: %q; %s", path, a.value, labelHelp)
	}
	return a.or(otherwise)
}

func (r *reader) limits(list []limitSchema) []crdt.Definition {
	if len(list) == 0 {
		r.fail(position{1, 1}, "limits: none; write at least one, such as limits: [{name: per-user, capacity: 100, refill_rate: 10}]")
	}
	if len(list) > maxLimits {
		r.fail(list[maxLimits].position, "limits: %d of them; write at most %d", len(list), maxLimits)
		return nil
	}
	seen := map[string]position{}
	defs := make([]crdt.Definition, len(list))
	for i := range list {
		l, path := &list[i], fmt.Sprintf("limits[%d]", i)
		defs[i] = r.limit(l, path)
		if first, twice := seen[l.Name.value]; twice && l.Name.set {
			r.fail(l.Name.pos, "%s.name: a second limit named %q (the first is on line %d); give it a name of its own", path, l.Name.value, first.line)
		}
		seen[l.Name.value] = l.Name.pos
	}
	return defs
}

func (r *reader) limit(l *limitSchema, path string) crdt.Definition {
	d := crdt.Definition{Name: l.Name.value, Policy: l.OnPartition.value, TTL: l.TTL.value,
		MaxBuckets: uint32(l.MaxBuckets.or(defaultMaxBuckets)), Key: r.key(l.Key, path+".key")}
	switch {
	case !l.Name.set:
		r.fail(l.position, "%s.name: missing; write name: per-user", path)
	case !limitName.MatchString(l.Name.value):
		r.fail(l.Name.pos, "%s.name: %q; write 1 to 64 of a-z, 0-9, '-', '_' and '.'", path, l.Name.value)
	}
	d.Capacity, d.Rate = r.allowance(l.Capacity, l.RefillRate, l.position, path)
	if l.MaxBuckets.set && (l.MaxBuckets.value < 1 || l.MaxBuckets.value > maxMaxBuckets) {
		r.fail(l.MaxBuckets.pos, "%s.max_buckets: write 1 to %d", path, maxMaxBuckets)
	}
	r.within(l.TTL, path+".ttl", time.Second, 365*24*time.Hour)
	if b := l.Backup; b != nil {
		d.Backup = &crdt.Backup{}
		d.Backup.Capacity, d.Backup.Rate = r.allowance(b.Capacity, b.RefillRate, b.position, path+".backup")
	}
	if tokens := float64(d.Capacity / crdt.Token); tokens > 0 && tokens < tightCapacity*d.Rate.PerSecond() {
		r.warn(l.Capacity.pos, "%s.capacity: %v is less than %v s of refill; across regions, lawful traffic may be refused; write at least %.0f",
			path, tokens, tightCapacity, tightCapacity*d.Rate.PerSecond()+0.5)
	}
	return d
}

// allowance is a capacity and a rate, of a limit or of its backup bucket.
func (r *reader) allowance(capacity at[uint64], rate at[crdt.Rate], pos position, path string) (crdt.Milli, crdt.Rate) {
	tokens := crdt.Milli(min(capacity.value, maxCapacity)) * crdt.Token
	switch {
	case !capacity.set:
		r.fail(pos, "%s.capacity: missing; write how many tokens a full bucket holds, such as capacity: 100", path)
	case capacity.value < 1 || capacity.value > maxCapacity:
		r.fail(capacity.pos, "%s.capacity: write a whole number from 1 to %d", path, maxCapacity)
	}
	switch {
	case !rate.set:
		r.fail(pos, "%s.refill_rate: missing; write tokens per second, such as refill_rate: 10 (or \"1000/h\")", path)
	case rate.value.PerSecond() > 0 && rate.value.Time(tokens) > maxFill:
		r.fail(rate.pos, "%s.refill_rate: %s fills the bucket in more than 50 years; write a higher rate or a lower capacity", path, rate.value)
	}
	return tokens, rate.value
}

// key is the canonical text of a key spec: "", "ip", "global", "header=NAME" or
// "header=NAME,hash". Nodes compare definitions by it.
func (r *reader) key(k *keySchema, path string) string {
	if k == nil {
		return ""
	}
	var specs []string
	if k.Header.set {
		if !headerName.MatchString(k.Header.value) {
			r.fail(k.Header.pos, "%s.header: %q; write the name of a request header, such as X-User-ID", path, k.Header.value)
		}
		specs = append(specs, "header="+k.Header.value)
	}
	if k.IP.value {
		specs = append(specs, "ip")
	}
	if k.Global.value {
		specs = append(specs, "global")
	}
	if len(specs) != 1 {
		r.fail(k.position, "%s: write exactly one of {header: NAME}, {ip: true} and {global: true}", path)
		return ""
	}
	if k.Hash.value && !k.Header.set {
		r.fail(k.Hash.pos, "%s.hash: only a header is hashed; write {header: NAME, hash: true}", path)
	}
	if k.Hash.value {
		return specs[0] + ",hash"
	}
	return specs[0]
}

func (r *reader) within(a at[time.Duration], path string, low, high time.Duration) {
	if a.set && (a.value < low || a.value > high) {
		r.fail(a.pos, "%s: %v; write %v to %v", path, a.value, low, high)
	}
}

func (r *reader) gossip(f *fileSchema, c *Config) {
	g := &f.Gossip
	for i, a := range g.Join {
		if err := checkAddr(a.value); err != nil {
			r.fail(a.pos, "gossip.join[%d]: %q; %v", i, a.value, err)
		}
		c.Join = append(c.Join, a.value)
	}
	for i, a := range g.Keys {
		key, err := base64.StdEncoding.DecodeString(a.value)
		if n := len(key); err != nil || (n != 16 && n != 24 && n != 32) {
			r.fail(a.pos, "gossip.keys[%d]: write base64 of 16, 24 or 32 random bytes, such as `openssl rand -base64 32` prints", i)
		}
		c.GossipKeys = append(c.GossipKeys, key)
	}
	for _, d := range []struct {
		at        at[time.Duration]
		path      string
		low, high time.Duration
		into      *time.Duration
	}{
		{g.Doubt, "gossip.doubt", 10 * time.Millisecond, 10 * time.Second, &c.Doubt},
		{g.Lease, "gossip.lease", 100 * time.Millisecond, 5 * time.Minute, &c.Lease},
		{g.Round.Region, "gossip.round.region", time.Millisecond, 10 * time.Second, &c.RoundRegion},
		{g.Round.WAN, "gossip.round.wan", time.Millisecond, 10 * time.Second, &c.RoundWAN},
	} {
		r.within(d.at, d.path, d.low, d.high)
		*d.into = d.at.or(*d.into)
	}
	for _, d := range []at[time.Duration]{g.Lease, g.Doubt, g.Round.WAN, g.Round.Region} {
		if d.set && c.Lease < max(c.Doubt, 2*c.RoundWAN, 2*c.RoundRegion) {
			r.fail(d.pos, "gossip: a lease of %v is shorter than the doubt (%v) or than two rounds (%v, %v), so healthy peers would look lost; write a longer lease",
				c.Lease, c.Doubt, c.RoundRegion, c.RoundWAN)
			break
		}
	}
}

// inactive checks the sections that nothing acts on yet, and notes those that are there.
func (r *reader) inactive(f *fileSchema, c *Config) {
	names := map[string]bool{}
	for _, d := range c.Limits {
		names[d.Name] = true
	}
	refer := func(a at[string], pos position, path string) {
		if !a.set {
			r.fail(pos, "%s: missing; write the name of a limit", path)
		} else if !names[a.value] {
			r.fail(a.pos, "%s: no limit is named %q; write the name of one under limits", path, a.value)
		}
	}
	if p := f.Persist; p != nil {
		r.within(p.SnapshotEvery, "persist.snapshot_every", time.Second, time.Hour)
		r.within(p.ReconcileEvery, "persist.reconcile_every", time.Second, 24*time.Hour)
		c.Inactive = append(c.Inactive, "persist")
		if p.KV != nil {
			if b := p.KV.Backend; b.set && b.value != "local" && b.value != "cloudflare" && b.value != "none" {
				r.fail(b.pos, "persist.kv.backend: %q; write local, cloudflare or none", b.value)
			}
			c.Inactive = append(c.Inactive, "persist.kv")
		}
		if p.Redis != nil {
			c.Inactive = append(c.Inactive, "persist.redis")
		}
	}
	if f.TLS != nil {
		c.Inactive = append(c.Inactive, "tls")
	}
	if f.Ratings != nil {
		refer(f.Ratings.Limit, position{1, 1}, "ratings.limit")
		c.Inactive = append(c.Inactive, "ratings")
	}
	if f.Envoy != nil {
		for domain, rules := range f.Envoy.Domains {
			for i, rule := range rules {
				path := fmt.Sprintf("envoy.domains.%s[%d]", domain, i)
				refer(rule.Limit, position{1, 1}, path+".limit")
				for j, m := range rule.Match {
					if !m.Key.set {
						r.fail(rule.Limit.pos, "%s.match[%d].key: missing; write the key of a descriptor entry", path, j)
					}
				}
			}
		}
		c.Inactive = append(c.Inactive, "envoy")
	}
}
