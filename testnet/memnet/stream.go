package memnet

import (
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// Streams behave as TCP does where memberlist can see it: bytes in order and
// late, a window, EOF after the last byte, resets. A cut direction holds its
// bytes back, and what waits longer than stallAtMost resets both ends.
// Simplified: a receiver's acknowledgements are not modelled, so with only the
// way back cut an open stream goes on; a new one cannot be opened.
const (
	window      = 1 << 20 // bytes written and not yet read, one direction; then Write waits
	segment     = 64 << 10
	stallAtMost = 10 * time.Second
	stallAgain  = 200 * time.Millisecond // between looks whether a cut has healed; the least that a lost segment costs
)

// conn is one end of a stream.
type conn struct {
	net           *Network
	owner         *transport
	in, out       *half
	local, remote net.Addr

	wake                chan struct{} // closed and replaced at every change that Read or Write may wait for
	readUntil, writeEnd time.Time     // deadlines; zero: none
	closed              bool          // this end was closed by its owner
	broken              error         // the stream was reset
}

// half is one direction of a stream.
type half struct {
	lane    *lane
	from    *conn
	to      *conn
	queue   []chunk // written, not arrived
	arrived []byte  // arrived, not read
	unread  int     // bytes in queue and arrived
	ended   bool    // the FIN arrived
	stalled time.Duration
	waiting bool // since stalled, for a cut to heal
}

// chunk is a part of a stream under way; fin stands behind the last.
type chunk struct {
	at   time.Duration
	body []byte
	fin  bool
}

// connect returns both ends of a new stream; n.mu is held.
func (n *Network) connect(from, to *transport) (near, far *conn) {
	n.port = 32768 + (n.port+1)%28232 // Linux's ephemeral ports
	local := &net.TCPAddr{IP: from.udp.IP, Port: n.port}
	remote := &net.TCPAddr{IP: to.udp.IP, Port: to.udp.Port}
	near = &conn{net: n, owner: from, local: local, remote: remote, wake: make(chan struct{})}
	far = &conn{net: n, owner: to, local: remote, remote: local, wake: make(chan struct{})}
	near.out = &half{lane: n.lane(from.addr, to.addr), from: near, to: far}
	far.out = &half{lane: n.lane(to.addr, from.addr), from: far, to: near}
	near.in, far.in = far.out, near.out
	from.conns[near], to.conns[far] = struct{}{}, struct{}{}
	return near, far
}

// put writes a chunk behind the others; the mutex is held.
func (h *half) put(c chunk) {
	n := h.from.net
	link := n.link(h.lane)
	fate := link.draw(h.lane.streams)
	delay := fate.delay
	for tries := 0; fate.lost && tries < lossRetries; tries++ {
		fate = link.draw(h.lane.streams)
		delay += stallAgain + 2*link.Delay
	}
	c.at = n.now() + delay // or later: it does not overtake those before it
	h.unread += len(c.body)
	h.queue = append(h.queue, c)
	if len(h.queue) == 1 {
		n.expect(arrival{at: c.at, half: h})
	}
}

// pump lets arrive what is due and expects the next; the mutex is held.
func (h *half) pump(now time.Duration) {
	n := h.from.net
	if len(h.queue) == 0 {
		return // reset meanwhile
	}
	if n.link(h.lane).Cut {
		if !h.waiting {
			h.waiting, h.stalled = true, now
		}
		if now-h.stalled >= stallAtMost {
			n.stats.Resets++
			h.from.reset()
			return
		}
		n.expect(arrival{at: now + stallAgain, half: h})
		return
	}
	h.waiting = false
	for len(h.queue) > 0 && h.queue[0].at <= now {
		c := h.queue[0]
		h.queue = h.queue[1:]
		if h.to.closed && !c.fin {
			h.from.reset() // nobody will read it: TCP answers with a reset
			return
		}
		h.arrived = append(h.arrived, c.body...)
		h.ended = h.ended || c.fin
	}
	h.to.changed()
	if len(h.queue) > 0 {
		n.expect(arrival{at: h.queue[0].at, half: h})
	}
}

// reset breaks both ends; what has arrived can still be read. The mutex is held.
func (c *conn) reset() {
	for _, end := range []*conn{c, c.out.to} {
		end.out.queue = nil
		if end.broken == nil {
			end.broken = os.NewSyscallError("stream", syscall.ECONNRESET)
		}
		end.changed()
	}
}

// changed wakes all who wait at this end; the mutex is held.
func (c *conn) changed() {
	close(c.wake)
	c.wake = make(chan struct{})
}

// Read returns what has arrived, before any error.
func (c *conn) Read(b []byte) (int, error) {
	for {
		got, wake, until, err := c.tryRead(b)
		if wake == nil {
			return got, err
		}
		await(wake, until)
	}
}

// tryRead reads, or says what to wait for.
func (c *conn) tryRead(b []byte) (int, <-chan struct{}, time.Time, error) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	switch h := c.in; {
	case c.closed:
		return 0, nil, time.Time{}, c.failed("read", net.ErrClosed)
	case past(c.readUntil):
		return 0, nil, time.Time{}, c.failed("read", os.ErrDeadlineExceeded)
	case len(b) == 0:
		return 0, nil, time.Time{}, nil
	case len(h.arrived) > 0:
		got := copy(b, h.arrived)
		h.arrived = h.arrived[got:]
		h.unread -= got
		h.from.changed()
		return got, nil, time.Time{}, nil
	case c.broken != nil:
		return 0, nil, time.Time{}, c.failed("read", c.broken)
	case h.ended:
		return 0, nil, time.Time{}, io.EOF
	}
	return 0, c.wake, c.readUntil, nil
}

// Write waits only for room in the window, as a socket does.
func (c *conn) Write(b []byte) (int, error) {
	done := 0
	for {
		put, wake, until, err := c.tryWrite(b[done:])
		done += put
		if err != nil || done == len(b) {
			return done, err
		}
		if wake != nil {
			await(wake, until)
		}
	}
}

// tryWrite writes at most a segment, or says what to wait for.
func (c *conn) tryWrite(b []byte) (int, <-chan struct{}, time.Time, error) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	room := window - c.out.unread
	switch {
	case c.closed:
		return 0, nil, time.Time{}, c.failed("write", net.ErrClosed)
	case c.broken != nil:
		return 0, nil, time.Time{}, c.failed("write", c.broken)
	case past(c.writeEnd):
		return 0, nil, time.Time{}, c.failed("write", os.ErrDeadlineExceeded)
	case len(b) == 0:
		return 0, nil, time.Time{}, nil
	case room <= 0:
		return 0, c.wake, c.writeEnd, nil
	}
	b = b[:min(len(b), room, segment)]
	c.net.stats.StreamBytes += uint64(len(b))
	c.out.put(chunk{body: append([]byte(nil), b...)})
	return len(b), nil, time.Time{}, nil
}

// await returns when wake is closed or until has come.
func await(wake <-chan struct{}, until time.Time) {
	if until.IsZero() {
		<-wake
		return
	}
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case <-wake:
	case <-t.C:
	}
}

func past(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

func (c *conn) failed(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}

// Close ends both directions for this end; what it wrote still arrives, and
// then EOF.
func (c *conn) Close() error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.closed {
		return c.failed("close", net.ErrClosed)
	}
	c.shut()
	return nil
}

// shut closes this end; the mutex is held.
func (c *conn) shut() {
	c.closed = true
	delete(c.owner.conns, c)
	if c.broken == nil {
		c.out.put(chunk{fin: true})
	}
	c.changed()
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) SetDeadline(t time.Time) error      { return c.setDeadlines(&t, &t) }
func (c *conn) SetReadDeadline(t time.Time) error  { return c.setDeadlines(&t, nil) }
func (c *conn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(nil, &t) }

func (c *conn) setDeadlines(read, write *time.Time) error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.closed {
		return c.failed("set", net.ErrClosed)
	}
	if read != nil {
		c.readUntil = *read
	}
	if write != nil {
		c.writeEnd = *write
	}
	c.changed()
	return nil
}
