package memnet

import (
	"container/heap"
	"time"

	"github.com/hashicorp/memberlist"
)

// schedule is what will arrive, ordered by time and then by the order of sending.
type schedule struct {
	heap  arrivals
	seq   uint64
	timer *time.Timer // runs Network.arrive when the head is due; nil before the first
	due   time.Duration
	armed bool
}

// arrival is a packet, or the head of a stream's queue: exactly one is set.
type arrival struct {
	at     time.Duration // since Network.start
	seq    uint64
	packet *packet
	half   *half
}

type packet struct {
	from *transport
	to   string
	lane *lane
	body []byte
}

type arrivals []arrival

func (a arrivals) Len() int      { return len(a) }
func (a arrivals) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *arrivals) Push(x any)   { *a = append(*a, x.(arrival)) }
func (a arrivals) Less(i, j int) bool {
	if a[i].at != a[j].at {
		return a[i].at < a[j].at
	}
	return a[i].seq < a[j].seq
}
func (a *arrivals) Pop() any {
	old := *a
	last := old[len(old)-1]
	old[len(old)-1] = arrival{}
	*a = old[:len(old)-1]
	return last
}

// expect puts x on the schedule; n.mu is held.
func (n *Network) expect(x arrival) {
	n.under.seq++
	x.seq = n.under.seq
	heap.Push(&n.under.heap, x)
	n.arm()
}

// arm sets the timer to the head of the schedule; n.mu is held.
func (n *Network) arm() {
	s := &n.under
	if len(s.heap) == 0 || (s.armed && s.due <= s.heap[0].at) {
		return
	}
	s.due, s.armed = s.heap[0].at, true
	// Not 0: a bubble of synctest runs a timer of now on the spot, maybe beside those that woke this
	// goroutine, and has one context of the race detector for all of them: it crashes, once in a while.
	wait := max(1, s.due-n.now())
	if s.timer == nil {
		s.timer = time.AfterFunc(wait, n.arrive)
	} else {
		s.timer.Reset(wait)
	}
}

// arrive delivers all that is due, in order. It holds the mutex throughout, so
// a second call (the timer was reset while it ran) waits and finds nothing.
func (n *Network) arrive() {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := &n.under
	now := n.now()
	for len(s.heap) > 0 && s.heap[0].at <= now {
		x := heap.Pop(&s.heap).(arrival)
		if x.packet != nil {
			n.packets--
			n.deliver(x.packet)
		} else {
			x.half.pump(now)
		}
	}
	s.armed = false
	n.arm()
}

// deliver hands p to whoever listens on its address now; n.mu is held.
func (n *Network) deliver(p *packet) {
	to := n.transports[p.to]
	switch {
	case n.link(p.lane).Cut:
		n.stats.Dropped[DropCut]++
		return
	case to == nil:
		n.stats.Dropped[DropNobody]++
		return
	}
	select {
	case to.packets <- &memberlist.Packet{Buf: p.body, From: p.from.udp, Timestamp: time.Now()}:
		n.stats.Delivered++
	default:
		n.stats.Dropped[DropReceived]++
	}
}
