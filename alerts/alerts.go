// Package alerts watches clusters of OpenClaw Edge: rules for Prometheus and their tests, routing
// for Alertmanager, a runbook, a dashboard. The Go code is their tests, and lends them to the drill.
//
//	nodes :9100 ──┐           rules/          rules fire               alertmanager/
//	              ├─▶ Prometheus ──────────────────────▶ Alertmanager ─┬─▶ Slack, PagerDuty, e-mail
//	exporter :9101┘      │  ▲                                          ├─▶ POST /-/failover of a node
//	                     │  └ tests/: promtool, mutated                └─▶ dead man's switch
//	                     ▼
//	       grafana/, consoles/ (the same picture)       RUNBOOK.md: a section for each alert
//
// What a rule promises stands in its annotation "promised": the delay between the trouble and
// the alert, which is its window and its for together. Rules join on (job, instance), and take the
// node's name from openclaw_build_info: no job is hard-coded, and a job is one cluster.
package alerts

import "embed"

// Rules are the rule files, as Prometheus reads them.
//
//go:embed rules/*.yml
var Rules embed.FS

// Routing is the configuration of Alertmanager; its receivers are examples.
//
//go:embed alertmanager/alertmanager.yml
var Routing []byte

// Console is the picture of a cluster, as a console template of Prometheus.
//
//go:embed consoles/openclaw.html
var Console []byte
