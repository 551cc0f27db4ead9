// Package node is one node of OpenClaw Edge: it holds the buckets of crdt, replicates them
// over gossip, keeps them in stores, moves the refill clock, and answers HTTP and gRPC.
//
//	HTTP (http_*.go), gRPC (grpc*.go)            peers
//	  │ Take, Credit, Look                         ▲ frames
//	  ▼                                            ▼
//	Node ─▶ table: 64 shards ◀─ drain, join ─▶ replica ◀─▶ gossip
//	  │     (table.go)           dirty buckets  (state.go)    │ View, headers
//	  │                                                       ▼
//	  │     (segment*.go)   ◀─ pack, join ─▶ segments ◀─▶ persist.Hybrid (persist.go) ◀─▶ stores
//	  ├─▶ ratings: 64 shards ◀─ the same two ways (rate.go, ratings*.go)
//	  ├─▶ reservations: one table ◀─ the same two ways (reserve.go, reservations*.go)
//	  ├─ R ─▶ refill.shown ◀─── moves ─── refill daemon (refill.go, authority.go, arrears.go)
//	  └─────▶ limits in force ◀─ swaps ── file, SIGHUP, the cluster's set (limits*.go)
//
// Who owns what. A bucket belongs to its shard's lock, which is never held across I/O or a
// channel; so does a rating, in a table of its own. Reservations have one lock, taken before a
// shard's, as bucket and account change together. The limits in force are one immutable value,
// swapped as one. The refill clocks belong to the daemon; a take sees of them one atomic integer,
// and no system clock. replica is the node as gossip sees it, and runs on gossip's goroutine
// alone. Run starts everything (its comment lists the parts); New starts nothing.
//
// Where this package leaves design.md, section 4, and why:
//
//   - A lost member's part is shared among all that its coverers or their reachable members
//     reach, not among each one's own h: with one of five dead and one link cut, both ends of
//     the link would count one too few, and all together add 31/30 (authorise).
//   - A newcomer has a vote only once a majority of the voters knows it, and a part of the
//     share clock only once every member does, as in Raft: else one that joins the smaller
//     half of a cut makes it a second majority.
//   - A component of the clock counts only from a peer that has proved, within the lease, to
//     hear us: else a node that hears and is not heard spends the others' time a second time
//     (a one-way cut of 90 s admitted 1.8 times the limit).
//   - A late tick is paid up to half a lease, not 100 ms: on a busy machine those delays cost
//     5 % of the rate. Nobody takes a part over before one and a half leases, so none is paid
//     twice; a longer sleep is paid 100 ms.
//   - The daemon ticks every 5 to 20 ms, as the quickest bucket in force needs it (an eighth of the
//     time in which it fills), and frames tell the clock as of their sending: an idle node costs
//     half, and peers see R move no less evenly.
//   - The set of limits is item 0 of the replicated state, kept on disk with the clock: one
//     mechanism carries, orders and repairs it, and a restart behind a cut resets no bucket.
//   - What time a cluster that was down is owed, its open clock says, not the absence of peers:
//     nodes that start together always have some (arrears.go). So for three minutes after a
//     member's start peers take any growth of its component: it restores it, and pays arrears.
//   - A newcomer's own file makes a draft until the cluster's limits are known, a set that no peer
//     and no store is told: one without a past would reset every bucket. What is taken under it
//     counts later (agree).
//   - Who starts alone obeys its file, as a successor of the set that its buckets obeyed,
//     whatever its version: an old file put back is what its owner wants.
//   - A new generation starts only when every member was reachable for two leases: a node that has
//     just started, or been cut off, knows less than all, and would hide more than one delay's takes.
//   - A node is ready only when it knows every component of the clock: on a clock
//     that is behind it would refuse what is lawful, then pay its buckets the difference.
package node
