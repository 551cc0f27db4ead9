// Package sim runs whole clusters of real nodes on a network in memory, in the virtual
// time of testing/synctest, does to them what the world does to clusters, and holds what
// came out against one ideal token bucket.
//
//	Flow ─ arrivals ─▶ Cluster ── Take ──▶ node.Node ┐
//	                     │                  …        ├── memnet (delay, loss, cuts)
//	Weather ─ faults ────┘                 node.Node ┘
//	                     │
//	                     ▼ every take, own refill components, final buckets
//	                  Observed ──▶ Judge ──▶ breaches of the laws, by name
//
// The laws are the promises of design.md, section 9:
//
//	bounded     no bucket is ever overdrawn beyond (nodes−1)·(capacity + rate·delay), and what cuts and crashes add
//	authorised  all nodes together never add more to the refill clock than the time that passed
//	awake       when everybody hears everybody, they add exactly the time that passes
//	conserved   what the takers admitted is what the slots of their writers say, to the token
//	converged   when all is quiet, all nodes show the same slots and the same level
//	lawful      what one ideal bucket would admit is admitted
//
// The same Judge condemns the merge rules of other limiters, each by name (rules_test.go):
// laws that cannot fail prove nothing.
//
// What a seed fixes: the limits, the load, the faults and their times, and the fate of the
// n-th packet of every link. What it does not: the order of goroutines at one instant, the
// writers' random halves and memberlist's choice of peers. So a failing seed nearly always
// fails again, but not always by the same token.
//
// What is not simulated: a process stopped and resumed (all nodes of a bubble share one
// clock; the acceptance test with SIGSTOP does that), clocks that drift apart, and disks that lie.
package sim
