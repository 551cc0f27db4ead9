package memnet

import (
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// Link says what happens to traffic in one direction. The zero value delivers
// everything a nanosecond later.
type Link struct {
	Delay  time.Duration // one way
	Jitter time.Duration // adds 0 to Jitter, evenly, drawn for each packet: packets closer than that may overtake
	Loss   float64       // 0–1, share of packets lost; on streams each loss costs a retransmission
	// Duplicate is the share of packets delivered twice, the second with its own jitter. Streams have none.
	Duplicate float64
	// Reorder is the share of packets held back by another Delay + Jitter + 10 ms, so that later ones overtake.
	Reorder float64
	Cut     bool // nothing passes
}

// reorderAtLeast is what a reordered packet waits on top, on links without delay.
const reorderAtLeast = 10 * time.Millisecond

// lane is one direction between two addresses.
type lane struct {
	own     *Link // settings of this lane; nil: the network's normal ones
	forced  forced
	packets *rand.Rand
	streams *rand.Rand // apart, so that an open stream does not change which packets are lost
}

// forced is what Cut and Heal said last about a lane; it outranks Link.Cut.
type forced uint8

const (
	notForced forced = iota
	forcedCut
	forcedWhole
)

// lane returns the lane from one address to another; n.mu is held.
func (n *Network) lane(from, to string) *lane {
	l := n.lanes[pair{from, to}]
	if l == nil {
		h := fnv.New64a()
		h.Write([]byte(from + "\x00" + to))
		l = &lane{
			packets: rand.New(rand.NewPCG(uint64(n.seed), h.Sum64())),
			streams: rand.New(rand.NewPCG(uint64(n.seed), ^h.Sum64())),
		}
		n.lanes[pair{from, to}] = l
	}
	return l
}

// link returns the settings in force on l; n.mu is held.
func (n *Network) link(l *lane) Link {
	link := n.normal
	if l.own != nil {
		link = *l.own
	}
	switch l.forced {
	case forcedCut:
		link.Cut = true
	case forcedWhole:
		link.Cut = false
	}
	return link
}

// fate is what the random numbers say of one packet.
type fate struct {
	lost      bool
	delay     time.Duration
	again     bool // deliver a duplicate too, after againDelay
	duplicate time.Duration
}

// draw decides what happens to the next packet under link. It uses five
// numbers whatever the settings, so the n-th packet's luck stays the same when
// settings change.
func (link Link) draw(r *rand.Rand) fate {
	loss, dup, reorder := r.Float64(), r.Float64(), r.Float64()
	jitter, dupJitter := r.Float64(), r.Float64()
	f := fate{
		lost:      loss < link.Loss,
		again:     dup < link.Duplicate,
		delay:     link.Delay + time.Duration(jitter*float64(link.Jitter)),
		duplicate: link.Delay + time.Duration(dupJitter*float64(link.Jitter)),
	}
	if reorder < link.Reorder {
		f.delay += link.Delay + link.Jitter + reorderAtLeast
	}
	return f
}

// Default sets the link of every direction that Link was not called for.
func (n *Network) Default(link Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.normal = link
}

// Link sets one direction between two addresses. What is under way keeps its
// arrival time, unless link is cut when it arrives.
func (n *Network) Link(from, to string, link Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.lane(from, to)
	l.own, l.forced = &link, notForced
}

// Cut severs both directions between a and b, whatever their links say. What
// is under way is lost, too.
func (n *Network) Cut(a, b string) {
	n.force(forcedCut, pair{a, b}, pair{b, a})
}

// CutOneWay severs the direction from one address to another only.
func (n *Network) CutOneWay(from, to string) {
	n.force(forcedCut, pair{from, to})
}

// Heal repairs both directions between a and b, whatever their links say.
func (n *Network) Heal(a, b string) {
	n.force(forcedWhole, pair{a, b}, pair{b, a})
}

func (n *Network) force(f forced, ways ...pair) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range ways {
		n.lane(w.from, w.to).forced = f
	}
}

// HealAll repairs every cut: those of Cut and those of links.
func (n *Network) HealAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.normal.Cut = false
	for _, l := range n.lanes {
		l.forced = notForced
		if l.own != nil {
			l.own.Cut = false
		}
	}
}
