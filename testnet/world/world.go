// Package world says what a testnet is, whatever it is made of, so that scenarios, the page and
// the drill are written once.
//
//	scenario, page, drill ──▶ World ◀── local (nodes in this process, real or virtual time)
//	                                ◀── processes (real openclaw-edge processes in namespaces)
package world

import (
	"errors"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/node"
	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/memnet"
)

// ErrCannot is what a World answers, wrapped, to what it is not able to do.
var ErrCannot = errors.New("this testnet cannot do that")

// World is a testnet: nodes in regions, links between them, stores, load and a clock. One
// goroutine calls it. Nodes are named by their names; what is refused is left as it was.
type World interface {
	Machines() []Machine // fixed, in order
	Limits() []crdt.Definition
	Now() time.Duration // since the testnet began

	// Run lets d pass, under the flows; a flow goes on where the last Run left it. It returns early
	// when something has failed that no scenario asked for.
	Run(d time.Duration, flows []*Flow) error

	Start(node string) error                     // a new incarnation on the disk that the last one left
	Stop(node string) error                      // as SIGTERM does; returns at once
	Crash(node string) error                     // as kill -9 does
	Pause(node string, paused bool) error        // its refill daemon
	Skew(node string, ahead time.Duration) error // its wall clock against the others'; from its next start

	Cut(from, to []string) error                    // all links from each to each, this direction
	Heal(from, to []string) error                   // and of both directions, all that was done to them
	Link(from, to []string, link memnet.Link) error // this direction

	// Fault makes a store misbehave: "" heals it. Stores are "kv" and "redis"; every World says in
	// its errors which faults of which stores it knows: "down", "429", "500", "slow", "hang", "empty".
	Fault(store, fault string) error

	Reload(via string, limits []crdt.Definition) error // the others hear of it by gossip

	State(node string) State
	Observed() *judge.Observed // goes on changing during Run
	Look()                     // notes in Observed how every node shows every bucket
	Close() error              // stops everything, leaves nothing behind
}

// Region is where nodes run. They are called eu-1, eu-2 and so on.
type Region struct {
	Name  string
	Nodes int
}

// Machine is where the incarnations of one node run.
type Machine struct {
	Name, Region  string
	HTTP, Metrics string // HOST:PORT; "" where nothing listens
}

// State is a node as it shows itself at one moment.
type State struct {
	Up      bool // a process runs
	Ready   bool // as /readyz says
	Reason  string
	Cluster node.Cluster      // as GET /v1/cluster
	Limits  map[string]Limit  // as its metrics say
	Takes   map[string]Counts // since its start, by limit
}

// Limit is a limit's gauges on one node; tokens and tokens a second.
type Limit struct {
	Configured, Refill float64 // the refill rate now being offered, as openclaw_token_bucket_refill_rate
	Tokens             float64 // in all live buckets together
}

// Counts is decisions.
type Counts struct{ Allowed, Rejected, Backup uint64 }
