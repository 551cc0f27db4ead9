package gossip

import "time"

// Phase is how far a node has come.
type Phase uint8

const (
	Joining Phase = iota // not in the roster yet
	Syncing              // in the roster, fetching what the others have
	Synced               // first sync done, or given up: see View.PhaseNote
)

func (p Phase) String() string { return [...]string{"joining", "syncing", "synced"}[p] }

// MemberState is what the roster says of a node. A later state wins over an earlier one at
// the same counter.
type MemberState uint8

const (
	Joined MemberState = iota
	Left
	Forgotten
)

func (s MemberState) String() string { return [...]string{"joined", "left", "forgotten"}[s] }

// View is the cluster as one node sees it at one moment. Nobody changes it once published.
type View struct {
	At        time.Time
	Self      string
	Members   []Member // joined, sorted by node name; ourselves once we are in the roster
	Known     []Member // every roster entry, left and forgotten ones too: names of old writers; at most maxRoster
	Roster    uint64   // fingerprint of the joined set (names, counters, writers): equal on nodes that agree
	Phase     Phase
	Founded   bool   // this node founded the cluster, alone
	Fetched   bool   // nothing is left to fetch from those who are heard: the first sync is done, not given up
	PhaseNote string // why the phase is what it is, for humans
}

// Member is a roster entry and what we know of it first hand.
type Member struct {
	Node, Region, Addr string
	Writer             uint64
	Counter            uint64
	State              MemberState
	ProvenAt           time.Time     // newest local time s of which it proved that it heard us after s; zero: never; ours: View.At
	HeardAt            time.Time     // when the newest frame of this writer came; zero: never
	Lag                time.Duration // age of the oldest change of ours that it has not acknowledged
	RTT                time.Duration // smoothed; 0: unknown
	Skew               time.Duration // its wall clock less ours, corrected by half the RTT
}

// publish makes the view of this moment.
func (l *loop) publish() {
	v := &View{At: l.now, Self: l.cfg.Node, Roster: l.fpJoined, Phase: l.phase, Founded: l.founded, Fetched: l.sync.fetched(l), PhaseNote: l.note}
	v.Known, v.Members = make([]Member, 0, len(l.entries)), make([]Member, 0, len(l.entries))
	for _, e := range l.entries {
		m := l.member(e)
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
