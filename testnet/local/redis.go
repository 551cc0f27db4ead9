package local

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"

	"github.com/openclaw/edge/testnet/redis"
)

// openRedis starts a real redis-server where one is installed, else the embedded one.
func openRedis(dir string, embedded bool) (redisServer, error) {
	if !embedded {
		s, err := redis.New(redis.Options{Dir: dir})
		if err == nil {
			return &realRedis{server: s}, nil
		}
		if !errors.Is(err, redis.ErrMissing) {
			return nil, fmt.Errorf("local: %w", err)
		}
	}
	e := &embeddedRedis{server: miniredis.NewMiniRedis()}
	if err := e.server.StartAddr("127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("local: embedded redis: %w", err)
	}
	e.at, e.asked = e.server.Addr(), embedded
	e.server.Server().SetPreHook(e.wait)
	return e, nil
}

// realRedis is a process.
type realRedis struct {
	server *redis.Server
	now    string // the fault that is on
}

func (r *realRedis) addr() string { return r.server.Addr }

func (r *realRedis) String() string {
	version := ""
	if info, err := r.server.Ask("INFO", "server"); err == nil {
		_, rest, _ := strings.Cut(fmt.Sprint(info), "redis_version:")
		version, _, _ = strings.Cut(rest, "\r")
	}
	return strings.TrimSpace("redis-server "+version) + " at " + r.addr()
}

func (r *realRedis) fault(name string) error {
	if name == r.now {
		return nil
	}
	if r.now == "hang" {
		r.server.Cont()
	}
	if r.now == "down" || name == "empty" {
		if err := r.server.Restart(name == "empty"); err != nil {
			return fmt.Errorf("local: %w", err)
		}
	}
	switch r.now = name; name {
	case "down":
		r.server.Kill()
	case "hang":
		r.server.Stop()
	case "empty":
		r.now = "" // it is over at once
	}
	return nil
}

func (r *realRedis) close() { r.server.Close() }

// embeddedRedis lives in this process, for machines without redis-server. Keys do not expire on
// it, as its time stands still.
type embeddedRedis struct {
	server *miniredis.Miniredis
	at     string
	asked  bool // for, and not for want of a real one
	down   bool

	mu   sync.Mutex
	hung chan struct{} // closed by the heal; nil: it answers
}

func (e *embeddedRedis) addr() string { return e.at }

func (e *embeddedRedis) String() string {
	why := "as redis-server is not installed"
	if e.asked {
		why = "as was asked for"
	}
	return fmt.Sprintf("embedded (miniredis) at %s, %s", e.at, why)
}

// wait holds up a command while the server hangs.
func (e *embeddedRedis) wait(*server.Peer, string, ...string) bool {
	e.mu.Lock()
	hung := e.hung
	e.mu.Unlock()
	if hung != nil {
		<-hung
	}
	return false // the command is to be done
}

func (e *embeddedRedis) hang(on bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case on && e.hung == nil:
		e.hung = make(chan struct{})
	case !on && e.hung != nil:
		close(e.hung)
		e.hung = nil
	}
}

func (e *embeddedRedis) fault(name string) error {
	e.hang(name == "hang")
	switch {
	case name == "down" && !e.down:
		e.server.Close()
		e.down = true
	case name != "down" && e.down:
		if err := e.server.Restart(); err != nil {
			return fmt.Errorf("local: embedded redis: %w", err)
		}
		e.server.Server().SetPreHook(e.wait)
		e.down = false
	}
	if name == "empty" {
		e.server.FlushAll()
	}
	return nil
}

func (e *embeddedRedis) close() {
	e.hang(false)
	e.server.Close()
}
