package node

import (
	"fmt"
	"regexp"
	"time"

	"github.com/openclaw/edge/crdt"
)

// What a file may say of limits.
const (
	maxLimits     = 1000
	maxCapacity   = uint64(crdt.MaxCapacity / crdt.Token)
	maxMaxBuckets = 16_000_000
	maxFill       = 50 * 365 * 24 * time.Hour // twice that must fit a duration
	tightCapacity = 0.4                       // seconds of refill below which lawful traffic over regions may be refused
)

var limitName = regexp.MustCompile(`^[a-z0-9_.-]{1,64}$`)

func (r *reader) limits(list []limitSchema) []crdt.Definition {
	if len(list) == 0 && len(r.problems) == 0 {
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
		if first, twice := seen[l.Name.value]; twice && l.Name.good {
			r.fail(l.Name.pos, "%s.name: a second limit named %q (the first is on line %d); give it a name of its own", path, l.Name.value, first.line)
		}
		seen[l.Name.value] = l.Name.pos
	}
	return defs
}

func (r *reader) limit(l *limitSchema, path string) crdt.Definition {
	d := crdt.Definition{Name: l.Name.value, Policy: l.OnPartition.value, TTL: l.TTL.value,
		MaxBuckets: uint32(l.MaxBuckets.or(defaultMaxBuckets)), Key: r.keySpec(l, path+".key")}
	switch {
	case !l.Name.set:
		r.fail(l.position, "%s.name: missing; write name: per-user", path)
	case l.Name.good && !limitName.MatchString(l.Name.value):
		r.fail(l.Name.pos, "%s.name: %q; write 1 to 64 of a-z, 0-9, '-', '_' and '.'", path, l.Name.value)
	}
	d.Capacity, d.Rate = r.allowance(l.Capacity, l.RefillRate, l.position, path)
	if l.MaxBuckets.good && (l.MaxBuckets.value < 1 || l.MaxBuckets.value > maxMaxBuckets) {
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
	case capacity.good && (capacity.value < 1 || capacity.value > maxCapacity):
		r.fail(capacity.pos, "%s.capacity: write a whole number from 1 to %d", path, maxCapacity)
	}
	switch {
	case !rate.set:
		r.fail(pos, "%s.refill_rate: missing; write tokens per second, such as refill_rate: 10 (or \"1000/h\")", path)
	case rate.good && rate.value.Time(tokens) > maxFill:
		r.fail(rate.pos, "%s.refill_rate: %s fills the bucket in more than 50 years; write a higher rate or a lower capacity", path, rate.value)
	}
	return tokens, rate.value
}
