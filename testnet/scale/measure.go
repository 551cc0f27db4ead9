package scale

import (
	"fmt"
	"runtime"
	"syscall"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/sim"
)

// Point is one size, measured. Rates are of one node, in one second.
type Point struct {
	Nodes   int
	Frames  float64       // sent, by packet and stream
	Bytes   float64       // of these frames
	Wire    float64       // bytes of all that it sends, memberlist's own probes and states too
	Streams float64       // opened by it: for what is too long for a packet
	Lag     time.Duration // the age of the oldest change that a peer had not acknowledged, at the worst moment
	Agreed  time.Duration // from the end of the load until all nodes showed the same takes in every bucket
	Hot     float64       // of the key that everybody asks for: admitted, of what one ideal bucket admits
	Dropped uint64        // frames refused or lost, in the whole cluster over the whole load
	Repairs uint64        // entries that an audit had to mend, likewise
	CPU     time.Duration // that the whole process takes for one second of the cluster, the load and the network included
	Memory  uint64        // bytes of heap and stacks in use by the whole process, at most
}

// FrameBytes is how long a frame is in the mean.
func (p *Point) FrameBytes() float64 { return p.Bytes / p.Frames }

// load lets time pass under the load.
func (r *run) load(lasts time.Duration) {
	c := r.cluster
	begin := c.Now()
	for looked := begin; c.Now() < begin+lasts; {
		time.Sleep(step)
		up := c.Up()
		for _, f := range r.flows {
			for a := range f.Due(c.Now()) {
				c.Ask(up, a.Turn, judge.ID{Limit: f.Limit, Key: a.Key}, a.Cost)
			}
		}
		if now := c.Now(); now-looked >= lookEvery {
			looked = now
			r.look()
			if r.cfg.Watch != nil {
				r.cfg.Watch(now - begin)
			}
		}
	}
}

// look notes what is at its worst now and then.
func (r *run) look() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	r.point.Memory = max(r.point.Memory, m.HeapInuse+m.StackInuse)
	for _, m := range r.cluster.Machines {
		for _, peer := range m.Node.Cluster().Members {
			r.point.Lag = max(r.point.Lag, time.Duration(peer.LagMS*float64(time.Millisecond)))
		}
	}
}

// counts is what all nodes and the network have counted since they began.
type counts struct {
	frames, bytes, wire, streams, dropped, repairs uint64
	cpu                                            time.Duration
}

func (r *run) count() (c counts, err error) {
	for _, m := range r.cluster.Machines {
		s := m.Node.Stats()
		c.bytes += s.BytesSent
		c.repairs += s.Repairs
		for _, n := range s.FramesReceived {
			c.frames += n
		}
		for _, n := range s.FramesDropped {
			c.dropped += n
		}
	}
	net := r.cluster.Net.Stats()
	c.wire, c.streams = net.Bytes+net.StreamBytes, net.Streams
	for _, n := range net.Dropped {
		c.dropped += n
	}
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return c, fmt.Errorf("scale: %w", err)
	}
	c.cpu = time.Duration(used.Utime.Nano() + used.Stime.Nano())
	return c, nil
}

// rates notes what was counted between two moments.
func (p *Point) rates(from, to counts, nodes int, lasted time.Duration) {
	each := float64(nodes) * lasted.Seconds()
	p.Nodes = nodes
	p.Frames = float64(to.frames-from.frames) / each
	p.Bytes = float64(to.bytes-from.bytes) / each
	p.Wire = float64(to.wire-from.wire) / each
	p.Streams = float64(to.streams-from.streams) / each
	p.Dropped, p.Repairs = to.dropped-from.dropped, to.repairs-from.repairs
	p.CPU = time.Duration(float64(to.cpu-from.cpu) / lasted.Seconds())
}

// agree waits until every node shows, in every bucket, all takes that were admitted anywhere. No
// node ever shows more: so the sum over a bucket's slots tells.
func (r *run) agree() (time.Duration, error) {
	c := r.cluster
	ids := c.Observed.Known()
	want := make([]crdt.Milli, len(ids))
	for i, id := range ids {
		admitted, _ := c.Observed.Admitted(id)
		want[i] = crdt.Milli(admitted) * crdt.Token
	}
	agreed := make([]int, len(c.Machines)) // how many of ids each machine is known to agree on
	for begin := c.Now(); ; time.Sleep(step) {
		behind := ""
		for i, m := range c.Machines {
			for agreed[i] < len(ids) {
				got, err := taken(m, ids[agreed[i]])
				if err != nil {
					return 0, err
				}
				if got != want[agreed[i]] {
					behind = fmt.Sprintf("%s shows %d millitokens taken from %v, of %d", m.Name, got, ids[agreed[i]], want[agreed[i]])
					break
				}
				agreed[i]++
			}
		}
		switch took := c.Now() - begin; {
		case behind == "":
			return took, nil
		case took >= agreeIn:
			return 0, fmt.Errorf("scale: %d nodes do not agree %v after the load: %s", len(c.Machines), took, behind)
		}
	}
}

// taken is what all nodes together have taken from a bucket, as one of them shows it.
func taken(m *sim.Machine, id judge.ID) (sum crdt.Milli, err error) {
	b, err := m.Node.Look(id.Limit, id.Key)
	for _, s := range b.Slots {
		sum += s.Taken
	}
	return sum, err
}
