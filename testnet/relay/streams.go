package relay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
)

// accept passes on connections until the listener closes, and returns when all
// of them have ended.
func (r *Relay) accept(ctx context.Context, listener *net.TCPListener) error {
	var open errgroup.Group
	open.SetLimit(maxStreams)
	defer open.Wait()
	for {
		near, err := listener.AcceptTCP()
		if err != nil {
			return ended(ctx, err)
		}
		if !open.TryGo(func() error { r.stream(ctx, near); return nil }) {
			r.overflowed.Add(1)
			near.Close()
		}
	}
}

// stream joins near to a new connection to the target until both directions
// have ended, one has failed, or ctx has.
func (r *Relay) stream(ctx context.Context, near *net.TCPConn) {
	defer near.Close()
	d := net.Dialer{Timeout: dialTimeout}
	conn, err := d.DialContext(ctx, "tcp", r.target.String())
	if err != nil {
		r.failed.Add(1)
		return
	}
	far := conn.(*net.TCPConn)
	defer far.Close()
	r.streams.Add(1)
	stop := context.AfterFunc(ctx, func() { near.Close(); far.Close() })
	defer stop()

	dialer, _ := netip.AddrFromSlice(near.RemoteAddr().(*net.TCPAddr).IP)
	var both errgroup.Group
	for _, way := range []struct {
		from, to *net.TCPConn
		back     bool
	}{{near, far, false}, {far, near, true}} {
		both.Go(func() error {
			err := r.carry(way.from, way.to, func() time.Duration { return r.cfg.StreamDelay(dialer.Unmap(), way.back) })
			if err != nil { // a reset travels to the other side, and wakes the other direction
				near.Close()
				far.Close()
			}
			return err
		})
	}
	both.Wait()
}

// chunk is a piece of a stream and when it is due; an empty one is its end.
type chunk struct {
	due  time.Time
	body []byte
}

// carry moves bytes one way, delay late, and then the end of the stream. A
// shorter delay than before waits for what is under way. Closing both
// connections ends it within the delay.
func (r *Relay) carry(from, to *net.TCPConn, delay func() time.Duration) error {
	chunks := make(chan chunk, maxChunks)
	var reader errgroup.Group
	reader.Go(func() error {
		defer close(chunks)
		buf := make([]byte, streamChunk)
		for {
			got, err := from.Read(buf)
			due := time.Now().Add(delay())
			if got > 0 {
				chunks <- chunk{due, bytes.Clone(buf[:got])}
			}
			if err != nil {
				chunks <- chunk{due: due}
				if err == io.EOF {
					return nil
				}
				return err
			}
		}
	})
	var failed error
	for c := range chunks { // after a failure too: the reader must not wait for room
		time.Sleep(time.Until(c.due))
		switch {
		case failed != nil:
			continue
		case len(c.body) == 0:
			failed = to.CloseWrite()
		default:
			_, failed = to.Write(c.body)
		}
		if failed != nil {
			from.Close()
		}
	}
	return errors.Join(reader.Wait(), failed)
}
