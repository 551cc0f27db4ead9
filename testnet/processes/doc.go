// Package processes is a testnet of real openclaw-edge processes: each in a network namespace of
// its own, with real sockets, files and signals. It needs Linux and root (package netns says what
// else), and real time. What it can do beyond package local is to be real; it can do less.
//
//	World ── takes over HTTP, cluster, metrics ───────────▶ node i   10.77.x.i
//	  │                                                        ▲
//	  │      node j ── nft: cut? ──▶ relay of i ── delay, loss ┘     a relay on the host in front
//	  │                                                              of every node
//	  ├─ netns ──▶ namespaces, a bridge, nft, one directory for all files
//	  └─ stores ──▶ KV stand-in in this process, redis-server where it is installed
//
// Cuts are packets that nft drops on the bridge, one direction at a time, of open connections
// too. Delay, jitter, loss, repetition and reordering are made by relays in this process (package relay),
// since not every kernel has netem: every node advertises its relay's port, and the relay knows
// by the sender's address whose link a packet is on. Loss, repetition and reordering meet
// packets only, as TCP would repair them; the delay of a connection is that of its pieces, not of
// its handshake.
//
// What it cannot do, and answers world.ErrCannot to: skew one node's wall clock (processes of one
// kernel share it); faults of Redis other than down, hang and empty, and of KV other than down,
// 429, 500, slow, hang and empty; more than some hundred takes a second.
//
// Nothing is left behind: Close ends the processes and removes the namespaces, links and files.
// When this process is killed the kernel ends the nodes with it, and the next New, of any
// process, removes the rest.
//
// Why not in package process: that one starts single nodes for tests, which need neither links
// nor stores nor a judge.
package processes
