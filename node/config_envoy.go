package node

import (
	"fmt"
	"slices"
	"unicode/utf8"
)

// EnvoyRule maps the descriptors of one shape to a limit. A descriptor has the shape if it has
// as many entries as Match, with those keys, in that order.
type EnvoyRule struct {
	Match  []EnvoyEntry
	Limit  string
	Shadow bool // takes and counts, but never says OVER_LIMIT
}

// EnvoyEntry is one entry of a descriptor.
type EnvoyEntry struct {
	Key   string
	Value string // "": any
}

// What a file may say of Envoy. Rules are gone through one by one for every descriptor.
const (
	maxEnvoyRules   = 1000 // of a file
	maxEnvoyEntries = 16   // of a rule
	maxEnvoyText    = 255  // bytes of a domain, key or value
)

// envoySchema is the section envoy.
type envoySchema struct {
	Domains map[string][]envoyRuleSchema `yaml:"domains"`
}

type envoyRuleSchema struct {
	position
	Match  []envoyEntrySchema `yaml:"match"`
	Limit  at[string]         `yaml:"limit"`
	Shadow at[bool]           `yaml:"shadow"`
}

type envoyEntrySchema struct {
	position
	Key   at[string] `yaml:"key"`
	Value at[string] `yaml:"value"`
}

// envoy reads the section; refer checks the name of a limit.
func (r *reader) envoy(f *fileSchema, c *Config, refer func(a at[string], pos position, path string)) {
	if f.Envoy == nil {
		return
	}
	c.Envoy = make(map[string][]EnvoyRule, len(f.Envoy.Domains))
	count := 0
	for domain, list := range f.Envoy.Domains {
		for i := range list {
			in, path := &list[i], fmt.Sprintf("envoy.domains.%s[%d]", domain, i)
			if count++; count > maxEnvoyRules {
				r.fail(in.position, "%s: more than %d rules; write fewer", path, maxEnvoyRules)
				return
			}
			if i == 0 && (domain == "" || len(domain) > maxEnvoyText) {
				r.fail(in.position, "%s: write a domain of 1 to %d bytes, that of Envoy's rate limit filter", path, maxEnvoyText)
			}
			refer(in.Limit, in.position, path+".limit")
			rule := EnvoyRule{Match: r.envoyMatch(in, path), Limit: in.Limit.value, Shadow: in.Shadow.value}
			for j, earlier := range c.Envoy[domain] {
				if len(rule.Match) > 0 && earlier.covers(rule.Match) {
					r.fail(in.position, "%s: never reached: rule %d of the domain matches all that this one does; put this one before it", path, j)
				}
			}
			c.Envoy[domain] = append(c.Envoy[domain], rule)
		}
	}
}

func (r *reader) envoyMatch(in *envoyRuleSchema, path string) (match []EnvoyEntry) {
	if n := len(in.Match); n == 0 || n > maxEnvoyEntries {
		r.fail(in.position, "%s.match: %d entries; write 1 to %d, such as [{key: user}]", path, n, maxEnvoyEntries)
		return nil
	}
	for i := range in.Match {
		e, path := &in.Match[i], fmt.Sprintf("%s.match[%d]", path, i)
		switch {
		case !e.Key.set:
			r.fail(e.position, "%s.key: missing; write the key of a descriptor entry", path)
		case e.Key.good && !envoyText(e.Key.value):
			r.fail(e.Key.pos, "%s.key: write 1 to %d bytes", path, maxEnvoyText)
		}
		if e.Value.good && !envoyText(e.Value.value) {
			r.fail(e.Value.pos, "%s.value: write 1 to %d bytes, or leave it out for any value", path, maxEnvoyText)
		}
		match = append(match, EnvoyEntry{e.Key.value, e.Value.value})
	}
	return match
}

func envoyText(s string) bool { return s != "" && len(s) <= maxEnvoyText && utf8.ValidString(s) }

// covers tells whether every descriptor that has the shape of match has that of the rule too.
func (r *EnvoyRule) covers(match []EnvoyEntry) bool {
	return slices.EqualFunc(r.Match, match, func(ours, theirs EnvoyEntry) bool {
		return ours.Key == theirs.Key && (ours.Value == "" || ours.Value == theirs.Value)
	})
}
