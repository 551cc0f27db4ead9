package gossip

import (
	"context"
	"fmt"
	"maps"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/vmihailenco/msgpack/v5"
)

const (
	maxQueued     = 32 << 20 // bytes waiting in the inbox
	probeInterval = 1500 * time.Millisecond
	probeTimeout  = 700 * time.Millisecond
	tcpTimeout    = 5 * time.Second
)

// membership is what stands between memberlist and the loop: it is memberlist's delegate,
// which only copies and posts, and it owns the goroutines that may block.
type membership struct {
	g       *Gossip
	ml      *memberlist.Memberlist
	cluster uint32
	meta    []byte
	inbox   chan message
	queued  atomic.Int64 // bytes in inbox
	rosters chan []byte
	roster  atomic.Pointer[[]byte]
	self    string        // our address, as told to peers
	over    chan struct{} // closed when the loop has ended
	wg      sync.WaitGroup

	mu    sync.Mutex
	alive map[string]string // memberlist names it holds alive, and their addresses
}

// nodeMeta is what memberlist tells everybody of a node: for people and tools; the protocol
// itself takes names from frames and the roster.
type nodeMeta struct {
	Format int    `msgpack:"f"`
	Node   string `msgpack:"n"`
	Region string `msgpack:"r"`
	Writer uint64 `msgpack:"w"`
}

func newMembership(g *Gossip) (*membership, error) {
	meta, err := msgpack.Marshal(nodeMeta{frameFormat, g.cfg.Node, g.cfg.Region, g.cfg.Writer})
	if err != nil || len(meta) > memberlist.MetaMaxSize {
		return nil, fmt.Errorf("gossip: node metadata of %d bytes: %w", len(meta), err)
	}
	m := &membership{
		g: g, cluster: clusterHash(g.cfg.Cluster), meta: meta,
		inbox: make(chan message, inboxLen), rosters: make(chan []byte, rostersLen), over: make(chan struct{}),
		alive: make(map[string]string),
	}
	m.roster.Store(new([]byte))
	return m, nil
}

// open binds and makes memberlist listen.
func (m *membership) open(ctx context.Context) error {
	cfg := &m.g.cfg
	c := memberlist.DefaultLANConfig()
	c.Name = memberName(cfg.Node, cfg.Writer)
	c.Label, c.Keyring, c.Delegate, c.Events = cfg.Cluster, m.g.keyring, m, m
	c.ProbeInterval, c.ProbeTimeout, c.SuspicionMult = probeInterval, probeTimeout, 4
	c.GossipInterval, c.GossipNodes = 200*time.Millisecond, 4
	c.EnableCompression, c.UDPBufferSize, c.TCPTimeout = false, 1400, tcpTimeout
	c.Logger = newLogger(m.g)
	c.LogOutput = nil
	inner := cfg.Transport
	if inner == nil {
		t, err := listen(ctx, cfg.Bind, c.Logger)
		if err != nil {
			return err
		}
		inner = t
	}
	t := newTransport(inner)
	c.Transport = t
	c.AdvertiseAddr, c.AdvertisePort = "", 0
	if cfg.Advertise != "" {
		a, err := resolve(ctx, cfg.Advertise)
		if err != nil {
			_ = t.Shutdown()
			return fmt.Errorf("gossip: advertise address: %w", err)
		}
		c.AdvertiseAddr, c.AdvertisePort = a[0].IP.String(), a[0].Port
	}
	ml, err := memberlist.Create(c)
	if err != nil {
		_ = t.Shutdown()
		return fmt.Errorf("gossip: %w", err)
	}
	m.ml = ml
	m.self = m.living()[c.Name]
	m.g.addr = m.self
	if nt, ok := inner.(*memberlist.NetTransport); ok {
		host, _, _ := net.SplitHostPort(cfg.Bind)
		m.g.addr = net.JoinHostPort(host, fmt.Sprint(nt.GetAutoBindPort()))
	}
	return nil
}

// close leaves memberlist and waits for everything that was spawned.
func (m *membership) close() {
	close(m.over)
	_ = m.ml.Leave(500 * time.Millisecond) // best effort: the roster has said it already
	_ = m.ml.Shutdown()
	m.wg.Wait()
}

// spawn runs f in a goroutine that close waits for. f may call nothing of the loop but
// through channels that also look at over.
func (m *membership) spawn(f func()) { m.wg.Go(f) }

func (m *membership) ended(done chan<- streamed, s streamed) {
	select {
	case done <- s:
	case <-m.over:
	}
}

// do runs f on the loop; false: the loop has ended.
func (m *membership) do(f func(*loop)) bool {
	c := call{f: f, done: make(chan struct{})}
	select {
	case m.g.calls <- c:
		<-c.done
		return true
	case <-m.over:
		return false
	}
}

// NodeMeta implements memberlist.Delegate.
func (m *membership) NodeMeta(int) []byte { return m.meta }

// NotifyMsg implements memberlist.Delegate. It is called concurrently and must not block.
func (m *membership) NotifyMsg(b []byte) {
	m.g.counts.bytesIn.Add(uint64(len(b)))
	if len(b) > maxStream {
		m.g.counts.drop(dropOversize)
		return
	}
	if m.queued.Add(int64(len(b))) <= maxQueued {
		select {
		case m.inbox <- message{append([]byte(nil), b...), time.Now()}:
			return
		default:
		}
	}
	m.queued.Add(-int64(len(b)))
	m.g.counts.drop(dropQueue)
}

// GetBroadcasts implements memberlist.Delegate.
func (m *membership) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate: the roster, some kilobytes.
func (m *membership) LocalState(bool) []byte { return *m.roster.Load() }

// MergeRemoteState implements memberlist.Delegate.
func (m *membership) MergeRemoteState(b []byte, _ bool) {
	if len(b) == 0 {
		return
	}
	select {
	case m.rosters <- append([]byte(nil), b...):
	default:
		m.g.counts.drop(dropQueue)
	}
}

// NotifyJoin implements memberlist.EventDelegate.
func (m *membership) NotifyJoin(n *memberlist.Node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.alive) < 4*maxRoster {
		m.alive[n.Name] = n.Address()
	}
}

// NotifyUpdate implements memberlist.EventDelegate.
func (m *membership) NotifyUpdate(n *memberlist.Node) { m.NotifyJoin(n) }

// NotifyLeave implements memberlist.EventDelegate.
func (m *membership) NotifyLeave(n *memberlist.Node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.alive, n.Name)
}

// living is what memberlist holds alive, ourselves included. (Its own Members races with
// its updates.)
func (m *membership) living() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.alive)
}

// resolve looks up the addresses of a host:port.
func resolve(ctx context.Context, hostport string) ([]*net.UDPAddr, error) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, err
	}
	n, err := net.DefaultResolver.LookupPort(ctx, "udp", port)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); ip != nil {
		return []*net.UDPAddr{{IP: ip, Port: n}}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	ips, err := net.DefaultResolver.LookupIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var as []*net.UDPAddr
	for _, ip := range ips {
		as = append(as, &net.UDPAddr{IP: ip, Port: n})
	}
	if len(as) == 0 {
		return nil, fmt.Errorf("gossip: no address for %s", strings.TrimSpace(host))
	}
	return as, nil
}
