// Package judge holds what a cluster did against one ideal token bucket per key.
//
//	every take, own refill components, final buckets ──▶ Observed ──▶ Of ──────▶ Verdict: breaches of the laws, by name
//	events, what metrics show, who agrees after a heal      │   └─────▶ Measure ─▶ Figures: what a report shows
//	                                                        └▶ Recent: running figures of a run without end
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
// It condemns the merge rules of other limiters (testnet/sim/rules_test.go) and lines of ours made
// wrong (testnet/sim/breakages_test.go), each by name: laws that cannot fail prove nothing.
package judge
