package page

import (
	"slices"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/world"
)

// sight is the cluster at one moment, as its nodes show themselves.
type sight struct {
	at      time.Duration
	lease   time.Duration
	limits  []crdt.Definition
	regions []regionSight
}

type regionSight struct {
	name   string
	nodes  []nodeSight
	backup bool // its backup buckets have served of late
	cut    mode // what its switch says
}

type nodeSight struct {
	world.Machine
	world.State
}

// joined tells whether the node knows the cluster: before, what it shows says little.
func (n *nodeSight) joined() bool { return n.Up && n.Cluster.ExpectedMembers > 0 }

// look asks every node.
func look(w world.World, machines []world.Machine) *sight {
	s := &sight{at: w.Now(), limits: w.Limits(), lease: 3 * time.Second}
	for _, m := range machines {
		i := slices.IndexFunc(s.regions, func(r regionSight) bool { return r.name == m.Region })
		if i < 0 {
			i = len(s.regions)
			s.regions = append(s.regions, regionSight{name: m.Region})
		}
		n := nodeSight{m, w.State(m.Name)}
		if n.Cluster.LeaseMS > 0 {
			s.lease = time.Duration(n.Cluster.LeaseMS) * time.Millisecond
		}
		s.regions[i].nodes = append(s.regions[i].nodes, n)
	}
	return s
}

// nodes is all of them, in order.
func (s *sight) nodes() (all []*nodeSight) {
	for i := range s.regions {
		for j := range s.regions[i].nodes {
			all = append(all, &s.regions[i].nodes[j])
		}
	}
	return all
}

func (s *sight) region(name string) *regionSight {
	for i := range s.regions {
		if s.regions[i].name == name {
			return &s.regions[i]
		}
	}
	return nil
}

// lag is the age, in ms, of the oldest change that some node of one region has for one of
// another and that has not been acknowledged.
func (s *sight) lag(from, to string) (worst float64) {
	for _, n := range s.region(from).nodes {
		for _, m := range n.Cluster.Members {
			if n.Up && m.Region == to {
				worst = max(worst, m.LagMS)
			}
		}
	}
	return worst
}

// up is the nodes that run.
func (r *regionSight) up() (up []*nodeSight) {
	for i := range r.nodes {
		if r.nodes[i].Up {
			up = append(up, &r.nodes[i])
		}
	}
	return up
}

// refill is the mean of what the region's nodes offer; not ok while none runs.
func (r *regionSight) refill(limit string) (perSecond float64, ok bool) {
	up := r.up()
	for _, n := range up {
		perSecond += n.Limits[limit].Refill / float64(len(up))
	}
	return perSecond, len(up) > 0
}

// hears is how many members its least connected node reaches, itself included, and how many
// there are; not ok while no node of it knows.
func (r *regionSight) hears() (reachable, members int, ok bool) {
	for _, n := range r.up() {
		if c := n.Cluster; n.joined() && (!ok || c.ReachableMembers < reachable) {
			reachable, members, ok = c.ReachableMembers, c.ExpectedMembers, true
		}
	}
	return reachable, members, ok
}

// stopped tells whether the region's clock of a policy stands still, though no daemon is paused.
func (r *regionSight) stopped(p crdt.Policy) bool {
	known := false
	for _, n := range r.up() {
		if !n.joined() || n.Cluster.RefillPaused {
			continue
		}
		known = true
		if n.Cluster.Policies[p.String()].Speed >= fallen {
			return false
		}
	}
	return known
}

// A refill rate below this share of the configured one has fallen, and from that share on it is back.
const (
	fallen    = 0.2
	recovered = 0.95
)
