package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	inboxLen    = 4096
	rostersLen  = 64
	batch       = 256 // frames taken in between two looks at the clock
	flushFor    = 2 * time.Second
	leaveRounds = 4 // ticks in which a leaver says so
	housekeep   = time.Second
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
	now   time.Time

	roster     roster
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
	version uint64 // of our newest change
	seq     uint64 // of our newest frame, to whomever: a peer's next incarnation heard those to its last one
	stamps  []stamp
	vec     vector
	logs    map[uint64]*changelog
	settled map[uint64]time.Time // writers that are gone and that everybody has all of, since when
	pack    *packer
	ids     []uint32 // scratch
	buf     []byte   // scratch

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

// merge joins es into the roster and does what follows from it.
func (l *loop) merge(es []entry) {
	changed, cut := l.roster.join(es)
	if cut > 0 {
		l.g.counts.dropped[dropRoster].Add(uint64(cut))
	}
	if changed {
		l.rosterChanged()
		l.checkSelf()
	}
}

// rosterChanged follows the roster with everything that is derived from it.
func (l *loop) rosterChanged() {
	es := l.roster.sorted()
	l.fpAll, l.fpJoined = fingerprints(es)
	l.rosterWire = appendEntries(nil, es)
	wire := l.rosterWire
	l.net.roster.Store(&wire)
	if me, ok := l.roster[l.cfg.Node]; !ok || me.State != Forgotten {
		l.saveLater(es)
	}
	old := l.byNode
	l.byNode = make(map[string]*peer, len(es))
	l.peers = l.peers[:0]
	for _, e := range es {
		if e.Node == l.cfg.Node || e.State != Joined {
			continue
		}
		p := old[e.Node]
		if p == nil || p.entry != e {
			p = l.rejoined(p, e)
		}
		l.byNode[e.Node] = p
		l.peers = append(l.peers, p)
	}
}

// rejoined is the peer for entry e, which was p (nil: nobody) so far.
func (l *loop) rejoined(p *peer, e entry) *peer {
	round := l.cfg.RoundWAN
	if e.Region == l.cfg.Region {
		round = l.cfg.RoundRegion
	}
	fresh := newPeer(e, round, l.now)
	if p == nil || p.Writer != e.Writer {
		return fresh
	}
	p.entry, p.address, p.round = e, fresh.address, round
	return p
}

// saveLater hands the roster to the saver; an older one still waiting there is replaced.
func (l *loop) saveLater(es []entry) {
	if !l.claimed { // nothing of ours yet: a start that fails leaves the file as it was
		return
	}
	select {
	case <-l.save:
	default:
	}
	l.save <- es
}

// checkSelf looks whether our own entry is still ours.
func (l *loop) checkSelf() {
	me, ok := l.roster[l.cfg.Node]
	if !l.claimed || !ok || me.State == Joined && me.Writer == l.cfg.Writer {
		return
	}
	switch {
	case me.State == Forgotten:
		l.fatal = ErrForgotten
	case me.Writer == l.cfg.Writer: // left, by our own doing
	case !l.checking:
		l.checking = true
		l.net.suspect(me)
	}
}

// claim puts us into the roster with a counter above all that we know.
func (l *loop) claim() {
	me, known := l.roster[l.cfg.Node]
	if known && me.State == Forgotten && l.hadFile && !l.claimed {
		l.fatal = ErrForgotten
		return
	}
	first := !l.claimed
	l.claimed = true
	others := len(l.peers) > 0
	l.founded = l.founded || first && len(l.roster) == 0
	l.merge([]entry{{Node: l.cfg.Node, Region: l.cfg.Region, Addr: l.addr, Writer: l.cfg.Writer,
		Counter: l.roster.next(), State: Joined}})
	l.vec.raise(l.cfg.Writer, l.version)
	if first {
		l.sync.begin(l, others)
	}
}

func (l *loop) forget(node string) error {
	e, ok := l.roster[node]
	switch {
	case node == l.cfg.Node:
		return errors.New("gossip: a node cannot forget itself: stop it, it leaves")
	case !ok || e.State == Forgotten:
		return fmt.Errorf("%w: %q", ErrUnknown, node)
	}
	e.State, e.Counter = Forgotten, l.roster.next()
	l.merge([]entry{e})
	l.publish()
	return nil
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

const maxStamps = 8192

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

// publish makes the view of this moment.
func (l *loop) publish() {
	v := &View{At: l.now, Self: l.cfg.Node, Roster: l.fpJoined, Phase: l.phase, Founded: l.founded, PhaseNote: l.note}
	for _, name := range slices.Sorted(maps.Keys(l.roster)) {
		m := l.member(l.roster[name])
		v.Known = append(v.Known, m)
		if m.State == Joined {
			v.Members = append(v.Members, m)
		}
	}
	l.g.view.Store(v)
}

func (l *loop) member(e entry) Member {
	m := Member{Node: e.Node, Region: e.Region, Addr: e.Addr, Writer: e.Writer, Counter: e.Counter, State: e.State}
	if e.Node == l.cfg.Node {
		m.ProvenAt, m.HeardAt = l.now, l.now
		return m
	}
	p := l.byNode[e.Node]
	if p == nil {
		return m
	}
	m.HeardAt, m.RTT, m.Skew, m.Lag = p.heardAt, p.rtt, p.skew, l.lag(p)
	if p.proven > 0 {
		m.ProvenAt = l.start.Add(time.Duration(p.proven - 1))
	}
	return m
}

// leaver is the end of a run: flush, say goodbye, stop.
type leaver struct {
	until   time.Time
	version uint64 // of our last own change: what is relayed meanwhile others can tell, too
	said    int
}

func (v *leaver) begin(l *loop) {
	l.now = time.Now()
	l.drain()
	v.until, v.version = l.now.Add(flushFor), l.version
}

// tick reports that all is done.
func (v *leaver) tick(l *loop) bool {
	if !l.claimed {
		return true
	}
	if v.said == 0 && (l.flushed(v.version) || l.now.After(v.until)) {
		e := l.roster[l.cfg.Node]
		e.State, e.Counter = Left, l.roster.next()
		v.said = 1
		l.merge([]entry{e})
		l.publish()
	}
	for _, p := range l.peers {
		p.next = l.now // every peer, every tick: a leaver has no time for rounds
	}
	if v.said > 0 {
		v.said++
	}
	return v.said > leaveRounds
}

// flushed says that every peer that still hears us has our changes up to version.
func (l *loop) flushed(version uint64) bool {
	for _, p := range l.peers {
		alive := p.proven > 0 && l.now.Sub(l.start)-time.Duration(p.proven) < l.cfg.Lease
		if alive && p.has[l.cfg.Writer] < version {
			return false
		}
	}
	return true
}
