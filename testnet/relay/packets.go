package relay

import (
	"bytes"
	"container/heap"
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"
)

// waiting is a packet and when it is due at the target.
type waiting struct {
	due  time.Time
	seq  uint64 // packets due at the same time keep their order
	body []byte
}

// delayed is a heap of packets, the next due first.
type delayed []waiting

func (d delayed) Len() int      { return len(d) }
func (d delayed) Swap(i, j int) { d[i], d[j] = d[j], d[i] }
func (d *delayed) Push(x any)   { *d = append(*d, x.(waiting)) }
func (d delayed) Less(i, j int) bool {
	if !d[i].due.Equal(d[j].due) {
		return d[i].due.Before(d[j].due)
	}
	return d[i].seq < d[j].seq
}
func (d *delayed) Pop() any {
	old := *d
	last := old[len(old)-1]
	old[len(old)-1] = waiting{}
	*d = old[:len(old)-1]
	return last
}

// receive reads packets and decides what becomes of them.
func (r *Relay) receive(ctx context.Context, in *net.UDPConn, arrived chan<- waiting) error {
	random := rand.New(rand.NewPCG(uint64(r.cfg.Seed), 0))
	buf := make([]byte, readBufferSize)
	for seq := uint64(0); ; seq += 2 {
		got, addr, err := in.ReadFromUDPAddrPort(buf)
		if err != nil {
			return ended(ctx, err)
		}
		lost := random.Float64() < r.cfg.Loss
		from := netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
		delay := r.cfg.Delay(from)
		switch {
		case delay < 0:
			r.cut.Add(1)
			continue
		case lost:
			r.lost.Add(1)
			continue
		}
		now, body := time.Now(), bytes.Clone(buf[:got])
		r.queue(arrived, waiting{now.Add(delay), seq, body})
		if again := r.cfg.Again(from); again >= 0 {
			r.doubled.Add(1)
			r.queue(arrived, waiting{now.Add(again), seq + 1, body})
		}
	}
}

func (r *Relay) queue(arrived chan<- waiting, p waiting) {
	select {
	case arrived <- p:
	default:
		r.overflowed.Add(1)
	}
}

// forward owns the packets that wait, and sends each when it is due.
func (r *Relay) forward(ctx context.Context, out *net.UDPConn, arrived <-chan waiting) error {
	var wait delayed
	next := time.NewTimer(time.Hour)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case p := <-arrived:
			if len(wait) >= maxWaiting {
				r.overflowed.Add(1)
				continue
			}
			heap.Push(&wait, p)
		case <-next.C:
		}
		now := time.Now()
		for len(wait) > 0 && !wait[0].due.After(now) {
			p := heap.Pop(&wait).(waiting)
			if _, err := out.WriteToUDPAddrPort(p.body, r.target); err != nil {
				r.failed.Add(1)
				continue
			}
			r.forwarded.Add(1)
		}
		if len(wait) > 0 {
			next.Reset(wait[0].due.Sub(now))
		}
	}
}
