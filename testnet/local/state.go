package local

import (
	"github.com/openclaw/edge/testnet/world"
)

// State is a node as it shows itself now; the figures are those of its metrics. A stranger does
// not run.
func (t *Testnet) State(name string) world.State {
	m := t.byName[name]
	switch {
	case m == nil:
		return world.State{Reason: "there is no such node"}
	case m.Node == nil && !m.Ended():
		return world.State{Reason: "stopping"}
	case m.Node == nil:
		return world.State{Reason: "down"}
	}
	s := world.State{Up: true, Cluster: m.Node.Cluster(), Limits: make(map[string]world.Limit), Takes: make(map[string]world.Counts)}
	s.Ready, s.Reason = m.Node.Ready()
	stats := m.Node.Stats()
	for i := range stats.Limits {
		l := &stats.Limits[i]
		s.Limits[l.Name] = world.Limit{Configured: l.ConfiguredRate, Refill: l.OfferedRate, Tokens: float64(l.CurrentTokens)}
		s.Takes[l.Name] = world.Counts{Allowed: l.Allowed + l.Overflow, Rejected: l.Rejected, Backup: l.Backup}
	}
	return s
}
