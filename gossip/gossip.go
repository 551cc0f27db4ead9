package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

var (
	// ErrLater is wrapped by a State's Unpack error: the payload counts as not received and comes again.
	ErrLater = errors.New("gossip: not yet")
	// ErrDuplicate is wrapped by Run's error when a live node already has our name.
	ErrDuplicate = errors.New("gossip: a live node already has this name; choose another with --node")
	// ErrForgotten is returned by Run when the cluster has forgotten this node.
	ErrForgotten = errors.New("gossip: this node was forgotten by the cluster; to return as a new one, start it with an empty data directory")
	// ErrUnknown is wrapped by Forget's error: there is no such member.
	ErrUnknown = errors.New("gossip: no such member")
)

// Config says who a node is and how it talks. Node, Cluster, Writer and State are required.
type Config struct {
	Cluster      string // label: clusters never mix
	Node, Region string // stable names, at most 64 bytes each
	Writer       uint64 // this start's incarnation: unique, never 0

	Bind      string   // host:port to listen on; port 0 picks one; ignored with Transport
	Advertise string   // host:port told to peers; default: the bound address
	Seeds     []string // host:port of nodes to join, our own address allowed
	Keys      [][]byte // 16, 24 or 32 bytes; the first encrypts, all decrypt; none: no encryption

	RosterFile string // where the roster is kept; "" keeps none: a restart then knows only its seeds

	RoundRegion time.Duration // between frames to a peer of our region, default 50ms
	RoundWAN    time.Duration // between frames to other peers, default 200ms: fewer packets, later news
	Lease       time.Duration // default 3s: who is silent for longer gets empty frames only
	AuditEvery  time.Duration // between range audits, jittered by a quarter; default 3m; costs 8 kB a time
	FoundAfter  time.Duration // default 10s: how long to try seeds, without a roster, before founding
	WallAhead   time.Duration // testnets: how far this node's wall clock is ahead of the machine's

	Transport memberlist.NodeAwareTransport // nil: sockets
	Logger    *slog.Logger                  // nil: slog.Default
	State     State
}

// State is the replicated state as gossip sees it: numbered items, opaque bytes. It is safe
// for concurrent use with the node's takes, is called only from Run's goroutine, and must
// not call back into Gossip. An item's number means something on this node only.
type State interface {
	// Drain appends the ids of items that this node itself changed since the last Drain, each once.
	Drain(ids []uint32) []uint32
	// Pack appends one self-contained payload of at most max bytes with the leading items of
	// ids and says how many ids it covers: at least one, even if that item alone exceeds max.
	// An id whose item is gone is covered and costs nothing; an empty payload is possible.
	Pack(dst []byte, ids []uint32, max int) (payload []byte, covered int)
	// Unpack joins a payload. It appends the ids of all items in it to ids; learnt counts
	// those that changed this node's state. An error refuses the payload for good, unless it
	// wraps ErrLater.
	Unpack(payload []byte, ids []uint32) (out []uint32, learnt int, err error)
	// Header appends what every frame to peer must carry: at most MaxHeader bytes.
	Header(dst []byte, peer string) []byte
	// Heard takes the header of a frame from node before its payload is unpacked; an error
	// refuses the whole frame. Headers older than the newest one taken are skipped.
	// first: nothing was ever heard from this writer.
	Heard(node string, header []byte, first bool) error
	// Agreed tells whether what this node holds is the cluster's, not only its own so far. Who
	// says so is asked for everything first, and by those who have only asked others.
	Agreed() bool
	// Scan appends up to max ids of all items from cursor on (0 begins); next 0 is the end.
	Scan(cursor uint64, ids []uint32, max int) (out []uint32, next uint64)
	// AuditPoint appends the common reading at which hashes are compared. Audit fills sums,
	// one per key range, at that point. AuditRange appends the ids that sum i of n covers.
	AuditPoint(dst []byte) []byte
	Audit(point []byte, sums []uint64) error
	AuditRange(point []byte, i, n int, ids []uint32) ([]uint32, error)
}

// Gossip is one node's part in the cluster. Its methods may be called from anywhere, before,
// during and after Run, except from State.
type Gossip struct {
	cfg     Config
	keyring *memberlist.Keyring // nil: no encryption
	started chan struct{}
	running atomic.Bool
	addr    string // valid once started is closed
	view    atomic.Pointer[View]
	calls   chan call // commands to the loop
	counts  counters
	net     atomic.Pointer[membership] // set by Run
	keysMu  sync.Mutex                 // serialises SetKeys
}

// call runs f on the loop; done is closed afterwards.
type call struct {
	f    func(*loop)
	done chan struct{}
}

// New validates cfg. It starts nothing and opens nothing.
func New(cfg Config) (*Gossip, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	g := &Gossip{cfg: cfg, started: make(chan struct{}), calls: make(chan call)}
	g.counts.init()
	if len(cfg.Keys) > 0 {
		ring, err := memberlist.NewKeyring(cfg.Keys, cfg.Keys[0])
		if err != nil {
			return nil, fmt.Errorf("gossip: keys: %w", err)
		}
		g.keyring = ring
	}
	g.view.Store(&View{At: time.Now(), Self: cfg.Node, Phase: Joining})
	return g, nil
}

func (c *Config) complete() error {
	switch {
	case c.State == nil:
		return errors.New("gossip: config has no State")
	case c.Writer == 0:
		return errors.New("gossip: config has no Writer")
	case c.Node == "" || len(c.Node) > maxName:
		return fmt.Errorf("gossip: node name %q: 1 to %d bytes are needed", c.Node, maxName)
	case len(c.Region) > maxName:
		return fmt.Errorf("gossip: region %q is longer than %d bytes", c.Region, maxName)
	case c.Cluster == "" || len(c.Cluster) > maxName:
		return fmt.Errorf("gossip: cluster %q: 1 to %d bytes are needed", c.Cluster, maxName)
	}
	for _, a := range append([]string{c.Bind, c.Advertise}, c.Seeds...) {
		if a == "" {
			continue
		}
		if _, _, err := net.SplitHostPort(a); err != nil {
			return fmt.Errorf("gossip: address %q is not host:port: %w", a, err)
		}
	}
	if c.Transport == nil && c.Bind == "" {
		return errors.New("gossip: config has neither Bind nor Transport")
	}
	for d, def := range map[*time.Duration]time.Duration{
		&c.RoundRegion: 50 * time.Millisecond, &c.RoundWAN: 200 * time.Millisecond, &c.Lease: 3 * time.Second,
		&c.AuditEvery: 3 * time.Minute, &c.FoundAfter: 10 * time.Second,
	} {
		if *d < 0 {
			return fmt.Errorf("gossip: negative duration %v", *d)
		}
		if *d == 0 {
			*d = def
		}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Logger = c.Logger.With("part", "gossip")
	return nil
}

// Started is closed once the node listens; Addr is valid from then on.
func (g *Gossip) Started() <-chan struct{} { return g.started }

// Addr is the host:port really bound, or "" before Started.
func (g *Gossip) Addr() string {
	select {
	case <-g.started:
		return g.addr
	default:
		return ""
	}
}

// View is the newest view: never nil, immutable, at most one round old while Run runs.
func (g *Gossip) View() *View { return g.view.Load() }

// Forget takes a member out of the cluster for good, alive or not; whether that is wise (a
// majority, a force flag) is the caller's to decide. It fails for ourselves, for strangers
// (ErrUnknown) and while Run does not run.
func (g *Gossip) Forget(node string) error {
	err := errors.New("gossip: not running")
	if m := g.net.Load(); m != nil {
		m.do(func(l *loop) { err = l.forget(node) })
	}
	return err
}

// SetKeys replaces the keyring: the first key encrypts from now on, all decrypt. To rotate,
// first add the new key behind the old one everywhere, then put it in front, then drop the
// old one. Encryption cannot be switched on or off without a restart.
func (g *Gossip) SetKeys(keys [][]byte) error {
	g.keysMu.Lock()
	defer g.keysMu.Unlock()
	if (len(keys) > 0) != (g.keyring != nil) {
		return errors.New("gossip: keys: encryption is switched on or off by a restart only")
	}
	for _, k := range keys {
		if err := memberlist.ValidateKey(k); err != nil {
			return fmt.Errorf("gossip: keys: %w", err)
		}
	}
	return setKeys(g.keyring, keys)
}

// Run joins or founds the cluster and replicates until ctx ends; then it flushes what peers
// have not acknowledged (for at most two seconds), leaves, and stops. Nothing that it
// started is alive afterwards, but that a probe of memberlist's which nobody answers times
// itself out (twelve seconds at most; it holds no socket). It can run once.
func (g *Gossip) Run(ctx context.Context) error {
	if !g.running.CompareAndSwap(false, true) {
		return errors.New("gossip: Run runs once")
	}
	defer g.running.Store(false)
	return g.run(ctx)
}
