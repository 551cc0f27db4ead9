// Package sim runs whole clusters of real nodes on a network in memory, in the virtual
// time of testing/synctest, does to them what the world does to clusters, and holds what
// came out against one ideal token bucket. Cluster runs in real time, too: package local's
// testnet is made of it.
//
//	Flow ─ arrivals ─▶ Cluster ── Take ──▶ node.Node ┐
//	                     │                  …        ├── memnet (delay, loss, cuts)
//	Weather ─ faults ────┘                 node.Node ┘
//	                     │
//	                     ▼ every take, own refill components, final buckets
//	                  judge.Observed ──▶ judge.Of ──▶ breaches of the laws, by name
//
// What a seed fixes: the limits, the load, the faults and their times, and the fate of the
// n-th packet of every link. What it does not: the order of goroutines at one instant, the
// writers' random halves and memberlist's choice of peers. So a failing seed nearly always
// fails again, but not always by the same token.
//
// What is not simulated: a process stopped and resumed (all nodes of a bubble share one
// clock; the acceptance test with SIGSTOP does that), clocks that drift apart, and disks that lie.
package sim
