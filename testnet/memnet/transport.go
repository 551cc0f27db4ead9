package memnet

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

// Timing of a handshake, after Linux.
const (
	synAgain    = time.Second       // between tries to open a stream
	dialAtMost  = 127 * time.Second // when the caller sets no timeout
	lossRetries = 8                 // retransmissions of one segment; more are not drawn
)

// transport is one address of a Network. Its two channels are buffered and
// never closed: memberlist would read nil packets from a closed one.
type transport struct {
	net     *Network
	addr    string
	udp     *net.UDPAddr
	packets chan *memberlist.Packet
	streams chan net.Conn
	done    chan struct{} // closed by Shutdown
	closed  bool
	conns   map[*conn]struct{} // open ends, closed by Shutdown
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// FinalAdvertiseAddr is the address listened on, unless another is asked for.
func (t *transport) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	if ip == "" {
		return t.udp.IP, t.udp.Port, nil
	}
	parsed := net.ParseIP(ip)
	if parsed == nil {
		return nil, 0, fmt.Errorf("memnet: advertise address %q is not an IP address", ip)
	}
	if four := parsed.To4(); four != nil {
		parsed = four
	}
	return parsed, port, nil
}

func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }
func (t *transport) StreamCh() <-chan net.Conn           { return t.streams }

// WriteTo sends a packet. As with UDP, an error says only that it was not
// sent, and no error does not say that it arrives.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	if len(b) > maxPacket {
		return time.Time{}, &net.OpError{Op: "write", Net: "udp", Source: t.udp, Err: syscall.EMSGSIZE}
	}
	n := t.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if t.closed {
		return time.Time{}, net.ErrClosed
	}
	n.stats.Packets++
	n.stats.Bytes += uint64(len(b))
	l := n.lane(t.addr, addr)
	link := n.link(l)
	fate := link.draw(l.packets)
	switch {
	case link.Cut:
		n.stats.Dropped[DropCut]++
	case fate.lost:
		n.stats.Dropped[DropLoss]++
	default:
		n.send(&packet{t, addr, l, bytes.Clone(b)}, fate.delay)
		if fate.again {
			n.stats.Duplicated++
			n.send(&packet{t, addr, l, bytes.Clone(b)}, fate.duplicate)
		}
	}
	return time.Now(), nil
}

// send puts p under way; n.mu is held.
func (n *Network) send(p *packet, delay time.Duration) {
	if n.packets >= maxUnderWay {
		n.stats.Dropped[DropUnderWay]++
		return
	}
	n.packets++
	n.expect(arrival{at: n.now() + delay, packet: p})
}

// WriteToAddress is WriteTo; names are not needed to find an address.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

// DialAddressTimeout is DialTimeout; names are not needed to find an address.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

// DialTimeout opens a stream, one round trip from now. It is refused when
// nobody listens. While either direction is cut it tries again every second,
// as a kernel repeats its SYN, until the timeout.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	if timeout == 0 {
		timeout = dialAtMost
	}
	end := time.NewTimer(timeout)
	defer end.Stop()
	for {
		if trip, ok := t.handshake(addr); ok {
			if err := t.pause(trip, end); err != nil {
				return nil, dialError(addr, err)
			}
			if c, err := t.open(addr); c != nil || err != nil {
				return c, err
			}
		}
		if err := t.pause(synAgain, end); err != nil {
			return nil, dialError(addr, err)
		}
	}
}

// pause waits for d, unless end or Shutdown comes first.
func (t *transport) pause(d time.Duration, end *time.Timer) error {
	step := time.NewTimer(d)
	defer step.Stop()
	select {
	case <-t.done:
		return net.ErrClosed
	case <-end.C:
		return os.ErrDeadlineExceeded
	case <-step.C:
		return nil
	}
}

// handshake sends a SYN and its answer: how long both take, or not ok when one
// of them is lost.
func (t *transport) handshake(addr string) (trip time.Duration, ok bool) {
	n := t.net
	n.mu.Lock()
	defer n.mu.Unlock()
	ok = true
	for _, way := range []pair{{t.addr, addr}, {addr, t.addr}} {
		l := n.lane(way.from, way.to)
		link := n.link(l)
		fate := link.draw(l.streams)
		trip += fate.delay
		ok = ok && !link.Cut && !fate.lost
	}
	return trip, ok
}

// open makes the connection at the end of the handshake. It returns nothing
// when the answer would not have come: cut meanwhile, or the backlog is full.
func (t *transport) open(addr string) (net.Conn, error) {
	n := t.net
	n.mu.Lock()
	defer n.mu.Unlock()
	there, back := n.lane(t.addr, addr), n.lane(addr, t.addr)
	to := n.transports[addr]
	switch {
	case t.closed:
		return nil, dialError(addr, net.ErrClosed)
	case n.link(there).Cut || n.link(back).Cut:
		return nil, nil
	case to == nil:
		return nil, dialError(addr, os.NewSyscallError("connect", syscall.ECONNREFUSED))
	case len(to.streams) == cap(to.streams): // only open sends, under the mutex
		return nil, nil
	}
	near, far := n.connect(t, to)
	to.streams <- far
	n.stats.Streams++
	return near, nil
}

func dialError(addr string, err error) error {
	var to net.Addr
	if a, e := net.ResolveTCPAddr("tcp", addr); e == nil {
		to = a
	}
	return &net.OpError{Op: "dial", Net: "tcp", Addr: to, Err: err}
}

// Shutdown frees the address and closes the open streams, as the kernel does
// for a process that ends: what was written before still arrives.
func (t *transport) Shutdown() error {
	n := t.net
	n.mu.Lock()
	defer n.mu.Unlock()
	if t.closed {
		return nil
	}
	t.closed = true
	close(t.done)
	delete(n.transports, t.addr)
	for c := range t.conns {
		c.shut()
	}
	return nil
}
