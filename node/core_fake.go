package node

// A stand-in for the node's core, on the wall clock and for one node, until the real one
// is merged. Delete this file then.

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/openclaw/edge/crdt"
)

var ErrUnknownLimit = errors.New("no such limit")

type Refusal struct {
	Status int
	Detail string
}

func (r *Refusal) Error() string { return r.Detail }

type Limit struct {
	crdt.Definition
	Index int
	face  face
	per   float64 // fake
}

type Decision struct {
	Allowed, Backup        bool
	Limit                  *Limit
	Cost                   int64
	Level                  crdt.Milli
	RetryAfter, ResetAfter time.Duration
}

type Request struct {
	Limit, Key string
	Cost       int64
}

type SlotInfo struct {
	Node, Writer    string
	Taken, Credited crdt.Milli
}

type Bucket struct {
	Limit       *Limit
	Key         string
	Level, Debt crdt.Milli
	Slots       []SlotInfo
}

type fakeBucket struct {
	level           crdt.Milli
	at              time.Time
	taken, credited crdt.Milli
}

type Node struct {
	cfg Config
	log *slog.Logger

	mu       sync.Mutex
	limits   []*Limit
	version  uint64
	buckets  map[[2]string]*fakeBucket
	notReady string
	paused   bool
	failover bool
	replaced int
	forgot   string
}

func New(cfg Config) (*Node, error) {
	log := cfg.Logger
	if log == nil {
		log = slog.Default()
	}
	n := &Node{cfg: cfg, log: log, buckets: map[[2]string]*fakeBucket{}}
	return n, n.Replace(cfg.Limits, cfg.LimitsVersion)
}

func (n *Node) Run(ctx context.Context) error {
	unlock, err := lockDataDir(n.cfg.DataDir)
	if err != nil {
		return err
	}
	defer unlock()
	return n.serve(ctx)
}

func (n *Node) find(limit, key string, cost int64) (*Limit, *fakeBucket, error) {
	if key == "" || len(key) > 255 {
		return nil, nil, &Refusal{400, "the key must have 1 to 255 bytes"}
	}
	for _, l := range n.limits {
		if l.Name != limit {
			continue
		}
		if cost <= 0 {
			return nil, nil, &Refusal{400, "cost must be a positive whole number"}
		}
		if crdt.Milli(cost) > l.Capacity/crdt.Token {
			return nil, nil, &Refusal{400, fmt.Sprintf("cost %d is over the capacity of limit %q, so it could never succeed; split it", cost, limit)}
		}
		b := n.buckets[[2]string{limit, key}]
		now := time.Now()
		if b == nil {
			b = &fakeBucket{level: l.Capacity, at: now}
			n.buckets[[2]string{limit, key}] = b
		}
		b.level = min(l.Capacity, b.level+crdt.Milli(now.Sub(b.at).Seconds()*l.per*1000))
		b.at = now
		return l, b, nil
	}
	return nil, nil, ErrUnknownLimit
}

func (n *Node) Take(limit, key string, cost int64) (Decision, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l, b, err := n.find(limit, key, cost)
	if err != nil {
		return Decision{}, err
	}
	d := Decision{Limit: l, Cost: cost}
	if want := crdt.Milli(cost) * crdt.Token; b.level >= want {
		b.level -= want
		b.taken += want
		d.Allowed = true
	} else {
		d.RetryAfter = l.Rate.Time(want - b.level)
	}
	if b.level < crdt.Token {
		d.ResetAfter = l.Rate.Time(crdt.Token - b.level)
	}
	if !d.Allowed {
		d.ResetAfter = d.RetryAfter
	}
	d.Level = b.level
	return d, nil
}

func (n *Node) TakeAll(reqs []Request, atomic bool) ([]Decision, error) {
	n.mu.Lock()
	before := map[*fakeBucket]fakeBucket{}
	for i, r := range reqs {
		_, b, err := n.find(r.Limit, r.Key, r.Cost)
		if err != nil {
			n.mu.Unlock()
			return nil, fmt.Errorf("takes[%d]: %w", i, err)
		}
		before[b] = *b
	}
	n.mu.Unlock()
	ds, all := make([]Decision, len(reqs)), true
	for i, r := range reqs {
		ds[i], _ = n.Take(r.Limit, r.Key, r.Cost)
		all = all && ds[i].Allowed
	}
	if atomic && !all {
		for b, was := range before {
			*b = was
		}
		for i := range ds {
			ds[i].Allowed, ds[i].Level = false, n.buckets[[2]string{reqs[i].Limit, reqs[i].Key}].level
		}
	}
	return ds, nil
}

func (n *Node) Credit(limit, key string, tokens int64) (Decision, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l, b, err := n.find(limit, key, tokens)
	if err != nil {
		return Decision{}, err
	}
	give := min(crdt.Milli(tokens)*crdt.Token, l.Capacity-b.level)
	b.level += give
	b.credited += give
	return Decision{Allowed: true, Limit: l, Cost: tokens, Level: b.level}, nil
}

func (n *Node) Look(limit, key string) (Bucket, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	l, b, err := n.find(limit, key, 1)
	if err != nil {
		return Bucket{}, err
	}
	out := Bucket{Limit: l, Key: key, Level: b.level, Debt: max(0, -b.level)}
	if b.taken > 0 {
		out.Slots = []SlotInfo{{n.cfg.Node, "w1", b.taken, b.credited}}
	}
	return out, nil
}

func (n *Node) Limits() ([]*Limit, uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.limits, n.version
}

func (n *Node) Replace(defs []crdt.Definition, version uint64) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.limits, n.version = nil, version
	n.replaced++
	for i, d := range defs {
		n.limits = append(n.limits, &Limit{Definition: d, Index: i, face: newFace(d), per: d.Rate.PerSecond()})
	}
	return nil
}

func (n *Node) Cluster() Cluster {
	return Cluster{Node: n.cfg.Node, Region: n.cfg.Region, Ready: true,
		Members:         []Member{{Node: n.cfg.Node, Region: n.cfg.Region, State: "alive"}},
		ExpectedMembers: 1, ReachableMembers: 1,
		Policies: map[string]PolicyState{"quorum": {1}, "share": {1}, "open": {1}}}
}

func (n *Node) Ready() (bool, string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.notReady == "", n.notReady
}

func (n *Node) SetRefillPaused(on bool) { n.mu.Lock(); n.paused = on; n.mu.Unlock() }
func (n *Node) SetFailover(on bool)     { n.mu.Lock(); n.failover = on; n.mu.Unlock() }

func (n *Node) Forget(node string, force bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if node == "nobody" {
		return &Refusal{404, "no such member"}
	}
	n.forgot = fmt.Sprint(node, force)
	return nil
}

func (n *Node) Drift(limit string) bool { return false }

func (n *Node) gossipAddr() string { return "127.0.0.1:7946" }

func (n *Node) Stats() Stats {
	s := Stats{AliveMembers: 1, ExpectedMembers: 1, Speed: [crdt.Policies]float64{1, 1, 1},
		FramesReceived: map[string]uint64{"edge-2": 3}, FramesDropped: map[string]uint64{"garbage": 1},
		Peers: []PeerStats{{Peer: "edge-2"}}}
	limits, _ := n.Limits()
	for _, l := range limits {
		s.Limits = append(s.Limits, LimitStats{Name: l.Name, ConfiguredRate: l.Rate.PerSecond(),
			OfferedRate: l.Rate.PerSecond(), Capacity: l.Capacity, CurrentTokens: int64(l.Capacity / crdt.Token)})
	}
	return s
}
