package gossip_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openclaw/edge/gossip"
	"github.com/openclaw/edge/testnet/memnet"
)

// toy is a State: a map from key to a number that only grows, joined by max. An item's id is
// its own on every node, as in the real one: keys get ids in the order of their arrival.
type toy struct {
	mu      sync.Mutex
	ids     map[uint32]uint32 // key to id
	keys    []uint32          // id to key
	value   []uint64          // by id
	touched []time.Time       // by id
	dirty   map[uint32]bool
	later   func(key uint32) bool // true: refuse with ErrLater
	hear    func(node string, first bool) error
	bare    int  // headers heard that were empty: forged
	lonely  bool // it holds only its own so far
}

func newToy() *toy { return &toy{ids: map[uint32]uint32{}, dirty: map[uint32]bool{}} }

func (s *toy) id(key uint32) uint32 {
	id, ok := s.ids[key]
	if !ok {
		id = uint32(len(s.keys))
		s.ids[key] = id
		s.keys = append(s.keys, key)
		s.value = append(s.value, 0)
		s.touched = append(s.touched, time.Time{})
	}
	return id
}

func (s *toy) set(key uint32, v uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.id(key)
	s.value[id] = max(s.value[id], v)
	s.touched[id] = time.Now()
	s.dirty[id] = true
}

// plant changes a value behind the protocol's back.
func (s *toy) plant(key uint32, v uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.id(key)
	s.value[id], s.touched[id] = v, time.Time{}
}

func (s *toy) all() map[uint32]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := make(map[uint32]uint64)
	for id, v := range s.value {
		if v > 0 {
			m[s.keys[id]] = v
		}
	}
	return m
}

func (s *toy) Drain(ids []uint32) []uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids = slices.AppendSeq(ids, maps.Keys(s.dirty))
	clear(s.dirty)
	slices.Sort(ids)
	return ids
}

func (s *toy) Pack(dst []byte, ids []uint32, max int) ([]byte, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	begin := len(dst)
	for i, id := range ids {
		if len(dst)-begin+12 > max && i > 0 {
			return dst, i
		}
		dst = binary.BigEndian.AppendUint32(dst, s.keys[id])
		dst = binary.BigEndian.AppendUint64(dst, s.value[id])
	}
	return dst, len(ids)
}

func (s *toy) Unpack(b []byte, ids []uint32) (out []uint32, learnt int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(b)%12 != 0 {
		return ids, 0, errors.New("toy: odd payload")
	}
	for c := b; s.later != nil && len(c) > 0; c = c[12:] {
		if s.later(binary.BigEndian.Uint32(c)) {
			return ids, 0, fmt.Errorf("toy: %w", gossip.ErrLater)
		}
	}
	for ; len(b) > 0; b = b[12:] {
		id, v := s.id(binary.BigEndian.Uint32(b)), binary.BigEndian.Uint64(b[4:])
		if v > s.value[id] {
			s.value[id], s.touched[id] = v, time.Now()
			learnt++
		}
		ids = append(ids, id)
	}
	return ids, learnt, nil
}

func (s *toy) Header(dst []byte, peer string) []byte { return append(dst, "for "+peer...) }

func (s *toy) Heard(node string, header []byte, first bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(header) == 0 {
		s.bare++
	}
	if s.hear != nil {
		return s.hear(node, first)
	}
	return nil
}

func (s *toy) Scan(cursor uint64, ids []uint32, max int) ([]uint32, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for cursor < uint64(len(s.keys)) && max > 0 {
		ids = append(ids, uint32(cursor))
		cursor++
		max--
	}
	if cursor == uint64(len(s.keys)) {
		cursor = 0
	}
	return ids, cursor
}

func (s *toy) Agreed() bool { return !s.lonely }

// AuditPoint is five seconds ago: what rested since then takes part.
func (s *toy) AuditPoint(dst []byte) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(time.Now().Add(-5*time.Second).UnixNano()))
}

func (s *toy) Audit(point []byte, sums []uint64) error {
	for i := range sums {
		ids, err := s.AuditRange(point, i, len(sums), nil)
		if err != nil {
			return err
		}
		s.mu.Lock()
		for _, id := range ids {
			h := fnv.New64a()
			fmt.Fprint(h, s.keys[id], s.value[id])
			sums[i] ^= h.Sum64()
		}
		s.mu.Unlock()
	}
	return nil
}

func (s *toy) AuditRange(point []byte, i, n int, ids []uint32) ([]uint32, error) {
	at := time.Unix(0, int64(binary.BigEndian.Uint64(point)))
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, key := range s.keys {
		if int(key)%n == i && s.touched[id].Before(at) {
			ids = append(ids, uint32(id))
		}
	}
	return ids, nil
}

// cluster is a few nodes on one network in memory, inside a synctest bubble.
type cluster struct {
	t     *testing.T
	net   *memnet.Network
	nodes []*node
	seq   uint64
	audit time.Duration // 0: default
}

type node struct {
	*gossip.Gossip
	*toy
	addr       string
	rosterFile string
	cancel     context.CancelFunc
	done       chan error
}

func newCluster(t *testing.T, seed int64) *cluster {
	return &cluster{t: t, net: memnet.New(seed)}
}

// config is node i's: a, b, c… at 10.0.0.1…, with the first as seed.
func (c *cluster) config(i int) gossip.Config {
	c.seq++
	cfg := gossip.Config{
		Cluster: "test", Node: string(rune('a' + i)), Region: "here", Writer: 1000*uint64(i+1) + c.seq,
		Logger: quiet(), State: newToy(), AuditEvery: c.audit,
	}
	if i > 0 {
		cfg.Seeds = []string{address(0)}
	}
	return cfg
}

func quiet() *slog.Logger {
	if os.Getenv("GOSSIP_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.NewTextHandler(io.Discard, nil))
}

func address(i int) string { return fmt.Sprintf("10.0.0.%d:7946", i+1) }

// start runs a node at addr.
func (c *cluster) start(addr string, cfg gossip.Config) *node {
	c.t.Helper()
	tr, err := c.net.Listen(addr)
	if err != nil {
		c.t.Fatal(err)
	}
	cfg.Transport = tr
	g, err := gossip.New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &node{Gossip: g, toy: cfg.State.(*toy), addr: addr, rosterFile: cfg.RosterFile, cancel: cancel, done: make(chan error, 1)}
	go func() { n.done <- g.Run(ctx) }()
	c.nodes = append(c.nodes, n)
	return n
}

// grow starts n nodes, one after the other, and waits until they are whole.
func (c *cluster) grow(n int) []*node {
	c.t.Helper()
	for i := range n {
		c.start(address(i), c.config(i))
		c.until(5*time.Second, "a start is synced", func() bool { return c.nodes[i].View().Phase == gossip.Synced })
	}
	c.whole(n)
	return c.nodes
}

func (c *cluster) whole(n int) {
	c.t.Helper()
	c.until(20*time.Second, "all nodes agree on the members", func() bool {
		for _, x := range c.nodes {
			if v := x.View(); len(v.Members) != n || v.Roster != c.nodes[0].View().Roster || v.Phase != gossip.Synced {
				return false
			}
		}
		return true
	})
}

// until waits, in virtual time, for cond.
func (c *cluster) until(limit time.Duration, what string, cond func() bool) time.Duration {
	c.t.Helper()
	begin := time.Now()
	for !cond() {
		if time.Since(begin) > limit {
			for _, n := range c.nodes {
				v := n.View()
				c.t.Logf("%s: %v %q, roster %x, %d items, %+v", n.addr, v.Phase, v.PhaseNote, v.Roster, len(n.all()), n.Stats())
				c.t.Log(n.Dump())
				for _, m := range v.Known {
					c.t.Logf("\t%s %v: heard %v, proven %v ago, lag %v", m.Node, m.State, time.Since(m.HeardAt), time.Since(m.ProvenAt), m.Lag)
				}
			}
			c.t.Fatalf("not within %v: %s", limit, what)
		}
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
	}
	return time.Since(begin)
}

// equal waits until all nodes hold the same.
func (c *cluster) equal(limit time.Duration) time.Duration {
	c.t.Helper()
	return c.until(limit, "all nodes hold the same", func() bool {
		first := c.nodes[0].all()
		for _, n := range c.nodes[1:] {
			if !maps.Equal(first, n.all()) {
				return false
			}
		}
		return true
	})
}

// stop ends one node, politely or by pulling the plug.
func (c *cluster) stop(n *node) error {
	c.nodes = slices.DeleteFunc(c.nodes, func(o *node) bool { return o == n })
	n.cancel()
	return <-n.done
}

// crash stops a node without a word: what it says while it leaves, nobody hears, and its
// roster file stays as it was.
func (c *cluster) crash(n *node) {
	var file string
	var kept []byte
	if n.rosterFile != "" {
		file = n.rosterFile
		kept, _ = os.ReadFile(file)
	}
	for _, o := range c.nodes {
		if o != n {
			c.net.Cut(n.addr, o.addr)
		}
	}
	c.stop(n)
	if kept != nil {
		if err := os.WriteFile(file, kept, 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
	for _, o := range c.nodes {
		c.net.Heal(n.addr, o.addr)
	}
}

func lossy(p float64) memnet.Link { return memnet.Link{Delay: 10 * time.Millisecond, Loss: p} }

func (c *cluster) stopAll() {
	for _, n := range c.nodes {
		n.cancel()
	}
	for _, n := range c.nodes {
		if err := <-n.done; err != nil {
			c.t.Errorf("%s: %v", n.addr, err)
		}
	}
	time.Sleep(5 * time.Minute) // timers of memberlist's that outlive it; a bubble wants to be empty
}

// member is how n sees node.
func (n *node) member(node string) gossip.Member {
	for _, m := range n.View().Known {
		if m.Node == node {
			return m
		}
	}
	return gossip.Member{}
}
