// Command openclawctl is the operator's hand: it takes, looks, watches and operates through the
// HTTP API of one node.
//
//	command line ─▶ flags (main.go) ─▶ a command's Run ─▶ api.call (api.go) ─▶ node
//	                                         │
//	                    stdout ◀─ a table, or with -o json the node's own answer (show.go)
//
// Mistakes are answered with what to do (advice.go): which address was asked, which token is
// wanted, which limits there are.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
)

type flags struct {
	Addr    string        `env:"OPENCLAW_ADDR" default:"http://127.0.0.1:8080" placeholder:"URL|HOST:PORT" help:"Node to ask (default ${default})."`
	Output  string        `short:"o" enum:"table,json" default:"table" placeholder:"table|json" help:"table, or json for the node's own answer (default ${default})."`
	Timeout time.Duration `default:"10s" placeholder:"10s" help:"Longest wait for one answer (default ${default})."`
	TLSCA   string        `name:"tls-ca" env:"OPENCLAW_TLS_CA" placeholder:"FILE" help:"Certificates (PEM) that an https node is trusted by, in place of the system's."`
	TLSCert string        `name:"tls-cert" env:"OPENCLAW_TLS_CERT" placeholder:"FILE" help:"Our certificate (PEM), where the node asks for one."`
	TLSKey  string        `name:"tls-key" env:"OPENCLAW_TLS_KEY" placeholder:"FILE" help:"Its key (PEM)."`

	Take   takeCmd   `cmd:"" help:"Take tokens; exit 3 if refused. --watch: one take a second."`
	Credit creditCmd `cmd:"" help:"Give tokens back."`
	Bucket bucketCmd `cmd:"" help:"Look at a bucket without taking."`

	Reserve reserveCmd `cmd:"" help:"Take an estimate, to be settled later; exit 3 if refused."`
	Settle  settleCmd  `cmd:"" help:"Replace a reservation's estimate by what was used."`

	Limits  limitsCmd  `cmd:"" help:"The limits in force."`
	Members membersCmd `cmd:"" help:"The cluster as this node sees it."`
	Top     topCmd     `cmd:"" help:"Live view of hot keys, dry keys and debts."`
	Ratings ratingsCmd `cmd:"" help:"A subject's rating, or with --top the ranking."`

	Refill   refillCmd   `cmd:"" help:"Pause or resume this node's refill daemon (the alerting drill)."`
	Snapshot snapshotCmd `cmd:"" help:"Store everything now."`
	Reload   reloadCmd   `cmd:"" help:"Read the node's config file again."`
	Forget   forgetCmd   `cmd:"" help:"Take a node that is gone for good out of the cluster."`

	Keygen     keygenCmd     `cmd:"" help:"Make a key for encrypted gossip."`
	Completion completionCmd `cmd:"" help:"Print a completion script for bash, zsh or fish."`
}

const description = `Asks and operates one node of OpenClaw Edge, a rate limiter that many regions share.

  openclawctl take per-user alice             spend a token of alice's bucket
  openclawctl limits                          which limits there are
  openclawctl top                             who is taking, who is dry
  openclawctl --addr edge-2:8080 members      ask another node
  openclawctl bucket per-user alice -o json   for scripts

A bucket is one LIMIT ("per-user") applied to one KEY ("alice"). top, refill, snapshot, reload and
forget are the operator's: they work on the node's own machine, or from anywhere with the node's
token in the environment variable OPENCLAW_ADMIN_TOKEN, if its config has admin.token_env.

Exit status: 0 done, 1 failed, 2 wrong command line, 3 take refused.`

func options() []kong.Option {
	return []kong.Option{
		kong.Name("openclawctl"), kong.Description(description),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, FlagsLast: true, WrapUpperBound: 100, NoAppDescFormat: true}),
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
