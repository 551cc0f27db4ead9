package gossip

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Stats is a snapshot of counters since the start.
type Stats struct {
	FramesReceived map[string]uint64 // by node name; bounded by the roster
	FramesDropped  map[string]uint64 // by reason, see the drop constants; every reason is there from the start
	BytesIn        uint64            // of frames, before memberlist's own overhead
	BytesOut       uint64
	FramesSent     uint64
	StreamsSent    uint64 // frames that went by stream
	EntriesSent    uint64 // items packed into deltas and dumps, resends included
	Resent         uint64 // items sent again because they were not acknowledged in time
	Repairs        uint64 // items that the audit mended: 0 in a healthy cluster
}

// drop is why something was dropped. Each has its name in Stats.FramesDropped.
type drop int

const (
	dropGarbage  drop = iota // does not decode
	dropOversize             // larger than maxStream
	dropQueue                // inbox full
	dropOutbox               // too many streams waiting for one peer
	dropCluster              // another cluster's frame
	dropLabel                // memberlist: another cluster's packet or stream
	dropKey                  // memberlist: not encrypted with a key of ours
	dropUnknown              // the sender is not in the roster, yet
	dropStale                // the sender's writer is not its node's current one
	dropEcho                 // an echo of what was never sent
	dropRefused              // State refused it
	dropLater                // State said ErrLater; it comes again
	dropSend                 // a packet or stream could not be sent
	dropGaps                 // ranges beyond a gap forgotten for want of room; they come again
	dropLog                  // log entries cut at the bound; the peer lacking them gets a dump
	dropRoster               // roster entries refused or cut at the bound
	drops
)

var dropNames = [drops]string{"garbage", "oversize", "queue", "outbox", "cluster", "label", "key", "unknown",
	"stale_writer", "echo", "refused", "later", "send", "gaps", "log", "roster"}

type counters struct {
	dropped                               [drops]atomic.Uint64
	bytesIn, bytesOut                     atomic.Uint64
	sent, streams, items, resent, repairs atomic.Uint64

	mu       sync.Mutex
	received map[string]uint64
}

func (c *counters) init() { c.received = make(map[string]uint64) }

func (c *counters) drop(why drop) { c.dropped[why].Add(1) }

// heard counts a frame of node; the caller has found node in the roster.
func (c *counters) heard(node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.received[node]; ok || len(c.received) < maxRoster {
		c.received[node]++
	}
}

// Stats is a snapshot of the counters.
func (g *Gossip) Stats() Stats {
	c := &g.counts
	s := Stats{
		FramesDropped: make(map[string]uint64, drops),
		BytesIn:       c.bytesIn.Load(), BytesOut: c.bytesOut.Load(),
		FramesSent: c.sent.Load(), StreamsSent: c.streams.Load(),
		EntriesSent: c.items.Load(), Resent: c.resent.Load(), Repairs: c.repairs.Load(),
	}
	for i := range c.dropped {
		s.FramesDropped[dropNames[i]] = c.dropped[i].Load()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.FramesReceived = maps.Clone(c.received)
	return s
}
