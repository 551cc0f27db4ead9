package node

import (
	"errors"
	"fmt"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/gossip"
)

// failoverFor is how long the operator's failover lasts unless renewed.
const failoverFor = time.Hour

// Cluster is the cluster as this node sees it.
func (n *Node) Cluster() Cluster {
	v := n.gossip.View()
	a := n.refill.state.Load()
	speeds := n.refill.speedsNow()
	own, at := n.refill.own(n.cfg.Node)
	c := Cluster{
		Node: n.cfg.Node, Region: n.cfg.Region, TimeMS: float64(at.Add(n.cfg.WallAhead).UnixMicro()) / 1000, LeaseMS: n.cfg.Lease.Milliseconds(),
		ExpectedMembers: len(v.Members), ReachableMembers: a.reachable,
		Policies: make(map[string]PolicyState), RefillPaused: n.refill.paused.Load(),
		Members: []Member{},
	}
	c.Ready, _ = n.Ready()
	c.Store = n.storeState()
	for p := range crdt.Policies {
		name := crdt.Policy(p).String()
		c.Policies[name] = PolicyState{Speed: speeds[p], ClockMS: milliseconds(time.Duration(n.refill.reading(crdt.Policy(p)))), OwnMS: milliseconds(time.Duration(own[p]))}
	}
	for i := range v.Members {
		m := &v.Members[i]
		state := "unreachable"
		if a.reach.has(i) {
			state = "alive"
		}
		c.Members = append(c.Members, Member{
			Node: m.Node, Region: m.Region, State: state,
			LagMS: milliseconds(m.Lag), RTTMS: milliseconds(m.RTT), ClockSkewMS: milliseconds(m.Skew),
		})
	}
	return c
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Ready tells whether the node is fit for traffic, and if not, why.
func (n *Node) Ready() (bool, string) {
	v := n.gossip.View()
	a := n.refill.state.Load()
	switch {
	case n.refill.isStopping():
		return false, "leaving the cluster"
	case !n.keeper.Load().hasRestored():
		return false, n.keeper.Load().progress()
	case v.Phase != gossip.Synced:
		return false, fmt.Sprintf("%s: %s", v.Phase, v.PhaseNote)
	case !n.settled.Load():
		return false, "syncing: learning the refill clock"
	case n.refill.lost(crdt.Quorum) && n.force.Load().uses(crdt.Quorum):
		return false, fmt.Sprintf("no refill authority: %d of %d members reachable, and quorum limits need a majority; send traffic to another region", a.reachable, len(v.Members))
	}
	return true, ""
}

func (f *inForce) uses(p crdt.Policy) bool {
	for _, l := range f.byID {
		if l != nil && l.Policy == p {
			return true
		}
	}
	return false
}

// SetRefillPaused stops the refill daemon of this node, or lets it go on: the readings that
// takes see stand still, while its part of the clocks goes on for the others' sake.
func (n *Node) SetRefillPaused(paused bool) {
	n.refill.paused.Store(paused)
	n.log.Warn("refill daemon", "paused", paused)
}

// SetFailover turns the backup buckets of this node on, for an hour at most, or off.
func (n *Node) SetFailover(on bool) {
	end := int64(0)
	if on {
		end = n.refill.local.Load() + int64(failoverFor)
	}
	n.failoverEnd.Store(end)
	if n.failover.Swap(on) != on {
		n.log.Warn("failover", "on", on)
	}
}

// Forget takes a node out of the roster: its part of the refill clock goes to the others.
// Without a majority that needs force, as the other side may do the same.
func (n *Node) Forget(node string, force bool) error {
	a := n.refill.state.Load()
	if !a.majority && !force {
		return &Refusal{Status: 409, Detail: fmt.Sprintf("this node reaches no majority of the members: the others may be alive behind a cut, and forgetting %q here would let both sides refill in full; heal the cut, or add force=true if they are gone for good", node)}
	}
	switch err := n.gossip.Forget(node); {
	case errors.Is(err, gossip.ErrUnknown):
		return &Refusal{Status: 404, Detail: fmt.Sprintf("no member is called %q: GET /v1/cluster lists them", node)}
	case err != nil:
		return &Refusal{Status: 409, Detail: fmt.Sprintf("%q was not forgotten: %v", node, err)}
	}
	n.log.Warn("member forgotten", "member", node, "force", force)
	return nil
}

// gossipAddr is the address that gossip is bound to.
func (n *Node) gossipAddr() string { return n.gossip.Addr() }

// writerOf is the current writer of a node, 0 if unknown.
func (n *Node) writerOf(node string) uint64 {
	v := n.gossip.View()
	for i := range v.Members {
		if v.Members[i].Node == node {
			return v.Members[i].Writer
		}
	}
	return 0
}

// slotInfo names the slots' writers as far as the roster knows them.
func (n *Node) slotInfo(slots []crdt.Slot) []SlotInfo {
	v := n.gossip.View()
	infos := make([]SlotInfo, 0, len(slots))
	for _, s := range slots {
		info := SlotInfo{Node: "?", Writer: fmt.Sprintf("%016x", uint64(s.Writer)), Taken: crdt.Milli(s.N), Credited: crdt.Milli(s.P)}
		if s.Serial > 1 {
			info.Writer += fmt.Sprintf(".%d", s.Serial)
		}
		if s.Writer.Tag() == crdt.NodeTag(n.cfg.Node) {
			info.Node = n.cfg.Node
		}
		for i := range v.Known {
			if crdt.NodeTag(v.Known[i].Node) == s.Writer.Tag() {
				info.Node = v.Known[i].Node
			}
		}
		infos = append(infos, info)
	}
	return infos
}
