package node

import (
	"time"

	"github.com/openclaw/edge/crdt"
)

// The schema of the configuration file, as contract.md has it.
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
		KV             *kvSchema         `yaml:"kv"`
		Redis          *redisSchema      `yaml:"redis"`
	} `yaml:"persist"`
	TrustedProxies []at[string] `yaml:"trusted_proxies"`
	LegacyHeaders  at[bool]     `yaml:"legacy_headers"`
	Admin          struct {
		TokenEnv at[string] `yaml:"token_env"`
	} `yaml:"admin"`
	TLS     *tlsSchema `yaml:"tls"`
	Ratings *struct {
		position
		Limit at[string] `yaml:"limit"`
	} `yaml:"ratings"`
	Envoy *envoySchema `yaml:"envoy"`
}

type kvSchema struct {
	position
	Backend     at[string] `yaml:"backend"`
	AccountID   at[string] `yaml:"account_id"`
	NamespaceID at[string] `yaml:"namespace_id"`
	TokenEnv    at[string] `yaml:"token_env"`
	BaseURL     at[string] `yaml:"base_url"`
}

type redisSchema struct {
	position
	URL     at[string] `yaml:"url"`
	Cluster at[bool]   `yaml:"cluster"`
}

type limitSchema struct {
	position
	Name        at[string]        `yaml:"name"`
	Capacity    at[uint64]        `yaml:"capacity"`
	RefillRate  at[crdt.Rate]     `yaml:"refill_rate"`
	Key         keySchemas        `yaml:"key"`
	OnPartition at[crdt.Policy]   `yaml:"on_partition"`
	Backup      *backupSchema     `yaml:"backup"`
	MaxBuckets  at[uint64]        `yaml:"max_buckets"`
	TTL         at[time.Duration] `yaml:"ttl"`
}

type backupSchema struct {
	position
	Capacity   at[uint64]    `yaml:"capacity"`
	RefillRate at[crdt.Rate] `yaml:"refill_rate"`
}

func (p *position) stands(at position) { *p = at }
