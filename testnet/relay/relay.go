// Package relay makes loopback slow: it stands in front of one node, at the
// address that the node advertises, and passes on to the node's real gossip
// address what comes, late.
//
//	node a ──UDP──▶ relay of b ──Delay(a)──▶ node b      a's gossip address tells who sends
//	       ◀───────────Delay(b)── relay of a ◀──────     replies go to a's advertised address
//	node a ◀──TCP──▶ relay of b ◀─TCPDelay─▶ node b      both directions, bytes in order
//
// Packets need one way only: memberlist answers a ping at the address that the
// ping names, which is the sender's relay, not where the packet came from. A
// TCP connection comes from a port that tells nothing, so on loopback its delay
// is the same whoever dials; give a node that has near and far peers the larger
// one. Where every node has an IP address of its own, StreamDelay tells them
// apart. The handshake itself is answered by the kernel, at once.
//
// Not every kernel has netem, and network namespaces need root; this needs
// neither.
package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Limits of a Relay.
const (
	maxWaiting     = 16384 // packets delayed at a time: 20,000/s at 800 ms
	maxStreams     = 256   // connections at a time; more are closed at once
	streamChunk    = 32 << 10
	maxChunks      = 64 // of streamChunk, delayed at a time on one direction of a connection
	dialTimeout    = 5 * time.Second
	socketBuffer   = 2 << 20
	bindTries      = 10 // for a port that is free for TCP and UDP
	readBufferSize = 64 << 10
)

// Config of a Relay.
type Config struct {
	Listen string // host:port, what the node advertises; port 0 picks a free one
	Target string // IP address and port that the node really listens on
	// Delay is what a packet from that gossip address waits, one way. Negative: the link is cut,
	// the packet is dropped. Called for every packet, by one goroutine. nil: no delay.
	Delay func(from netip.AddrPort) time.Duration
	// Again, if not nil, is called after Delay for a packet that passes: it arrives a second time, so
	// long after it came. Negative: it does not.
	Again    func(from netip.AddrPort) time.Duration
	TCPDelay time.Duration // what bytes of connections wait, in each direction
	// StreamDelay, if not nil, is what they wait instead on a connection from that IP address: on
	// their way to the target, or back. Called for every piece, by many goroutines.
	StreamDelay func(dialer netip.Addr, back bool) time.Duration
	Loss        float64 // 0–1, share of packets dropped; connections lose nothing
	Seed        int64   // of what Loss draws
}

// Stats counts since New.
type Stats struct {
	Forwarded, Lost, Cut uint64 // packets passed on; dropped by Loss; by a negative Delay
	Doubled              uint64 // packets passed on a second time; they are in Forwarded, too
	Overflowed           uint64 // packets and connections dropped because too many waited
	Failed               uint64 // packets and connections that the target's address did not take
	Streams              uint64 // connections passed on
}

// Relay is one node's front. Its methods are safe for concurrent use.
type Relay struct {
	cfg     Config
	target  netip.AddrPort
	started chan struct{}
	addr    string // written before started is closed

	forwarded, lost, cut, doubled, overflowed, failed, streams atomic.Uint64
}

// New checks cfg; nothing is bound before Run.
func New(cfg Config) (*Relay, error) {
	target, err := netip.ParseAddrPort(cfg.Target)
	if err != nil {
		return nil, fmt.Errorf("relay: target: %w", err)
	}
	if _, _, err := net.SplitHostPort(cfg.Listen); err != nil {
		return nil, fmt.Errorf("relay: listen: %w", err)
	}
	if cfg.Loss < 0 || cfg.Loss > 1 || cfg.TCPDelay < 0 {
		return nil, fmt.Errorf("relay: loss %v is not within 0 and 1, or TCP delay %v is negative", cfg.Loss, cfg.TCPDelay)
	}
	if cfg.Delay == nil {
		cfg.Delay = func(netip.AddrPort) time.Duration { return 0 }
	}
	if cfg.Again == nil {
		cfg.Again = func(netip.AddrPort) time.Duration { return -1 }
	}
	if cfg.StreamDelay == nil {
		cfg.StreamDelay = func(netip.Addr, bool) time.Duration { return cfg.TCPDelay }
	}
	return &Relay{cfg: cfg, target: target, started: make(chan struct{})}, nil
}

// Started is closed when Run has bound its address.
func (r *Relay) Started() <-chan struct{} { return r.started }

// Addr is the address bound, valid after Started.
func (r *Relay) Addr() string { return r.addr }

// Stats returns the counters as they are now.
func (r *Relay) Stats() Stats {
	return Stats{
		Forwarded: r.forwarded.Load(), Lost: r.lost.Load(), Cut: r.cut.Load(), Doubled: r.doubled.Load(),
		Overflowed: r.overflowed.Load(), Failed: r.failed.Load(), Streams: r.streams.Load(),
	}
}

// Run passes on until ctx ends, then closes everything and returns nil. It
// owns four goroutines — closing, receiving packets, sending them when due,
// accepting — and three for each connection. A Relay runs once.
func (r *Relay) Run(ctx context.Context) error {
	listener, in, err := bind(r.cfg.Listen)
	if err != nil {
		return err
	}
	out, err := net.ListenUDP("udp", &net.UDPAddr{IP: in.LocalAddr().(*net.UDPAddr).IP})
	if err != nil {
		listener.Close()
		in.Close()
		return fmt.Errorf("relay: socket to the target: %w", err)
	}
	r.addr = listener.Addr().String()
	close(r.started)

	group, ctx := errgroup.WithContext(ctx)
	arrived := make(chan waiting, 1024)
	group.Go(func() error {
		<-ctx.Done()
		listener.Close()
		in.Close()
		out.Close()
		return nil
	})
	group.Go(func() error { return r.receive(ctx, in, arrived) })
	group.Go(func() error { return r.forward(ctx, out, arrived) })
	group.Go(func() error { return r.accept(ctx, listener) })
	return group.Wait()
}

// bind takes the same port for TCP and UDP.
func bind(addr string) (*net.TCPListener, *net.UDPConn, error) {
	var errs error
	for range bindTries {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, nil, fmt.Errorf("relay: %w", err)
		}
		tcp := l.Addr().(*net.TCPAddr)
		udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: tcp.IP, Port: tcp.Port, Zone: tcp.Zone})
		if err == nil {
			udp.SetReadBuffer(socketBuffer) // best effort: the kernel may grant less
			return l.(*net.TCPListener), udp, nil
		}
		l.Close()
		errs = err
	}
	return nil, nil, fmt.Errorf("relay: no port free for TCP and UDP: %w", errs)
}

// ended turns errors of sockets that Run closed into nil.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
