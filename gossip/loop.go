package gossip

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	inboxLen   = 4096
	rostersLen = 64
	batch      = 256 // frames taken in between two looks at the clock
	housekeep  = time.Second
	maxStamps  = 8192 // drains whose time is kept, for the lag
)

// loop is the protocol state. One goroutine, Run's, owns all of it.
type loop struct {
	g   *Gossip
	cfg *Config
	st  State
	log *slog.Logger
	ml  *memberlist.Memberlist
	net *membership

	start time.Time // zero of our send times
	sent  uint64    // newest send time
	seq   uint64    // of our newest frame, to whomever: a peer's next incarnation heard those to its last one
	now   time.Time

	roster     roster
	entries    []entry // of the roster, sorted by node
	fpAll      uint64
	fpJoined   uint64
	rosterWire []byte // the roster as a section's body
	addr       string // told to peers
	claimed    bool   // our entry is ours
	hadFile    bool   // the roster was on disk at the start
	founded    bool
	checking   bool // somebody has our name: being looked into
	fatal      error

	peers   []*peer // sorted by node
	byNode  map[string]*peer
	regions map[uint64]string // of the peers, by writer
	version uint64            // of our newest change
	stamps  []stamp
	vec     vector
	logs    map[uint64]*changelog
	settled map[uint64]time.Time // writers that are gone and that everybody has all of, since when
	pack    *packer
	ids     []uint32 // scratch
	buf     []byte   // scratch
	header  []byte   // scratch

	phase Phase
	note  string
	sync  syncer
	audit auditor
	done  chan streamed
	save  chan []entry // newest roster for the saver, room for one
	swept time.Time
	told  time.Time // when somebody outside was last told so
}

// stamp says when the changes up to version were drained.
type stamp struct {
	version uint64
	at      time.Time
}

// streamed is the end of a stream to a peer.
type streamed struct {
	node   string
	writer uint64
	origin uint64 // of a delta, else 0
	err    error
}

func newLoop(g *Gossip, net *membership) *loop {
	now := time.Now()
	l := &loop{
		g: g, cfg: &g.cfg, st: g.cfg.State, log: g.cfg.Logger, net: net, start: now, now: now, swept: now,
		roster: make(roster), byNode: make(map[string]*peer), vec: newVector(),
		logs: make(map[uint64]*changelog), settled: make(map[uint64]time.Time), pack: newPacker(g.cfg.State),
		done: make(chan streamed, 64), save: make(chan []entry, 1),
	}
	l.logs[g.cfg.Writer] = &changelog{}
	l.audit.schedule(l)
	return l
}

// mono is t on the clock of our send times: nanoseconds since the start, never 0.
func (l *loop) mono(t time.Time) uint64 { return uint64(t.Sub(l.start)) + 1 }

// run serves until ctx ends and the leave is done, or something fatal.
func (l *loop) run(ctx context.Context) error {
	tick := time.NewTicker(l.cfg.RoundRegion)
	defer tick.Stop()
	leave := leaver{}
	stop := ctx.Done()
	for l.fatal == nil {
		select {
		case m := <-l.net.inbox:
			l.takeIn(m)
		case b := <-l.net.rosters:
			l.mergeRemote(b)
		case c := <-l.g.calls:
			l.call(c)
		case s := <-l.done:
			l.now = time.Now()
			l.streamed(s)
		case <-tick.C:
			l.tick()
			if stop == nil && leave.tick(l) {
				return nil
			}
		case <-stop:
			stop = nil
			leave.begin(l)
		}
	}
	return l.fatal
}

// takeIn takes in a message, and those waiting behind it.
func (l *loop) takeIn(m message) {
	l.now = time.Now()
	for i := 0; ; i++ {
		l.net.queued.Add(-int64(len(m.bytes)))
		l.receive(m)
		if i >= batch {
			return
		}
		select {
		case m = <-l.net.inbox:
		default:
			return
		}
	}
}

// call runs a command after what memberlist has merged before it.
func (l *loop) call(c call) {
	for range len(l.net.rosters) {
		l.mergeRemote(<-l.net.rosters)
	}
	l.now = time.Now()
	c.f(l)
	close(c.done)
}

func (l *loop) mergeRemote(b []byte) {
	l.now = time.Now()
	r := reader{b: b}
	es := r.entries()
	if r.bad || len(r.b) > 0 {
		l.g.counts.drop(dropGarbage)
		return
	}
	l.merge(es)
}

func (l *loop) tick() {
	l.now = time.Now()
	l.drain()
	if l.claimed {
		for _, p := range l.peers {
			if p.more || !l.now.Before(p.next) {
				l.sendRound(p)
			}
		}
		l.sync.tick(l)
		l.audit.tick(l)
	}
	if l.now.Sub(l.swept) >= housekeep {
		l.swept = l.now
		l.sweep()
	}
	l.publish()
}

// drain numbers what this node changed since the last time.
func (l *loop) drain() {
	l.ids = l.st.Drain(l.ids[:0])
	if len(l.ids) == 0 {
		return
	}
	l.changed(l.ids)
}

// changed lists ids as changes of ours.
func (l *loop) changed(ids []uint32) {
	own := l.logs[l.cfg.Writer]
	for _, id := range ids {
		l.version++
		own.list = append(own.list, change{version: l.version, id: id})
	}
	l.vec.raise(l.cfg.Writer, l.version)
	if n := len(l.stamps); n >= maxStamps { // keep every other one: lag is then a little too large
		kept := l.stamps[:0]
		for i := 1; i < n; i += 2 {
			kept = append(kept, stamp{l.stamps[i].version, l.stamps[i-1].at})
		}
		l.stamps = kept
	}
	l.stamps = append(l.stamps, stamp{l.version, l.now})
}

// lag is the age of our oldest change that p has not acknowledged.
func (l *loop) lag(p *peer) time.Duration {
	has := p.has[l.cfg.Writer]
	i, _ := slices.BinarySearchFunc(l.stamps, has, func(s stamp, v uint64) int {
		if s.version <= v {
			return -1
		}
		return 1
	})
	if i == len(l.stamps) {
		return 0
	}
	return max(l.now.Sub(l.stamps[i].at), 1)
}
