package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"github.com/openclaw/edge/testnet/local"
	"github.com/openclaw/edge/testnet/page"
	"github.com/openclaw/edge/testnet/world"
)

// pageCmd is the command without arguments: a cluster in this process, load on it, and a page.
type pageCmd struct {
	Listen string `default:"127.0.0.1:8088" help:"Where the page is (default ${default}); the next free port if that one is taken."`
	Nodes  int    `default:"2" help:"Nodes in each of the three regions (default ${default})."`
	Seed   uint64 `default:"1" help:"Of the load and the links (default ${default})."`
}

// Run runs until SIGINT or SIGTERM, and leaves nothing behind.
func (c *pageCmd) Run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return c.play(ctx, os.Stdout)
}

// mostNodes is what one machine can be expected to carry, in each region.
const mostNodes = 10

func (c *pageCmd) play(ctx context.Context, out io.Writer) (err error) {
	if c.Nodes < 1 || c.Nodes > mostNodes {
		return fmt.Errorf("--nodes=%d: choose 1 to %d in each region", c.Nodes, mostNodes)
	}
	l, taken, err := listenOn(c.Listen)
	if err != nil {
		return err
	}
	defer l.Close()
	cfg := local.Config{Limits: local.Limits()[:3], Seed: c.Seed, Endless: true, // one limit of each policy: a cut shows them side by side
		Regions: []world.Region{{Name: "eu", Nodes: c.Nodes}, {Name: "us", Nodes: c.Nodes}, {Name: "ap", Nodes: c.Nodes}}}
	testnet, err := local.New(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, testnet.Close()) }()
	c.greet(out, l.Addr().String(), taken, testnet)
	flows, flood := pageLoad()
	err = page.New(page.Config{World: testnet, Link: cfg.Between, Flows: flows, Flood: flood, Stores: testnet.Stores(), Listener: l}).Run(ctx)
	fmt.Fprintln(out, "Stopping.")
	return err
}

// greet says what runs where. The page comes first.
func (c *pageCmd) greet(out io.Writer, addr string, taken bool, testnet *local.Testnet) {
	aside := ""
	if taken {
		aside = fmt.Sprintf(" (%s is taken)", c.Listen)
	}
	fmt.Fprintf(out, "Cut it with the mouse: http://%s%s\n", addr, aside)
	fmt.Fprintf(out, "A testnet of OpenClaw Edge: three regions of %d under load, in this process.\n", c.Nodes)
	for _, m := range testnet.Machines() {
		fmt.Fprintf(out, "  %-6s API http://%s  metrics http://%s/metrics\n", m.Name, m.HTTP, m.Metrics)
	}
	fmt.Fprintf(out, "  stores %s\nCtrl-C stops everything.\n", testnet.Stores())
}

// nextPorts is how many ports after a taken one are tried.
const nextPorts = 100

// listenOn takes an address, or where that is taken, the next free port.
func listenOn(addr string) (l net.Listener, taken bool, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, false, fmt.Errorf("--listen: %w; write HOST:PORT, as in 127.0.0.1:8088", err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, false, fmt.Errorf("--listen=%s: the page can crash nodes, and listens on loopback only; write 127.0.0.1:PORT", addr)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, false, fmt.Errorf("--listen=%s: %q is no port; write a number up to 65535", addr, text)
	}
	for next := port; ; next++ {
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.FormatUint(next, 10)))
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) || next == port+nextPorts || next == 65535 {
			return l, next > port, err
		}
	}
}

// pageLoad asks for more than the limits allow of some keys, for less of others.
func pageLoad() (flows []*world.Flow, flood *world.Flow) {
	return []*world.Flow{
		{Limit: "per-user", PerSecond: 90, Keys: world.Keys{Name: "user-", N: 4, Zipf: 1.5}},
		{Limit: "per-tenant", PerSecond: 260, Keys: world.Keys{Name: "tenant-", N: 4, Zipf: 1.3}},
		{Limit: "per-ip", PerSecond: 120, Keys: world.Keys{Name: "10.0.0.", N: 50, Zipf: 1.4}},
	}, &world.Flow{Limit: "per-ip", PerSecond: 500, Keys: world.Keys{Name: "stranger-", New: true}}
}
