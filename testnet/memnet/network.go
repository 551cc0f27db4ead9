// Package memnet is a network in memory for memberlist: whole clusters in one
// process, under testing/synctest in virtual time or in real time.
//
//	node a                      Network                        node b
//	WriteTo ──▶ lane a→b: cut? loss? duplicate? delay ──▶ queue ──▶ PacketCh
//	Dial    ──▶ handshake over both lanes ──▶ conn pair ──────────▶ StreamCh
//	 Write  ──▶ lane a→b: in order, a loss costs a retransmission ──▶ Read
//
// Every direction between two addresses is a lane with its own Link settings
// and its own random numbers, drawn from the seed and the two addresses and in
// the same count for every packet. So which packets of a lane are lost depends
// on the seed and on the packet's number on that lane alone, not on how the
// scheduler interleaves the nodes or on settings changed meanwhile.
//
// What is under way waits in one heap, ordered by arrival time and then by
// sending order, with one timer on its head. There is no goroutine to leak:
// when the transports are shut down and the readers gone, nothing is left.
// The one mutex is never held across a blocking operation, which is what lets
// a synctest bubble see that everybody waits and move the clock.
//
// Under synctest call New inside the bubble. A bubble ends when its last
// goroutine does, and memberlist's need some virtual minutes after Shutdown.
package memnet

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Limits of a Network. What does not fit is dropped and counted, as a kernel does.
const (
	maxPacket   = 65507   // bytes, what fits a UDP datagram
	maxReceived = 1024    // packets that wait for one receiver; a 2 MiB socket buffer holds as many
	maxUnderWay = 1 << 17 // packets on all lanes together
	maxBacklog  = 128     // connections not yet accepted by one receiver
)

// Why a packet was dropped, the keys of Stats.Dropped.
const (
	DropLoss     = "loss"     // drawn by the lane's Link.Loss
	DropCut      = "cut"      // the lane was cut when it was sent or when it arrived
	DropNobody   = "nobody"   // nobody listens on the address
	DropReceived = "received" // the receiver does not read fast enough
	DropUnderWay = "underway" // too much on the lanes
)

// Stats counts since New. Bytes are payload, without headers.
type Stats struct {
	Packets, Bytes       uint64 // handed to WriteTo
	Delivered            uint64 // handed to receivers, duplicates included
	Duplicated           uint64
	Dropped              map[string]uint64 // by cause; all causes present from the start
	Streams, StreamBytes uint64            // opened; written
	Resets               uint64            // streams given up because a cut lasted too long
}

// Network is a set of addresses and the lanes between them. All its methods,
// and those of its transports and connections, are safe for concurrent use.
type Network struct {
	seed int64

	mu         sync.Mutex // guards all below and everything in lanes, transports and conns
	start      time.Time
	transports map[string]*transport
	lanes      map[pair]*lane
	normal     Link // of lanes without settings of their own
	under      schedule
	packets    int // in under
	port       int // last ephemeral port given to a dialer
	stats      Stats
}

type pair struct{ from, to string }

// New returns a network without delay, loss or listeners. All randomness comes
// from seed.
func New(seed int64) *Network {
	n := &Network{
		seed:       seed,
		start:      time.Now(),
		transports: make(map[string]*transport),
		lanes:      make(map[pair]*lane),
	}
	n.stats.Dropped = map[string]uint64{
		DropLoss: 0, DropCut: 0, DropNobody: 0, DropReceived: 0, DropUnderWay: 0,
	}
	return n
}

// Listen takes addr, an IP address and a port, until the transport is shut
// down; then the address is free again, as after a restart of a process.
func (n *Network) Listen(addr string) (memberlist.NodeAwareTransport, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("memnet: listen: %w", err)
	}
	if ap.Port() == 0 {
		return nil, fmt.Errorf("memnet: listen %s: a port is needed", addr)
	}
	addr = ap.String()
	t := &transport{
		net:     n,
		addr:    addr,
		udp:     net.UDPAddrFromAddrPort(ap),
		packets: make(chan *memberlist.Packet, maxReceived),
		streams: make(chan net.Conn, maxBacklog),
		done:    make(chan struct{}),
		conns:   make(map[*conn]struct{}),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.transports[addr] != nil {
		return nil, fmt.Errorf("memnet: listen %s: address already in use", addr)
	}
	n.transports[addr] = t
	return t, nil
}

// Stats returns the counters as they are now.
func (n *Network) Stats() Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.stats
	s.Dropped = maps.Clone(s.Dropped)
	return s
}

// now is the time since New; n.mu need not be held.
func (n *Network) now() time.Duration { return time.Since(n.start) }
