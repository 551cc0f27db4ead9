package node

import (
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"reflect"
	"time"
)

const (
	maxFile    = 4 << 20
	maxVersion = 1<<48 - 1 // the bits that an epoch has for it
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
	if c, warnings, err = parseConfig(path, text, modified); err == nil {
		err = c.TLS.check(time.Now())
	}
	return c, warnings, err
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
	if len(r.problems) > 0 && reflect.ValueOf(f).IsZero() {
		return c, nil, r.err() // no YAML at all
	}
	// The version is in milliseconds, so that two edits within a second keep their order.
	c.LimitsVersion = f.Version.or(uint64(max(1, modified.UnixMilli())))
	if f.Version.good && (c.LimitsVersion < 1 || c.LimitsVersion > maxVersion) {
		r.fail(f.Version.pos, "version: write a whole number from 1 to %d", uint64(maxVersion))
	}
	c.Cluster = r.label(f.Cluster, c.Cluster, "cluster")
	c.Node = r.label(f.Node, c.Node, "node")
	c.Region = r.label(f.Region, c.Region, "region")
	c.AdminTokenEnv = f.Admin.TokenEnv.or("")
	c.TrustedProxies = r.proxies(f.TrustedProxies, c.TrustedProxies)
	c.LegacyHeaders = f.LegacyHeaders.or(false)
	c.Limits = r.limits(f.Limits)
	r.gossip(&f, &c)
	r.persist(&f, &c)
	r.tls(&f, &c)
	r.users(&f, &c)
	return c, r.warnings, r.err()
}

func (r *reader) label(a at[string], otherwise, path string) string {
	if a.good && !label.MatchString(a.value) {
		r.fail(a.pos, "%s: %q; %s", path, a.value, labelHelp)
	}
	return a.or(otherwise)
}

func (r *reader) within(a at[time.Duration], path string, low, high time.Duration) {
	if a.good && (a.value < low || a.value > high) {
		r.fail(a.pos, "%s: %v; write %v to %v", path, a.value, low, high)
	}
}

func (r *reader) gossip(f *fileSchema, c *Config) {
	g := &f.Gossip
	for i, a := range g.Join {
		if err := checkAddr(a.value); err != nil && a.good {
			r.fail(a.pos, "gossip.join[%d]: %q; %v", i, a.value, err)
		}
		c.Join = append(c.Join, a.value)
	}
	for i, a := range g.Keys {
		key, err := base64.StdEncoding.DecodeString(a.value)
		if n := len(key); a.good && (err != nil || (n != 16 && n != 24 && n != 32)) {
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
		if d.good && c.Lease < max(c.Doubt, 2*c.RoundWAN, 2*c.RoundRegion) {
			r.fail(d.pos, "gossip: a lease of %v is shorter than the doubt (%v) or than two rounds (%v, %v), so healthy peers would look lost; write a longer lease",
				c.Lease, c.Doubt, c.RoundRegion, c.RoundWAN)
			break
		}
	}
}

// users reads the sections that name limits.
func (r *reader) users(f *fileSchema, c *Config) {
	names := map[string]bool{}
	for _, d := range c.Limits {
		names[d.Name] = true
	}
	refer := func(a at[string], pos position, path string) {
		if !a.set {
			r.fail(pos, "%s: missing; write the name of a limit", path)
		} else if a.good && !names[a.value] {
			r.fail(a.pos, "%s: no limit is named %q; write the name of one under limits", path, a.value)
		}
	}
	if f.Ratings != nil {
		refer(f.Ratings.Limit, f.Ratings.position, "ratings.limit")
		c.RatingsLimit = f.Ratings.Limit.or(c.RatingsLimit)
	}
	r.envoy(f, c, refer)
}
