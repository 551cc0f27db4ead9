package gossip

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// transport adds to another one what memberlist leaves out: a deadline on every stream we
// open, and an end for all streams, both ways, with Shutdown.
type transport struct {
	memberlist.NodeAwareTransport
	streams chan net.Conn
	over    chan struct{}
	once    sync.Once
	wg      sync.WaitGroup // the accepting goroutine

	mu    sync.Mutex
	conns map[*conn]struct{} // nil after Shutdown
}

// conn leaves the transport's set when it closes.
type conn struct {
	net.Conn
	t *transport
}

func (c *conn) Close() error {
	c.t.mu.Lock()
	delete(c.t.conns, c)
	c.t.mu.Unlock()
	return c.Conn.Close()
}

var errShutdown = errors.New("gossip: transport is shut down")

// newTransport starts a goroutine that ends with Shutdown.
func newTransport(inner memberlist.NodeAwareTransport) *transport {
	t := &transport{NodeAwareTransport: inner, streams: make(chan net.Conn), over: make(chan struct{}),
		conns: make(map[*conn]struct{})}
	t.wg.Go(t.accept)
	return t
}

func (t *transport) accept() {
	for {
		select {
		case c := <-t.NodeAwareTransport.StreamCh():
			own, err := t.own(c)
			if err != nil {
				continue
			}
			select {
			case t.streams <- own:
			case <-t.over:
				_ = own.Close()
				return
			}
		case <-t.over:
			return
		}
	}
}

func (t *transport) own(c net.Conn) (net.Conn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conns == nil {
		_ = c.Close()
		return nil, errShutdown
	}
	own := &conn{c, t}
	t.conns[own] = struct{}{}
	return own, nil
}

func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

func (t *transport) DialAddressTimeout(a memberlist.Address, d time.Duration) (net.Conn, error) {
	c, err := t.NodeAwareTransport.DialAddressTimeout(a, d)
	if err != nil {
		return nil, err
	}
	_ = c.SetDeadline(time.Now().Add(d)) // a peer that stops reading must not hold us for ever
	return t.own(c)
}

func (t *transport) DialTimeout(addr string, d time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, d)
}

func (t *transport) Shutdown() error {
	err := t.NodeAwareTransport.Shutdown() // while memberlist still empties its channels
	t.once.Do(func() { close(t.over) })
	t.mu.Lock()
	conns := t.conns
	t.conns = nil
	t.mu.Unlock()
	for c := range conns {
		_ = c.Conn.Close()
	}
	t.wg.Wait()
	return err
}

// listen opens the sockets. With port 0 the port that TCP gets may be taken for UDP: try again.
func listen(ctx context.Context, bind string, logger *log.Logger) (*memberlist.NetTransport, error) {
	as, err := resolve(ctx, bind)
	if err != nil {
		return nil, fmt.Errorf("gossip: bind address: %w", err)
	}
	tries := 1
	if as[0].Port == 0 {
		tries = 10
	}
	for range tries {
		var t *memberlist.NetTransport
		t, err = memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{as[0].IP.String()}, BindPort: as[0].Port, Logger: logger})
		if err == nil {
			return t, nil
		}
	}
	return nil, fmt.Errorf("gossip: listen on %s: %w", bind, err)
}
