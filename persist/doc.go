// Package persist keeps snapshots in stores: Cloudflare KV first, Redis when KV fails, and
// a file beside them. It knows bytes, keys and versions; what they mean is its caller's.
//
//	        Changes, Pack  ┌────────┐ every segment            ┌──────┐
//	State ───────────────▶ │ Hybrid │ ───────────────────────▶ │ Disk │ this node's alone
//	      ◀─────────────── │        │ owned segments           ├──────┴──┐
//	        Join           └────────┘ ───────────────────────▶ │ Primary │ the cluster's; may show old
//	                           ╰────────────────────────────▶ ├─────────┴┐ values for Primary.Lag()
//	                              exactly what Primary refused │ Fallback │ the cluster's; compares
//	                                                           └──────────┘ versions
//
// One writer a key. A key names segment, node, incarnation and part, and only that incarnation
// ever writes it, each time under a higher sequence. So whatever a store shows of it, however
// late, is something its writer once said, and all of it may be joined.
//
// Adoption is a join. What is found in Fallback, or under the keys of a writer that is gone, is
// joined into the state of the segment's owner, whose next round writes it under the owner's key.
// The design has a reconcile that copies Redis' bytes to KV. Copying makes a second writer of
// a key in a store without versions, where the copy of an old value overwrites a newer one; the
// tests keep that rule, and others, to condemn them.
//
// Invariant: the join of all stores never falls below what was acknowledged. Sketch: it could
// fall by a write or by a delete.
//
//   - A write of one value replaces an older one of the same writer, and a Pack has all that
//     earlier ones had. Several parts of a segment go under numbers that no set still whole uses.
//     A number that an abandoned write or delete may yet reach is not used for two minutes.
//   - A delete takes version v of a key only after a set acknowledged by Primary has it: an own
//     key's, when the set's sequences are higher; another writer's, when v was joined before the
//     set was packed. If something newer than v stands there, Fallback and Disk compare and keep it;
//     in Primary there can be none: the writer is gone for longer than Lag, and the listing shows v.
//   - A reader who sees the delete must see the set: so Lag passes between. One who reads so slowly
//     that Lag passes within its reading reads again, for two minutes.
//
// A store may lose what it acknowledged: Redis comes back empty, is cleared, fails over. As long
// as it alone has some values, each round looks after them (one call) before it acknowledges
// anything, and writes what is missing again; elsewhere reconciles find that out.
//
// After a start, stores are read again until they have shown their newest; but not what writers
// stored who are heard, or were until a cut (Config.Heard). A value holds no more than its writer
// held, and one that lives holds as much still: so all of it comes to this node from the writer,
// and reading it every time somebody writes costs calls and tells nothing. Beyond a cut it would
// do harm: the writer's refill clock would come in its segments one after the other, ahead of
// what was taken by it. If the writer dies before it was told, it is gone, its values stand in the
// store, and they are adopted as everybody's who is gone.
//
// What dies with its last holder: content nobody acknowledged, and segments that nobody renews
// within their TTL.
package persist
