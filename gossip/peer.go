package gossip

import (
	"hash/fnv"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	maxOutbox = 8 // streams waiting for one peer
	patience  = 3 // resends in vain before a flow backs off
)

// peer is a joined member seen from the loop, which owns it. A new writer of the same node is
// a new peer: an acknowledgement of an old incarnation must not count for the new one.
type peer struct {
	entry
	address memberlist.Address
	round   time.Duration // between two frames to it
	next    time.Time     // when the next is due
	more    bool          // the last round left a backlog: go on at the next tick
	turn    uint64        // the writer from which its next frame tells what we have, see vector.marks

	heardAt time.Time // newest frame, zero: none of this writer yet
	seqIn   uint64    // newest sequence of a packet or stream
	echo    uint64    // newest send time of its packets, its clock
	echoAt  time.Time // when that came
	roster  uint64    // fingerprint it showed last
	synced  bool      // it says that its first sync is done, and what it holds is the cluster's

	proven  uint64        // newest send time of ours that it echoed
	rtt     time.Duration // smoothed
	skew    time.Duration
	skewSet bool

	has   map[uint64]uint64 // what it said it has: only ever raised
	flows map[uint64]*flow  // by origin, what we send it

	streaming bool // one stream to it is under way
	outbox    [][]byte
	serve     *dump // what it asked us for
	behind    bool  // it lacks what we cannot resend
}

// flow is how far one origin's changes went to one peer.
type flow struct {
	sent     uint64    // sent up to here
	progress time.Time // when it last acknowledged more, or when sending began from nothing
	backoff  int       // resends in a row without progress
	busy     bool      // a chunk of it is on a stream

	// Of relayed origins only: since when what it has stands still at seen; whether we relay,
	// and up to where: what we had two rounds ago, so that a way that is healed wins.
	seen   uint64
	seenAt time.Time
	active bool
	upTo   [2]uint64
	turned time.Time
}

// turn lets what we have now become what we relay two rounds from now.
func (f *flow) turn(have uint64, round time.Duration, now time.Time) {
	if now.Sub(f.turned) >= round {
		f.upTo[0], f.upTo[1], f.turned = f.upTo[1], have, now
	}
}

// memberName is a node's name within memberlist: unique per start, because memberlist refuses
// a known name on a new port for most of a minute.
func memberName(node string, writer uint64) string {
	return node + "-" + hex16(writer)
}

func hex16(w uint64) string {
	s := strconv.FormatUint(w, 16)
	return "0000000000000000"[len(s):] + s
}

// nodeOf undoes memberName.
func nodeOf(name string) (node, writer string) {
	if i := len(name) - 17; i > 0 && name[i] == '-' {
		return name[:i], name[i+1:]
	}
	return name, ""
}

func newPeer(e entry, round time.Duration, now time.Time) *peer {
	h := fnv.New32a()
	h.Write([]byte(e.Node))
	phase := time.Duration(uint64(h.Sum32()) * uint64(round) >> 32)
	return &peer{
		entry: e, round: round, next: now.Add(phase),
		address: memberlist.Address{Addr: e.Addr, Name: memberName(e.Node, e.Writer)},
		has:     make(map[uint64]uint64), flows: make(map[uint64]*flow),
	}
}

// target is the peer as memberlist's stream functions want it.
func (p *peer) target() *memberlist.Node {
	a, err := netip.ParseAddrPort(p.Addr)
	if err != nil { // entry.valid saw to it
		return nil
	}
	return &memberlist.Node{Name: p.address.Name, Addr: net.IP(a.Addr().AsSlice()), Port: a.Port()}
}

func (p *peer) flow(origin uint64) *flow {
	f := p.flows[origin]
	if f == nil {
		f = &flow{}
		p.flows[origin] = f
	}
	return f
}

// timeout is how long to wait for an acknowledgement: it may wait for a round at the peer,
// and be seen a round late here. Three resends in vain are bad luck, then it backs off.
func (p *peer) timeout(f *flow) time.Duration {
	d := max(3*p.round, p.rtt*3/2+2*p.round) << min(max(f.backoff-patience, 0), 5)
	return min(d, max(2*time.Second, 2*p.rtt))
}

// raise notes that the peer has all of writer up to version.
func (p *peer) raise(writer, version uint64, now time.Time) {
	old, known := p.has[writer]
	if known && version <= old || !known && len(p.has) >= 2*maxWriters {
		return
	}
	p.has[writer] = version
	p.behind = false // until the next round finds it so again
	if f := p.flows[writer]; f != nil {
		f.progress, f.backoff = now, 0
	}
}

// heard takes in what a frame says of the link; fresh: it is the newest one so far.
func (p *peer) heard(f *frame, fresh bool, now time.Time) {
	p.heardAt = now
	if fresh {
		p.seqIn, p.roster, p.synced = f.seq, f.head.roster, f.flags&flagSynced != 0
	}
	if f.sent > p.echo && f.flags&flagStream == 0 {
		p.echo, p.echoAt = f.sent, now
	}
}

// prove takes in an echo; at and mono are our clocks when the frame came. A hold that is too
// long (two clocks, two speeds) is only cut: what proves that it heard us is the echo.
func (p *peer) prove(f *frame, at time.Time, mono uint64) {
	if f.echo <= p.proven {
		return
	}
	p.proven = f.echo
	if f.flags&flagStream != 0 {
		return
	}
	rtt := time.Microsecond
	if away := mono - f.echo; mono > f.echo && away > f.hold {
		rtt = max(rtt, time.Duration(away-f.hold))
	}
	skew := time.UnixMicro(int64(f.wall)).Add(rtt / 2).Sub(at)
	if !p.skewSet {
		p.rtt, p.skew, p.skewSet = rtt, skew, true
	}
	p.rtt += (rtt - p.rtt) / 8
	p.skew += (skew - p.skew) / 8
}
