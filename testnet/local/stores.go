package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/openclaw/edge/node"
	"github.com/openclaw/edge/testnet/kv"
	"github.com/openclaw/edge/testnet/relay"
	"github.com/openclaw/edge/testnet/world"
)

// What the nodes are told about the stores. Every few seconds, so that there is something to see;
// six nodes then make some two calls a second, and may make three.
const (
	snapshotEvery  = 4 * time.Second
	reconcileEvery = 30 * time.Second
	kvToken        = "a-token-of-the-testnet"
)

// stores is the cluster's KV and Redis, and each node's lines to them.
type stores struct {
	kv     *kv.Server
	kvAddr string
	redis  redisServer
	lines  map[string][]*line // of the newest start of each node
	stop   context.CancelFunc
	served chan error // what ended the KV stand-in
}

// redisServer plays Redis: a real one, or the embedded one.
type redisServer interface {
	addr() string
	String() string
	fault(name string) error // one of redisFaults; "" heals
	close()
}

// redisFaults: a stopped server; one that accepts and never answers; one that has lost everything.
var redisFaults = []string{"", "down", "hang", "empty"}

func openStores(dir string, embedded bool) (*stores, error) {
	s := &stores{kv: kv.New(kv.Config{Token: kvToken}), lines: make(map[string][]*line), served: make(chan error, 1)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("local: kv: %w", err)
	}
	s.kvAddr = l.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() { s.served <- s.kv.Serve(ctx, l) }() // until close
	if s.redis, err = openRedis(dir, embedded); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *stores) String() string {
	return fmt.Sprintf("KV: a stand-in at %s · Redis: %v", s.kvAddr, s.redis)
}

// connect gives a start of a node lines of its own to both stores.
func (s *stores) connect(c *node.Config) error {
	s.tear(c.Node)
	for _, target := range []string{s.kvAddr, s.redis.addr()} {
		l, err := newLine(target)
		if err != nil {
			return err
		}
		s.lines[c.Node] = append(s.lines[c.Node], l)
	}
	p := &c.Persist
	p.SnapshotEvery, p.ReconcileEvery = snapshotEvery, reconcileEvery
	p.Backend, p.AccountID, p.NamespaceID, p.Token = node.BackendCloudflare, "account", "namespace", kvToken
	p.BaseURL = "http://" + s.lines[c.Node][0].addr() + kv.BasePath
	p.RedisURL = node.Secret("redis://" + s.lines[c.Node][1].addr())
	return kv.Rested(c.DataDir)
}

// tear ends a node's lines: what it still sends arrives nowhere.
func (s *stores) tear(name string) {
	for _, l := range s.lines[name] {
		l.close()
	}
	delete(s.lines, name)
}

func (s *stores) fault(store, fault string) error {
	switch store {
	case "kv":
		return s.kvFault(fault)
	case "redis":
		if !slices.Contains(redisFaults, fault) {
			return fmt.Errorf("local: redis knows the faults %s; not %q: %w", strings.Join(redisFaults[1:], ", "), fault, world.ErrCannot)
		}
		return s.redis.fault(fault)
	}
	return fmt.Errorf("local: there is no store %q, only kv and redis: %w", store, world.ErrCannot)
}

// kvFault switches a fault of a name on, or a lag: "lag", or "lag 20s".
func (s *stores) kvFault(name string) error {
	f, known := kv.Named(name)
	lag, isLag := strings.CutPrefix(name, "lag")
	age := time.Minute
	if lag = strings.Trim(lag, " =:"); isLag && lag != "" {
		var err error
		if age, err = time.ParseDuration(lag); err != nil || age < 0 {
			return fmt.Errorf("local: kv: %q: write lag, or how old a state readers see, as in \"lag 20s\"", name)
		}
	}
	if name != "" && !known && !isLag {
		return fmt.Errorf("local: kv knows the faults down, 429, 500, slow, hang, lag and \"lag 20s\"; not %q: %w", name, world.ErrCannot)
	}
	s.kv.Heal()
	s.kv.Lag(0)
	switch {
	case known:
		s.kv.Fault(f)
	case isLag:
		s.kv.Lag(age)
	}
	return nil
}

func (s *stores) heal() error { return errors.Join(s.kvFault(""), s.redis.fault("")) }

// close ends the lines, then the stores.
func (s *stores) close() error {
	for name := range s.lines {
		s.tear(name)
	}
	if s.redis != nil {
		s.redis.close()
	}
	s.stop()
	return <-s.served
}

// line is one node's way to one store.
type line struct {
	relay *relay.Relay
	stop  context.CancelFunc
	ended chan error
}

func newLine(target string) (*line, error) {
	r, err := relay.New(relay.Config{Listen: "127.0.0.1:0", Target: target})
	if err != nil {
		return nil, fmt.Errorf("local: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	l := &line{r, stop, make(chan error, 1)}
	go func() { l.ended <- r.Run(ctx) }() // until close
	select {
	case <-r.Started():
		return l, nil
	case err := <-l.ended:
		stop()
		return nil, fmt.Errorf("local: %w", err)
	}
}

func (l *line) addr() string { return l.relay.Addr() }

func (l *line) close() {
	l.stop()
	<-l.ended // what it says is of no use any more
}
