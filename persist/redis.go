package persist

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/sony/gobreaker/v2"
)

// Redis is a Store in a Redis server, a Sentinel group's master, or a Redis Cluster. A key
// holds a hash of two fields: v, the version in 20 decimal digits (Lua has no 64-bit integers,
// but compares strings), and d, the data. All writes go through scripts that compare versions,
// one key each: so repeating one, or its being done late, does no harm, and a cluster can place
// keys as it likes. The scripts are sent as text: in a pipeline the digest alone would fail on a
// server that has not seen it, and next to a segment they weigh nothing.
//
// A server that does not answer costs a call its timeout; after two in a row calls fail at once
// for ten seconds, but one that probes.
type Redis struct {
	client  goredis.UniversalClient
	opts    *goredis.UniversalOptions
	text    string
	call    time.Duration
	breaker *gobreaker.CircuitBreaker[struct{}]
	until   atomic.Int64 // unix ms when the breaker lets the next one through
	greeted atomic.Bool  // it has answered once
}

// RedisConfig says where Redis is. Nothing is dialled before the first call.
type RedisConfig struct {
	// URL is one of
	//
	//	redis://[[user]:password@]host[:6379][/db]      rediss://… with TLS
	//	unix://[[user]:password@]/path/to/socket[?db=1]
	//	redis://[[user]:password@]sentinel[:port][/db]?master_name=NAME[&addr=sentinel2:port…]
	//	    [&username=…&password=…]                    before the @ the sentinels', here the master's
	//	redis://[[user]:password@]node[:port][?addr=node2:port…]    with Cluster
	//
	// with these parameters, too: skip_verify=true (TLS without checking the certificate, not
	// for clusters), dial_timeout (default 500ms, with TLS 1s) and read_timeout (1s, plus a
	// second for every MiB that is sent or asked for).
	URL     string
	Cluster bool // a Redis Cluster; one node of it in URL is enough
}

const (
	redisDial  = 500 * time.Millisecond
	redisCall  = time.Second
	redisTrip  = 2 // timeouts in a row
	redisRest  = 10 * time.Second
	redisConns = 16

	maxRedisValue = 4 << 20
	redisBatch    = 2 << 20 // bytes in one pipeline, unless one value is larger
	redisKeys     = 500     // keys in one pipeline
)

// NewRedis checks the configuration. Its errors never contain the URL: it may hold a password.
func NewRedis(cfg RedisConfig) (*Redis, error) {
	opts, err := redisOptions(cfg)
	if err != nil {
		return nil, &Error{Store: "redis", Op: "open", Kind: Misconfigured, Err: err}
	}
	r := &Redis{opts: opts, call: opts.ReadTimeout, text: redisText(opts)}
	// The context of each request is the nearer limit; this one holds for the client's own.
	opts.ReadTimeout += (maxRedisValue>>20 + 1) * time.Second
	opts.WriteTimeout = opts.ReadTimeout
	r.client = goredis.NewUniversalClient(opts)
	r.breaker = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Name: "redis", Timeout: redisRest,
		ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= redisTrip },
		IsSuccessful: func(err error) bool { return !errors.As(err, new(*silentError)) },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			if to == gobreaker.StateOpen {
				r.until.Store(time.Now().Add(redisRest).UnixMilli())
			}
		},
	})
	return r, nil
}

// go-redis logs to standard error what it also returns. Its logger is one for all, and is not
// to be changed while one of its goroutines runs.
func init() { goredis.SetLogger(noLog{}) }

type noLog struct{}

func (noLog) Printf(context.Context, string, ...any) {}

func (r *Redis) Name() string { return "redis" }

// Lag is 0: a server answers with what it acknowledged. One that fails over to a replica may
// lose what it acknowledged just before.
func (r *Redis) Lag() time.Duration { return 0 }

// String is the address, without secrets.
func (r *Redis) String() string { return r.text }

func redisText(o *goredis.UniversalOptions) string {
	text := strings.Join(o.Addrs, ",")
	if o.MasterName != "" {
		text = fmt.Sprintf("master %s of %s", o.MasterName, text)
	}
	if o.TLSConfig != nil {
		text += " (TLS)"
	}
	return text
}

// Close closes the connections; calls under way fail.
func (r *Redis) Close() error {
	if err := r.client.Close(); err != nil && !errors.Is(err, goredis.ErrClosed) {
		return r.fail("close", err)
	}
	return nil
}

// silentError is a timeout that was the server's fault: the breaker counts it.
type silentError struct{ error }

func (e *silentError) Unwrap() error { return e.error }

// guard runs work unless the breaker is open.
func (r *Redis) guard(ctx context.Context, work func() error) error {
	if err := ctx.Err(); err != nil {
		return &notBegunError{err}
	}
	_, err := r.breaker.Execute(func() (struct{}, error) {
		err := work()
		switch {
		case err == nil:
			r.greeted.Store(true)
		case !r.greeted.Load() && r.mistakenTLS(err):
			err = fmt.Errorf("%w (%v)", errTLS, err)
		case isTimeout(err) && ctx.Err() == nil:
			err = &silentError{err}
		}
		return struct{}{}, err
	})
	return err
}

// limit bounds a request that sends or asks for that many bytes.
func (r *Redis) limit(ctx context.Context, size int) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, r.call+time.Duration(size)*time.Second/(1<<20))
}

// fail makes an Error of what a call returned.
func (r *Redis) fail(op string, err error) *Error {
	e := &Error{Store: "redis", Op: op}
	switch {
	case errors.Is(err, gobreaker.ErrOpenState):
		e.Until = time.UnixMilli(r.until.Load())
		e.Err = fmt.Errorf("%s did not answer; next try at %s", r.text, e.Until.UTC().Format(time.TimeOnly))
	case errors.Is(err, gobreaker.ErrTooManyRequests):
		e.Until = time.Now().Add(r.call)
		e.Err = fmt.Errorf("%s did not answer; another call is trying it", r.text)
	default:
		var do string
		e.Kind, do = redisKind(err, r.opts)
		e.Err = r.redact(fmt.Errorf("%s: %w: %s", r.text, err, do))
	}
	return e
}

// redact is the second line of defence: no error is known to contain a password.
func (r *Redis) redact(err error) error {
	text := err.Error()
	for _, secret := range []string{r.opts.Password, r.opts.SentinelPassword} {
		if secret != "" && strings.Contains(text, secret) {
			text = strings.ReplaceAll(text, secret, "***")
			err = errors.New(text)
		}
	}
	return err
}
