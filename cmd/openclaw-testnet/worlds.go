package main

import (
	"time"

	"github.com/openclaw/edge/testnet/local"
	"github.com/openclaw/edge/testnet/processes"
	"github.com/openclaw/edge/testnet/scenario"
	"github.com/openclaw/edge/testnet/world"
)

// make makes the testnet of a scenario, and says in words what it is.
func (s *session) make(sc *scenario.Scenario) (w world.World, on string, err error) {
	delay := make(map[[2]string]time.Duration)
	for _, d := range sc.Delays {
		delay[[2]string{d.A, d.B}] = d.OneWay
	}
	if s.Processes {
		return s.makeProcesses(sc, delay)
	}
	cfg := local.Config{Limits: sc.Limits, Delay: delay, Seed: s.Seed, Virtual: s.Fast, NoStores: !sc.Stores()}
	for _, r := range sc.Regions {
		cfg.Regions = append(cfg.Regions, world.Region{Name: r, Nodes: sc.Nodes})
	}
	t, err := local.New(cfg)
	if err != nil {
		return nil, "", err // not t: a nil *Testnet is no nil World
	}
	on = "nodes in one process, in real time"
	if s.Fast {
		on = "nodes in one process, in virtual time"
	}
	if sc.Stores() {
		on += "; stores: " + t.Stores()
	}
	return t, on, nil
}

func (s *session) makeProcesses(sc *scenario.Scenario, delay map[[2]string]time.Duration) (world.World, string, error) {
	cfg := processes.Config{Limits: sc.Limits, Delay: delay, Seed: s.Seed}
	for _, r := range sc.Regions {
		cfg.Regions = append(cfg.Regions, world.Region{Name: r, Nodes: sc.Nodes})
	}
	w, err := processes.New(s.ctx, cfg)
	if err != nil {
		return nil, "", err
	}
	return w, "real processes in network namespaces", nil
}
