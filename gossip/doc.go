// Package gossip carries bytes between the nodes of one cluster: who is in it, who hears
// whom, and what changed. What the bytes mean is the business of a State.
//
//	         Drain, Pack ┌────────────────────────┐ frames ≤ 1,200 B   (packets, best effort)
//	State ◀────────────▶ │ one loop: roster, peers │ ◀────────────────▶ peers
//	         Unpack      │ logs, vectors           │ chunks ≤ 256 kB   (streams: backlog, first sync)
//	                     └───────▲────────┬────────┘
//	  memberlist: joining, failure│        ▼
//	  detection, labels, keys ────┘      View (atomic, immutable)
//
// Three ideas do the work.
//
// The roster says who belongs: a CRDT map from node to (counter, state, writer, address);
// the higher counter holds. It is kept on disk, so a node that restarts inside a minority
// does not take itself for a cluster of one. Frames go to roster members for ever, whatever
// memberlist thinks of them, so a heal is felt by the next frame.
//
// Every frame acknowledges: it echoes the newest send time heard from its addressee (a proof
// that we heard it) and carries a vector (writer, version) of what the sender has. A frame
// that is lost costs a resend of the current state, never of an old one: what is sent is
// packed at the moment of sending.
//
// Every change has a number from its writer. A node keeps, for every writer, a log of
// (version, item) down to what all members have. So it can resend its own changes, relay
// another's to a peer that turns out to lack them (a single cut link), and tell a peer that
// fell below a trimmed log to ask for everything.
//
// Why not memberlist's broadcasts: 7 kB/s of unique payload a node at LAN defaults. Why not
// its push/pull for the state: a state over 20 MiB makes joining itself fail.
//
// All protocol state is owned by the goroutine of Run; the delegates that memberlist calls
// copy and post. Every queue, map and message has a bound; what a bound dropped is counted
// in Stats.FramesDropped.
package gossip
