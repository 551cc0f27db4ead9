package processes

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/memnet"
	"github.com/openclaw/edge/testnet/netns"
	"github.com/openclaw/edge/testnet/relay"
)

// links is what the ways between nodes are like, and the relays that make them so.
type links struct {
	fronts  []*relay.Relay // by node
	running errgroup.Group
	stop    context.CancelFunc

	cut map[netns.Way]bool // by Cut, until Heal

	mu    sync.Mutex // guards ways
	ways  map[netns.Way]memnet.Link
	nodes map[netip.Addr]int // by IP address; never changes
}

// lost is what a relay's Delay says of a packet that does not arrive.
const lost = time.Duration(-1)

// openLinks starts a relay in front of every node. It returns what has to be closed on an error,
// too.
func openLinks(w *World) (*links, error) {
	ctx, stop := context.WithCancel(context.Background())
	l := &links{stop: stop, cut: make(map[netns.Way]bool), ways: make(map[netns.Way]memnet.Link), nodes: make(map[netip.Addr]int)}
	for _, a := range w.machines {
		l.nodes[netip.MustParseAddr(w.net.Addr(a.index))] = a.index
		for _, b := range w.machines {
			l.ways[netns.Way{From: a.index, To: b.index}] = w.cfg.usual(a.Region, b.Region)
		}
	}
	for _, m := range w.machines {
		front, err := relay.New(relay.Config{
			Listen: w.net.Host() + ":0", Target: m.proc.Options.Gossip,
			Delay: l.packets(m.index, w.cfg.Seed), Again: l.again(m.index, w.cfg.Seed), StreamDelay: l.streams(m.index),
		})
		if err != nil {
			return l, err
		}
		l.fronts = append(l.fronts, front)
		failed := make(chan error, 1)
		l.running.Go(func() error {
			err := front.Run(ctx)
			if err != nil {
				failed <- err
				w.fail(err)
			}
			return err
		})
		select {
		case <-front.Started():
		case err := <-failed:
			return l, err
		}
		w.net.Front(m.index, int(netip.MustParseAddrPort(front.Addr()).Port()))
	}
	return l, nil
}

func (l *links) close() error {
	l.stop()
	return l.running.Wait()
}

// way is the link from an address to a node; of a stranger there is none.
func (l *links) way(from netip.Addr, to int, back bool) memnet.Link {
	i, known := l.nodes[from]
	if !known {
		return memnet.Link{}
	}
	w := netns.Way{From: i, To: to}
	if back {
		w.From, w.To = w.To, w.From
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ways[w]
}

// packets decides what becomes of each packet to a node.
func (l *links) packets(to int, seed uint64) func(netip.AddrPort) time.Duration {
	random := rand.New(rand.NewPCG(seed, uint64(to))) // of the one goroutine that receives
	return func(from netip.AddrPort) time.Duration {
		link := l.way(from.Addr(), to, false)
		loss, reorder, jitter := random.Float64(), random.Float64(), random.Float64()
		delay := link.Delay + time.Duration(jitter*float64(link.Jitter))
		switch {
		case loss < link.Loss:
			return lost
		case reorder < link.Reorder:
			return delay + link.Delay + link.Jitter + reorderAtLeast
		}
		return delay
	}
}

// again decides which packets to a node come twice, the second with its own jitter.
func (l *links) again(to int, seed uint64) func(netip.AddrPort) time.Duration {
	random := rand.New(rand.NewPCG(seed, ^uint64(to))) // of the one goroutine that receives
	return func(from netip.AddrPort) time.Duration {
		link := l.way(from.Addr(), to, false)
		twice, jitter := random.Float64(), random.Float64()
		if twice >= link.Duplicate {
			return lost
		}
		return link.Delay + time.Duration(jitter*float64(link.Jitter))
	}
}

// reorderAtLeast is what a reordered packet waits on top, on links without delay.
const reorderAtLeast = 10 * time.Millisecond

// streams is how late the bytes of a connection to a node, or their answers, arrive.
func (l *links) streams(to int) func(netip.Addr, bool) time.Duration {
	return func(dialer netip.Addr, back bool) time.Duration {
		link := l.way(dialer, to, back)
		return link.Delay + time.Duration(rand.Float64()*float64(link.Jitter))
	}
}

// ways is all directions from each to each.
func (w *World) ways(from, to []string) (all []netns.Way, err error) {
	for _, f := range from {
		a, err := w.machine(f)
		if err != nil {
			return nil, err
		}
		for _, t := range to {
			b, err := w.machine(t)
			if err != nil {
				return nil, err
			}
			if a != b {
				all = append(all, netns.Way{From: a.index, To: b.index})
			}
		}
	}
	return all, nil
}

// Cut severs the links from each to each, in this direction: nft drops their packets.
func (w *World) Cut(from, to []string) error {
	ways, err := w.ways(from, to)
	if err == nil {
		err = w.net.Sever(ways...)
	}
	if err != nil {
		return err
	}
	for _, way := range ways {
		w.links.cut[way] = true
	}
	w.note(judge.Cut, "", from, to...)
	return nil
}

// Heal undoes all that was done to the links between two groups, in both directions.
func (w *World) Heal(from, to []string) error {
	ways, err := w.ways(from, to)
	if err != nil {
		return err
	}
	for _, way := range ways {
		ways = append(ways, netns.Way{From: way.To, To: way.From})
	}
	for _, way := range ways {
		delete(w.links.cut, way)
		w.links.set(way, w.cfg.usual(w.machines[way.From].Region, w.machines[way.To].Region))
	}
	if err := w.net.Repair(ways...); err != nil {
		return err
	}
	w.note(judge.Heal, "", from, to...)
	w.agree() // what had been taken by now
	return nil
}

// Link changes the links from each to each, in this direction. One that is cut stays cut.
func (w *World) Link(from, to []string, link memnet.Link) error {
	ways, err := w.ways(from, to)
	switch {
	case err != nil:
		return err
	case link.Delay < 0 || link.Jitter < 0 || link.Loss < 0 || link.Loss > 1 || link.Reorder < 0 || link.Reorder > 1 || link.Duplicate < 0 || link.Duplicate > 1:
		return fmt.Errorf("processes: a link of %+v: no time is negative, and shares are within 0 and 1", link)
	}
	var whole, severed []netns.Way
	for _, way := range ways {
		w.links.set(way, link)
		if link.Cut || w.links.cut[way] {
			severed = append(severed, way)
		} else {
			whole = append(whole, way)
		}
	}
	if err := errors.Join(w.net.Sever(severed...), w.net.Repair(whole...)); err != nil {
		return err
	}
	w.note(judge.Link, fmt.Sprintf("%+v", link), from, to...)
	return nil
}

func (l *links) set(way netns.Way, link memnet.Link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ways[way] = link
}
