package node

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/openclaw/edge/crdt"
)

// envoyRules is the section envoy of a file, ready to be asked. It is immutable: a reload puts
// another in its place.
type envoyRules struct {
	domains map[string][]envoyRule
	before  *envoyRules // in force until the last reload; nil: none
}

type envoyRule struct {
	EnvoyRule
	fixed bool // every entry has a value: the rule has one bucket

	ok, over, shadow, credited prometheus.Counter
}

func newEnvoyRules(domains map[string][]EnvoyRule, count *prometheus.CounterVec, before *envoyRules) *envoyRules {
	rules := &envoyRules{domains: make(map[string][]envoyRule, len(domains))}
	for domain, list := range domains {
		compiled := make([]envoyRule, len(list))
		for i, r := range list {
			counter := func(result string) prometheus.Counter { return count.WithLabelValues(r.Limit, result) }
			compiled[i] = envoyRule{EnvoyRule: r, fixed: true,
				ok: counter("ok"), over: counter("over_limit"), shadow: counter("shadow"), credited: counter("credited")}
			for _, e := range r.Match {
				compiled[i].fixed = compiled[i].fixed && e.Value != ""
			}
		}
		rules.domains[domain] = compiled
	}
	if before != nil {
		rules.before = &envoyRules{domains: before.domains}
	}
	return rules
}

// find is the rule that a descriptor goes by, and its limit. A new file's limits come into force
// a moment after its rules: until then a descriptor whose limit is not there yet goes by the
// rules before. missing says what there is none of, if there is none.
func (rs *envoyRules) find(limits map[string]*Limit, domain string, entries []*commonv3.RateLimitDescriptor_Entry) (rule *envoyRule, l *Limit, missing string) {
	list, known := rs.domains[domain]
	missing = "descriptor"
	if !known {
		missing = "domain"
	}
	for i := range list {
		if !list[i].matches(entries) {
			continue
		}
		if l := limits[list[i].Limit]; l != nil {
			return &list[i], l, ""
		}
		if rs.before != nil {
			if rule, l, _ := rs.before.find(limits, domain, entries); l != nil {
				return rule, l, ""
			}
		}
		return nil, nil, "limit"
	}
	return nil, nil, missing
}

func (r *envoyRule) matches(entries []*commonv3.RateLimitDescriptor_Entry) bool {
	if len(entries) != len(r.Match) {
		return false
	}
	for i, e := range entries {
		if m := &r.Match[i]; m.Key != e.GetKey() || m.Value != "" && m.Value != e.GetValue() {
			return false
		}
	}
	return true
}

// key is the key of the bucket: the values of the entries for which the rule has none, or all of
// them if it has one for each. So {user: alice} is the bucket of /v1/take/per-user/alice. Several
// are joined by |, with \ before a | or \ of their own, so that no two descriptors share a key.
//
// What Envoy sends may be a header that a stranger wrote, so no value is refused: an error would
// let its request through where Envoy fails open. An empty one has a key that no other value
// has, and of a long one the key is its digest.
func (r *envoyRule) key(entries []*commonv3.RateLimitDescriptor_Entry) string {
	var parts []string
	var room [maxEnvoyEntries]string
	parts = room[:0]
	for i, e := range entries {
		if r.fixed || r.Match[i].Value == "" {
			parts = append(parts, e.GetValue())
		}
	}
	key := parts[0]
	if len(parts) > 1 {
		for i, p := range parts {
			parts[i] = escapeBar.Replace(p)
		}
		key = strings.Join(parts, "|")
	}
	switch {
	case key == "":
		return emptyKey
	case len(key) > crdt.MaxKey:
		digest := sha256.Sum256([]byte(key))
		return "sha256:" + hex.EncodeToString(digest[:])
	}
	return key
}

// emptyKey is for an empty value: a header cannot hold a zero byte.
const emptyKey = "\x00"

var escapeBar = strings.NewReplacer(`\`, `\\`, `|`, `\|`)
