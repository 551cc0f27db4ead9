// Package drill breaks a cluster on purpose, one thing at a time, and looks whether the shipped
// alerts say so: for the right node, as soon as they promise, and no longer than it lasts.
//
//	          ┌──── breaks, heals ────▶ local.Testnet: three nodes in three regions, load over HTTP
//	          │                            │ /metrics
//	Run ──────┤                            ▼
//	 faults   ├── which alerts fire? ─▶ Prometheus with the rules of package alerts, scaled
//	          │                            │
//	          └── which are silenced? ▶ Alertmanager with the inhibitions of package alerts
//
// By a factor everything goes faster: windows, for and thresholds of age of the rules, scrapes and
// evaluations, snapshots and reconciles. What is a matter of machines and networks does not scale at
// will: the nodes' lease stops at a second and a half, and a store that fails is left alone for five seconds and more. So a
// delay is measured from when the trouble shows on the node itself, which the table has as well.
//
// An alert is as promised if it fires within a fifth of its promise, and two scrapes. One that no
// fault is expected to raise on this node is a failure, however short.
package drill
