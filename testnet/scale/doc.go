// Package scale measures what a cluster's size costs: real nodes of three regions on a network in
// memory, in the virtual time of a synctest bubble, under the same load however many they are.
//
//	Run(Config{Nodes: 100}) ─▶ sim.Cluster ── load, 1 min ──▶ quiet until all agree ─▶ Point
//	                                                                                    │
//	                                    table (Markdown), plot (SVG) ◀── Points ◀───────┘
//
// The load is the whole cluster's, not each node's: so what grows with the nodes is what they
// tell each other. Who tells whom is a full mesh: every node sends every other a frame a round.
// A Point is of one size; Points fit what each frame carries and say what a size that nobody has
// measured would cost.
//
// What virtual time hides: it waits for the processor. A machine that is too slow for what its
// node is sent shows here in Point.CPU alone.
package scale
