// Command openclaw_exporter watches a cluster of OpenClaw Edge from outside, and exports for
// Prometheus what no node can know alone: into how many groups the cluster is split, who
// disagrees with the others, who does not answer.
//
//	node  ◀── GET /v1/cluster, /v1/limits ──┐ every --interval, all at once, each at most --timeout
//	node  ◀─────────────────────────────────┤
//	node  ◀─────────────────────────────────┴─ watcher ─▶ judge ─▶ round ◀── GET /metrics
//	           (watch.go)                       (judge.go)        (metrics.go)
//
// A crash is no split: who does not answer is in no group. Two nodes are linked if each says
// that it reaches the other; what hangs together is a group. So a single cut link is no split
// either, as long as a third node reaches both.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

type flags struct {
	Nodes       []string      `required:"" placeholder:"URL,…" help:"Nodes of one cluster, as http://HOST:PORT of their API; all of them."`
	MetricsPort int           `default:"9101" help:"Port of /metrics; 0 picks a free one (default ${default})."`
	Host        string        `default:"127.0.0.1" help:"Host to listen on (default ${default})."`
	Interval    time.Duration `default:"5s" help:"Time between two looks at the cluster (default ${default})."`
	Timeout     time.Duration `default:"2s" help:"A node that takes longer does not answer (default ${default})."`
	LogLevel    string        `default:"info" enum:"debug,info,warn,error" help:"debug, info, warn or error (default ${default})."`
	LogFormat   string        `default:"text" enum:"text,json" help:"text or json (default ${default})."`
}

func main() {
	var f flags
	kong.Parse(&f, kong.Name("openclaw_exporter"),
		kong.Description("Watches a cluster of OpenClaw Edge from outside, for Prometheus."),
		kong.DefaultEnvars("OPENCLAW_EXPORTER"))
	if err := run(&f); err != nil {
		fmt.Fprintln(os.Stderr, "openclaw_exporter:", err)
		os.Exit(1)
	}
}

func run(f *flags) error {
	e, err := newExporter(f.config())
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	return e.Run(ctx)
}

func (f *flags) config() config {
	var level slog.Level
	level.UnmarshalText([]byte(f.LogLevel)) // one of the enum
	options := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(os.Stderr, options)
	if f.LogFormat == "json" {
		h = slog.NewJSONHandler(os.Stderr, options)
	}
	return config{nodes: f.Nodes, host: f.Host, port: f.MetricsPort, interval: f.Interval, timeout: f.Timeout, log: slog.New(h)}
}
