package persist

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	goredis "github.com/redis/go-redis/v9"
)

// KEYS[1]; version, data, TTL in ms or 0. Equal versions are written again, for the TTL's sake.
const redisPut = `
local held = redis.call('HGET', KEYS[1], 'v')
if held and held > ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'v', ARGV[1], 'd', ARGV[2])
if ARGV[3] == '0' then redis.call('PERSIST', KEYS[1])
else redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return 1`

// KEYS[1]; version, or "" for any.
const redisDelete = `
local held = redis.call('HGET', KEYS[1], 'v')
if held and (ARGV[1] == '' or held == ARGV[1]) then return redis.call('DEL', KEYS[1]) end
return 0`

func redisVersion(v uint64) string { return fmt.Sprintf("%020d", v) }

// Put sends batches of some MiB, and none after one that failed as a whole. Values over 4 MiB
// are rejected.
func (r *Redis) Put(ctx context.Context, values []Value) error {
	keys := make([]string, 0, len(values))
	byKey := make(map[string]Value, len(values))
	out := newOutcome()
	for _, v := range values {
		if len(v.Data) > maxRedisValue {
			out.fail(v.Key, &Error{Store: "redis", Op: "put", Kind: Rejected,
				Err: fmt.Errorf("%s is %d bytes, at most %d", v.Key, len(v.Data), maxRedisValue)})
			continue
		}
		keys, byKey[v.Key] = append(keys, v.Key), v
	}
	size := func(key string) int { return len(byKey[key].Data) }
	r.batches(ctx, "put", keys, size, out, func(p goredis.Pipeliner, key string) {
		v := byKey[key]
		ttl := int64(0)
		if v.TTL > 0 {
			ttl = max(v.TTL.Milliseconds(), 1)
		}
		p.Eval(ctx, redisPut, []string{key}, redisVersion(v.Version), v.Data, ttl)
	}, nil)
	return out.err()
}

// Delete compares the version and deletes in one step.
func (r *Redis) Delete(ctx context.Context, entries []Entry) error {
	keys := make([]string, len(entries))
	version := make(map[string]string, len(entries))
	for i, e := range entries {
		keys[i] = e.Key
		if e.Version != 0 {
			version[e.Key] = redisVersion(e.Version)
		}
	}
	out := newOutcome()
	r.batches(ctx, "delete", keys, nil, out, func(p goredis.Pipeliner, key string) {
		p.Eval(ctx, redisDelete, []string{key}, version[key])
	}, nil)
	return out.err()
}

// Get's values have no TTL. It asks for some MiB at a time, by the sizes given.
func (r *Redis) Get(ctx context.Context, entries []Entry, each func(Value) error) error {
	keys := make([]string, len(entries))
	sizes := make(map[string]int, len(entries))
	for i, e := range entries {
		keys[i], sizes[e.Key] = e.Key, e.Size
		if e.Size <= 0 {
			sizes[e.Key] = 1 << 20 // not known
		}
	}
	out := newOutcome()
	err := r.batches(ctx, "get", keys, func(key string) int { return sizes[key] }, out, func(p goredis.Pipeliner, key string) {
		p.HMGet(ctx, key, "v", "d")
	}, func(key string, cmd goredis.Cmder) error {
		fields := cmd.(*goredis.SliceCmd).Val()
		text, found := fields[0].(string)
		data, _ := fields[1].(string)
		if !found {
			return nil
		}
		version, _ := redisVersionOf(text)
		return each(Value{Key: key, Version: version, Data: []byte(data)})
	})
	if err != nil {
		return err
	}
	return out.err()
}

func redisVersionOf(text string) (v uint64, ok bool) {
	if len(text) != 20 {
		return 0, false
	}
	v, err := strconv.ParseUint(text, 10, 64)
	return v, err == nil
}

// maxRedisKeys bounds what List holds in memory: some 100 MB.
const maxRedisKeys = 1 << 20

// List walks all keys of the database, so it costs something where others use it, too. What
// was found before an error comes with it. Keys that hold no value of ours are left out.
func (r *Redis) List(ctx context.Context, prefix string) ([]Entry, error) {
	keys, scanErr := r.scan(ctx, prefix)
	found, err := r.Look(ctx, keys)
	if scanErr != nil {
		return found, r.fail("list", scanErr)
	}
	return found, err
}

// Look is List for keys that are known: some bytes each way for each of them.
func (r *Redis) Look(ctx context.Context, keys []string) ([]Entry, error) {
	found := make([]Entry, 0, len(keys))
	out := newOutcome()
	r.batches(ctx, "list", keys, nil, out, func(p goredis.Pipeliner, key string) {
		p.Eval(ctx, redisHead, []string{key})
	}, func(key string, cmd goredis.Cmder) error {
		head := cmd.(*goredis.Cmd).Val().([]any)
		if version, ok := redisVersionOf(fmt.Sprint(head[0])); ok {
			size, _ := head[1].(int64)
			found = append(found, Entry{key, version, int(size)})
		}
		return nil
	})
	return found, out.err()
}

// KEYS[1]; answers version and size, or two empty ones.
const redisHead = `
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return {'', 0} end
return {redis.call('HGET', KEYS[1], 'v') or '', redis.call('HSTRLEN', KEYS[1], 'd')}`

// scan is all keys with that prefix, each once, in order.
func (r *Redis) scan(ctx context.Context, prefix string) ([]string, error) {
	var mu sync.Mutex // masters are asked at the same time
	found := map[string]struct{}{}
	pattern := globEscape.Replace(prefix) + "*"
	walk := func(ctx context.Context, node goredis.Cmdable) error {
		for cursor := uint64(0); ; {
			ctx, cancel := r.limit(ctx, 0)
			page, next, err := node.Scan(ctx, cursor, pattern, 1000).Result()
			cancel()
			if err != nil {
				return err
			}
			mu.Lock()
			for _, key := range page {
				found[key] = struct{}{}
			}
			n := len(found)
			mu.Unlock()
			if n > maxRedisKeys {
				return fmt.Errorf("more than %d keys begin with %s", maxRedisKeys, prefix)
			}
			if cursor = next; cursor == 0 {
				return nil
			}
		}
	}
	err := r.guard(ctx, func() error {
		if c, ok := r.client.(*goredis.ClusterClient); ok {
			return c.ForEachMaster(ctx, func(ctx context.Context, node *goredis.Client) error { return walk(ctx, node) })
		}
		return walk(ctx, r.client)
	})
	keys := make([]string, 0, len(found))
	for key := range found {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys, err
}

var globEscape = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`)

// batches queues one command a key, and hands every reply to got, if there is one: an error of
// got's ends it. What fails goes into out. size is that of a key's value; nil: small.
func (r *Redis) batches(ctx context.Context, op string, keys []string, size func(string) int, out *outcome,
	queue func(goredis.Pipeliner, string), got func(string, goredis.Cmder) error) error {
	for len(keys) > 0 {
		n, bytes := 0, 0
		for n < len(keys) && n < redisKeys {
			s := 0
			if size != nil {
				s = size(keys[n])
			}
			if n > 0 && bytes+s > redisBatch {
				break
			}
			n, bytes = n+1, bytes+s
		}
		cmds, err := r.pipeline(ctx, bytes, func(p goredis.Pipeliner) {
			for _, key := range keys[:n] {
				queue(p, key)
			}
		})
		for i, key := range keys[:n] {
			switch {
			case err != nil:
				out.fail(key, r.fail(op, err))
			case !answered(cmds[i]):
				out.fail(key, r.fail(op, replyError(cmds[i])))
			default:
				out.done++
				if got != nil {
					if err := got(key, cmds[i]); err != nil {
						return err
					}
				}
			}
		}
		keys = keys[n:]
		if err != nil { // the rest is not tried
			e := *r.fail(op, err)
			if e.Kind == Unknown {
				e.Kind = Failed
			}
			for _, key := range keys {
				out.fail(key, &e)
			}
			return nil
		}
	}
	return nil
}

// pipeline's error is of all commands together.
func (r *Redis) pipeline(ctx context.Context, size int, queue func(goredis.Pipeliner)) (cmds []goredis.Cmder, err error) {
	err = r.guard(ctx, func() error {
		ctx, cancel := r.limit(ctx, size)
		defer cancel()
		var err error
		cmds, err = r.client.Pipelined(ctx, func(p goredis.Pipeliner) error {
			queue(p)
			return nil
		})
		if slices.ContainsFunc(cmds, answered) {
			return nil
		}
		return err
	})
	return cmds, err
}

// answered tells commands that were done. No error is not enough: where no connection could
// be had because of a wrong password, commands have neither an error nor a reply.
func answered(cmd goredis.Cmder) bool {
	if cmd.Err() != nil {
		return false
	}
	switch c := cmd.(type) {
	case *goredis.Cmd:
		return c.Val() != nil
	case *goredis.SliceCmd:
		return c.Val() != nil
	}
	return false
}

func replyError(cmd goredis.Cmder) error {
	if err := cmd.Err(); err != nil {
		return err
	}
	return errNoReply
}

// outcome gathers what became of each key.
type outcome struct {
	done   int
	failed map[string]*Error
	first  *Error // the one that stands for all; Unknown goes before others
	single bool   // no key was rejected for itself
}

func newOutcome() *outcome { return &outcome{failed: map[string]*Error{}, single: true} }

func (o *outcome) fail(key string, e *Error) {
	o.failed[key] = e
	if e.Kind == Rejected {
		o.single = false
	} else if o.first == nil || e.Kind == Unknown && o.first.Kind != Unknown {
		o.first = e
	}
}

func (o *outcome) err() error {
	switch {
	case len(o.failed) == 0:
		return nil
	case o.done == 0 && o.single:
		return o.first
	}
	return &Partial{Keys: o.failed}
}
