package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/openclaw/edge/node"
)

// run is the node's life, from flags to SIGTERM.
func run(f *flags) error {
	c, warnings, err := f.config()
	if err != nil {
		return err
	}
	log, closeLog, err := f.logger()
	if err != nil {
		return err
	}
	defer closeLog()
	for _, w := range warnings {
		log.Warn(w)
	}
	c.Logger, c.Started = log, func(a node.Addresses) { greet(os.Stdout, &c, a) }
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	fmt.Printf("OpenClaw Edge %s: a distributed rate limiter. This is node %s in region %s.\n", node.Version(), c.Node, c.Region)
	n, err := node.New(c)
	if err != nil {
		return err
	}
	return n.Run(ctx)
}

// greet tells a newcomer what to do next, with the addresses really bound.
func greet(w io.Writer, c *node.Config, a node.Addresses) {
	scheme, proof := "http", ""
	if c.TLS.Cert != "" {
		scheme, proof = "https", " --cacert CA.pem"
	}
	if c.TLS.ClientCA != "" {
		proof += " --cert YOURS.pem --key YOURS.key"
	}
	fmt.Fprintf(w, "  API     %s://%s\n  metrics %s://%s/metrics\n  gossip  %s\n", scheme, a.HTTP, scheme, a.Metrics, a.Gossip)
	fmt.Fprintf(w, "Try:\n  curl -i%s -X POST %s://%s/v1/take/%s/alice\n", proof, scheme, a.HTTP, c.Limits[0].Name)
}

// config lays flags and environment, which kong has merged, over file and defaults.
func (f *flags) config() (node.Config, []string, error) {
	c, warnings, err := node.ReadConfig(f.Config)
	if err != nil {
		return c, warnings, err
	}
	c.Node, c.Region = cmp.Or(f.Node, c.Node), cmp.Or(f.Region, c.Region)
	if len(f.Join) > 0 {
		c.Join = f.Join
	}
	c.HTTP, c.GRPC, c.Gossip, c.Advertise = f.HTTP, f.GRPC, f.Gossip, f.Advertise
	c.MetricsPort, c.DataDir = f.MetricsPort, f.DataDir
	return c, warnings, c.Check()
}

func (f *flags) logger() (log *slog.Logger, closeLog func() error, err error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.LogLevel)); err != nil {
		return nil, nil, err
	}
	out, options := os.Stderr, &slog.HandlerOptions{Level: level}
	closeLog = func() error { return nil }
	if f.LogFile != "" {
		if out, err = os.OpenFile(f.LogFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); err != nil {
			return nil, nil, fmt.Errorf("log: %w", err)
		}
		closeLog = out.Close
	}
	if f.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(out, options)), closeLog, nil
	}
	return slog.New(slog.NewTextHandler(out, options)), closeLog, nil
}
