// Package crdt holds the replicated values of OpenClaw Edge and their merges: the
// token bucket, the refill clock, the PN-counter and the set of limits. It has no I/O,
// no clock, no goroutine and no lock; whoever owns a value guards it.
//
//	     takes, credits                     frames of peers
//	           │                                  │
//	inflations: Advance, Take, Credit       Join: maximum of each component
//	           └──────────────┬───────────────────┘
//	                          ▼
//	Bucket   Filled ─ refilled so far        level = Filled + ΣP − ΣN  (≤ capacity)
//	         Mark, Touched ─ readings of R   a negative level is a debt
//	         PNCounter ─ one slot a writer   paid from the next refill
//
// Two kinds of change, and no third. Join takes the maximum of every component and
// nothing else, so it is associative, commutative and idempotent: loss, repetition and
// order of messages do not matter. Inflations raise components and are made by one node
// alone, for everybody: Advance (refill up to a reading of the refill clock R, forgiveness
// of hopeless debt included), Take and Credit (a writer's own slot).
//
// All numbers are integers: Milli (millitokens) and Instant (nanoseconds of R). Refill is
// G(R2) − G(R1) with G(R) = ⌊R·num/den⌋ on a 128-bit product, so that many small
// advances add up to one large one to the unit and all nodes agree bit for bit.
//
// A Reservation is that part of a bucket's counter that belongs to one estimate: an account of the
// same kind, raised in the same step, so that whatever nodes settle it, the sum can be set right.
//
// Beyond design.md: forgiveness is applied at the old mark, before the refill, which
// keeps Advance(R1); Advance(R2) equal to Advance(R2) also for a bucket in debt; and Join
// tells whether the other side lacks something of ours, so that the node can pass on
// what two clamped refills made differ (without it, two nodes that met each other's takes at
// different readings stay apart until the next take). A slot wears out (see worn) and its bucket
// starts a new generation, before giving back without end makes values that no decoder
// takes. Credits and refills that did not know of each other may lift a joined level over the
// capacity, by at most those credits: Level does not show it, takes use it up.
package crdt
