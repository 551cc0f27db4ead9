package processes

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/kv"
	"github.com/openclaw/edge/testnet/redis"
	"github.com/openclaw/edge/testnet/world"
)

// stores is what the nodes persist in, on the host's side of the bridge.
type stores struct {
	host   string
	door   *http.Server
	addr   string
	kv     atomic.Pointer[kv.Server] // which the door leads to
	served chan error
	redis  *redis.Server // nil: redis-server is not installed

	redisFault string
}

const (
	kvToken       = "testnet-kv-token"
	redisPassword = "testnet-redis-password"
)

// openStores returns what has to be closed on an error, too.
func openStores(host, dir string) (*stores, error) {
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		return nil, fmt.Errorf("processes: %w", err)
	}
	s := &stores{host: host, addr: l.Addr().String(), served: make(chan error, 1)}
	s.kv.Store(newKV())
	s.door = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		s.kv.Load().ServeHTTP(rw, r)
	})}
	go func() { s.served <- s.door.Serve(l) }() // until close
	s.redis, err = redis.New(redis.Options{Password: redisPassword, Dir: dir, Args: []string{"--bind", "127.0.0.1", host}})
	if err != nil && !errors.Is(err, redis.ErrMissing) {
		return s, err
	}
	return s, nil
}

func newKV() *kv.Server { return kv.New(kv.Config{Token: kvToken}) }

func (s *stores) kvURL() string { return "http://" + s.addr + kv.BasePath }

// redisURL is as the nodes reach it; "": there is none.
func (s *stores) redisURL() string {
	if s.redis == nil {
		return ""
	}
	return "redis://:${" + redisEnv + "}@" + strings.Replace(s.redis.Addr, "127.0.0.1", s.host, 1)
}

func (s *stores) env() []string {
	return []string{kvEnv + "=" + kvToken, redisEnv + "=" + redisPassword}
}

func (s *stores) close() error {
	s.kv.Load().Close() // what hangs ends
	s.door.Close()
	if s.redis != nil {
		s.redis.Close()
	}
	if err := <-s.served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("processes: KV stand-in: %w", err)
	}
	return nil
}

// Fault makes a store misbehave; "" heals it, and "empty" loses all that it holds.
func (w *World) Fault(store, fault string) error {
	var err error
	switch store {
	case "kv":
		err = w.stores.faultKV(fault)
	case "redis":
		err = w.stores.faultRedis(fault)
	default:
		err = fmt.Errorf("%w: there is no store %q, only kv and redis", world.ErrCannot, store)
	}
	if err == nil {
		w.note(judge.Fault, fault, []string{store})
	}
	return err
}

func (s *stores) faultKV(fault string) error {
	f, known := kv.Named(fault)
	if !known && fault != "" && fault != "empty" {
		return fmt.Errorf("%w: KV does down, 429, 500, slow, hang and empty, not %q", world.ErrCannot, fault)
	}
	if fault == "empty" {
		s.kv.Swap(newKV()).Close()
		return nil
	}
	s.kv.Load().Heal()
	if known {
		s.kv.Load().Fault(f)
	}
	return nil
}

// faultRedis does to the server's process what the fault says.
func (s *stores) faultRedis(fault string) error {
	if s.redis == nil {
		return fmt.Errorf("%w: %w", world.ErrCannot, redis.ErrMissing)
	}
	switch fault {
	case "", "down", "hang", "empty":
	default:
		return fmt.Errorf("%w: Redis does down, hang and empty, not %q; play this on nodes in one process", world.ErrCannot, fault)
	}
	was := s.redisFault
	s.redisFault = fault
	if was == "hang" {
		s.redis.Cont()
	}
	switch {
	case fault == "down":
		s.redis.Kill()
	case fault == "hang" && was != "down":
		s.redis.Stop()
	case fault == "hang":
		err := s.redis.Restart(false)
		s.redis.Stop()
		return err
	case fault == "empty":
		s.redisFault = ""
		return s.redis.Restart(true)
	case was == "down":
		return s.redis.Restart(false)
	}
	return nil
}
