package drill

import (
	"time"

	"github.com/openclaw/edge/testnet/world"
)

// The nodes: one in each region.
const (
	cutOff  = "eu-1" // by the partition; it has the flood, too
	paused  = "us-1"
	crashed = "ap-1"
)

var everybody = []string{cutOff, paused, crashed}

// Alerts that silence others.
const (
	split    = "OpenClawClusterSplit"
	missing  = "OpenClawMembersMissing"
	down     = "OpenClawNodeDown"
	overflow = "OpenClawTokenBucketOverflowInUse"
	standing = "OpenClawTokenBucketRefillStalled"
	low      = "OpenClawTokenBucketRefillLow"
	empty    = "OpenClawTokenBucketEmpty"
)

// fault is one thing that breaks, and what it is expected to raise.
type fault struct {
	name, about string
	begin, end  func(s *stage) error
	raises      []alert
}

// alert is one that a fault raises.
type alert struct {
	name  string
	nodes []string
	// shows tells from what a node says of itself whether it has the trouble that the alert is about;
	// its promise counts from then. Nil: it has it as soon as the fault begins.
	shows func(s *stage, n world.State) bool
	under []string // the alerts, any of which silences it in Alertmanager; nil: people are told
	// early: it may fire well before its promise, as a share or a rate is far beyond its threshold.
	early bool
	// slow: at most this factor, as what it counts does not go faster; 0: any.
	slow float64
	// may: whether it fires before the fault is over depends on its promise and the load.
	may bool
}

// faults are played in this order. The two that make members unreachable lie far apart, else
// OpenClawFlapping would be right; and the crash comes soon after the start: all nodes are in one process,
// so a node that starts later looks as old as that, and late with what it does first.
func faults() []fault {
	return []fault{
		{
			// The survivors are a majority, so refill goes on. Who is missing is told once, by name.
			name: "crash", about: crashed + " dies as by kill -9",
			begin: func(s *stage) error { return s.net.Crash(crashed) }, end: (*stage).restart,
			raises: []alert{
				{name: down, nodes: []string{crashed}, shows: silent},
				{name: missing, nodes: []string{cutOff, paused}, shows: missesSome, under: []string{down}},
				{name: "OpenClawReplicationLagHigh", nodes: []string{cutOff, paused}, may: true},
			},
		},
		{
			// Cold keys by the hundred, past max_buckets: new ones share a bucket, and most are refused.
			// Nobody brings strangers to the others, but what these hear of does not fit there either:
			// that is the flood's effect, and told as such.
			name: "flood", about: cutOff + " is asked for thousands of keys that nobody has seen",
			begin: func(s *stage) error { s.load.flood(cutOff); return nil }, end: func(s *stage) error { s.load.flood(""); return nil },
			raises: []alert{
				{name: overflow, nodes: []string{cutOff}, shows: tableFull},
				{name: "OpenClawGossipFramesDropped", nodes: []string{paused, crashed}, under: []string{overflow}, early: true},
				{name: "OpenClawTokenBucketRejectionSpike", nodes: []string{cutOff}, shows: tableFull, early: true},
			},
		},
		{
			// The drill of the alerting guide. A share clock stands still only where the daemon does,
			// so this is told as what it is; that refill is low and requests are refused follows from it.
			name: "refill daemon", about: "the refill daemon of " + paused + " is stopped",
			begin: func(s *stage) error { s.load.user(paused); return s.net.Pause(paused, true) },
			end:   func(s *stage) error { s.load.user(""); return s.net.Pause(paused, false) },
			raises: []alert{
				{name: standing, nodes: []string{paused}, shows: stalled},
				{name: low, nodes: []string{paused}, shows: refillLow, under: []string{standing}},
				{name: empty, nodes: []string{paused}, shows: dry, under: []string{standing, low}},
				{name: "OpenClawTokenBucketRejectionSpike", nodes: []string{paused}, shows: dry, under: []string{standing, low, empty}, early: true},
			},
		},
		{
			// Under quorum the minority stops refilling after the lease, and its buckets run dry. Both
			// sides know that somebody is missing, and that those who are missing live. All of it is one
			// incident: of each side the split is told, and of the starved node its refill.
			name: "partition", about: cutOff + " is cut off from the others, both ways",
			begin: func(s *stage) error { s.load.user(cutOff); return s.cut(true) },
			end:   func(s *stage) error { s.load.user(""); return s.cut(false) },
			raises: []alert{
				{name: low, nodes: []string{cutOff}, shows: refillLow},
				{name: split, nodes: everybody, shows: missesSome},
				{name: missing, nodes: everybody, shows: missesSome, under: []string{split}},
				{name: "OpenClawGossipSilent", nodes: everybody, under: []string{split, missing}},
				{name: "OpenClawReplicationLagHigh", nodes: everybody, shows: lags, under: []string{split, missing}},
				{name: empty, nodes: []string{cutOff}, shows: dry, under: []string{low}},
				{name: "OpenClawTokenBucketRejectionSpike", nodes: []string{cutOff}, may: true},
			},
		},
		{
			// Redis takes the snapshots, so nothing is lost and nobody is woken. A KV that fails is tried
			// again after five seconds to a minute: in a window that is shorter there are no errors to count.
			name: "KV outage", about: "KV answers 429 to every call",
			begin: func(s *stage) error { return s.net.Fault("kv", "429") }, end: func(s *stage) error { return s.net.Fault("kv", "") },
			raises: []alert{
				{name: "OpenClawStoreFallbackActive", nodes: everybody, shows: fallback},
				{name: "OpenClawKVErrorRateHigh", nodes: everybody, shows: fallback, early: true, slow: 2},
				{name: "OpenClawReconcileFailing", nodes: everybody, may: true},
			},
		},
	}
}

func refillLow(_ *stage, n world.State) bool {
	l := n.Limits[userLimit]
	return n.Up && l.Refill < 0.2*l.Configured
}

func stalled(_ *stage, n world.State) bool {
	for _, p := range n.Cluster.Policies {
		if p.Speed >= 0.01 {
			return false
		}
	}
	return n.Up
}

func dry(_ *stage, n world.State) bool { return n.Up && n.Limits[userLimit].Tokens < 1 }

func missesSome(_ *stage, n world.State) bool {
	return n.Up && n.Cluster.ReachableMembers < n.Cluster.ExpectedMembers
}

// lagThreshold is that of OpenClawReplicationLagHigh, unscaled.
const lagThreshold = 5 * time.Second

func lags(s *stage, n world.State) bool {
	for _, m := range n.Cluster.Members {
		if m.LagMS > float64(s.scaled(lagThreshold).Milliseconds()) {
			return true
		}
	}
	return false
}

func tableFull(s *stage, n world.State) bool { return n.Takes[floodLimit].Allowed >= mostBuckets }

func fallback(_ *stage, n world.State) bool { return n.Up && n.Cluster.Store.FallbackActive }

func silent(_ *stage, n world.State) bool { return !n.Up }
