// Package local is a testnet in this process: a world.World of real nodes on a network in memory,
// in real time, or in virtual time when it is made inside a synctest bubble.
//
//	Run: world.Flow ─▶ sim.Cluster ── Take ──▶ node.Node ┐ HTTP and metrics on loopback
//	                       │                    …        ├── memnet (delays, losses, cuts)
//	                       ▼                   node.Node ┘
//	                 judge.Observed               │ relay: a node's line to each store,
//	                                              ▼        torn when it crashes
//	                               kv.Server, redis-server (or one embedded)
//
// In virtual time nothing listens, and there are no shared stores: a node keeps its snapshots on
// its own disk.
//
// What a crash is here: nobody hears from the node any more, its lines to the stores are torn, and
// the next start finds a copy of its disk. Its goroutines wind up within seconds. Real processes,
// killed, are package process's.
package local
