package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/openclaw/edge/testnet/drill"
)

// drillCmd breaks a cluster under the shipped alerts.
type drillCmd struct {
	Factor   float64  `default:"20" help:"By which windows, for, ages and scrapes are faster than shipped (default ${default})."`
	RealTime bool     `xor:"pace" help:"With the rules as they are shipped: minutes for each fault."`
	Only     []string `placeholder:"NAME,…" help:"Of the faults partition, flood, refill daemon, KV outage, crash; default: all."`
}

// Run runs until all is drilled or SIGINT or SIGTERM comes, and leaves nothing behind.
func (c *drillCmd) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	factor := c.Factor
	if c.RealTime {
		factor = 1
	}
	return drill.Run(ctx, drill.Config{Factor: factor, Only: c.Only, Out: os.Stdout})
}
