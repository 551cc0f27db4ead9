package gossip

import (
	"bytes"
	"context"
	"slices"

	"github.com/hashicorp/memberlist"
)

// run holds what Run's comment promises. What runs meanwhile:
//
//	loop      all protocol state; ends with ctx after the leave, or on something fatal
//	joiner    joins, claims our name, heals memberlist's view; ends with the loop
//	saver     writes the roster file; ends after the loop's last roster
//	streams   one a peer at most; end with the transport
//	memberlist's own, until Shutdown
func (g *Gossip) run(ctx context.Context) error {
	m, err := newMembership(g)
	if err != nil {
		return err
	}
	g.net.Store(m)
	known, err := loadRoster(g.cfg.RosterFile, g.cfg.Cluster)
	if err != nil {
		g.cfg.Logger.Error("starting without a roster", "err", err)
	}
	if err := m.open(ctx); err != nil {
		close(m.over)
		return err
	}
	l := newLoop(g, m)
	l.ml, l.addr, l.hadFile = m.ml, m.self, len(known) > 0
	l.merge(known)
	l.publish()
	close(g.started)

	saved := make(chan struct{})
	go func() {
		defer close(saved)
		for es := range l.save {
			if g.cfg.RosterFile == "" {
				continue
			}
			if err := saveRoster(g.cfg.RosterFile, g.cfg.Cluster, es); err != nil {
				g.cfg.Logger.Error("roster not saved", "err", err)
			}
		}
	}()
	joining, stop := context.WithCancel(ctx)
	j := &joiner{m: m, seeds: g.cfg.Seeds, in: make(chan struct{}, joinAtOnce)}
	m.spawn(func() { j.run(joining) })

	err = l.run(ctx)
	stop()
	m.close()
	close(l.save)
	<-saved
	return err
}

// setKeys makes ring hold keys, the first one in front. memberlist's RemoveKey shifts keys in
// an array that readers hold, unless it removes the last one: so the kept ones go to the
// front first, and the others leave from the end.
func setKeys(ring *memberlist.Keyring, keys [][]byte) error {
	for _, k := range keys {
		if err := ring.AddKey(k); err != nil {
			return err
		}
	}
	for _, k := range slices.Backward(keys) {
		if err := ring.UseKey(k); err != nil {
			return err
		}
	}
	held := ring.GetKeys()
	for _, k := range slices.Backward(held) {
		if slices.ContainsFunc(keys, func(o []byte) bool { return bytes.Equal(o, k) }) {
			break
		}
		if err := ring.RemoveKey(k); err != nil {
			return err
		}
	}
	return nil
}
