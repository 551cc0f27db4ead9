package main

// panel is one picture: what it shows, and how large.
type panel struct {
	kind, title   string // kind: timeseries, stat or heatmap
	says          string // what to read from it
	unit          string // Grafana's name
	width, height int
	from0         bool     // the axis begins at 0
	bad           *float64 // red from here on
	badBelow      bool     // red below it instead
	queries       []query
}

type query struct {
	expr, legend string
	wanted       bool // drawn as a dashed line: what it should be
}

// onNode keeps the chosen nodes, and names them.
func onNode(expr string) string {
	return "(" + expr + `) * on (job, instance) group_left (node, region) openclaw:node:info{job="$job",region=~"$region",node=~"$node"}`
}

func from(v float64) *float64 { return &v }

var panels = []panel{
	{kind: "timeseries", title: "Refill offered against configured: $bucket", unit: "short", width: 24, height: 10, from0: true,
		says: "Tokens a second that each node offers the bucket, and what is configured. A node that falls away from the dashed line is cut off, or its refill daemon stands still.",
		queries: []query{
			{expr: onNode(`openclaw_token_bucket_refill_rate{job="$job",bucket="$bucket"}`), legend: "{{node}}"},
			{expr: `max(openclaw_token_bucket_config_refill_rate{job="$job",bucket="$bucket"})`, legend: "configured", wanted: true},
		}},

	{kind: "stat", title: "Nodes up", unit: "short", width: 4, height: 4, bad: from(1), badBelow: true,
		says:    "Nodes that answered a scrape within the last minute.",
		queries: []query{{expr: `openclaw:job:nodes_up{job="$job"}`}}},
	{kind: "stat", title: "Members missing", unit: "short", width: 4, height: 4, bad: from(1),
		says:    "The most members that any node does not reach.",
		queries: []query{{expr: `max(openclaw_cluster_members{job="$job",state="unreachable"})`}}},
	{kind: "stat", title: "Groups", unit: "short", width: 4, height: 4, bad: from(2),
		says:    "Into how many groups the cluster is split, as the exporter sees it from outside.",
		queries: []query{{expr: `max(openclaw_exporter_split_groups)`}}},
	{kind: "stat", title: "Refused", unit: "percentunit", width: 4, height: 4, bad: from(0.05),
		says:    "Share of all takes that were refused in the last five minutes.",
		queries: []query{{expr: `sum(rate(openclaw_token_bucket_takes_total{job="$job",result="rejected"}[5m])) / sum(rate(openclaw_token_bucket_takes_total{job="$job"}[5m]))`}}},
	{kind: "stat", title: "Oldest snapshot", unit: "s", width: 4, height: 4, bad: from(60),
		says:    "What a crash of the whole cluster would lose.",
		queries: []query{{expr: `time() - min(openclaw_snapshot_last_success_timestamp_seconds{job="$job"} > 0)`}}},
	{kind: "stat", title: "Nodes on Redis", unit: "short", width: 4, height: 4, bad: from(1),
		says:    "Nodes whose snapshots go to Redis, as KV does not take them.",
		queries: []query{{expr: `sum(openclaw_store_fallback_active{job="$job"})`}}},

	{kind: "timeseries", title: "Refill clocks", unit: "percentunit", width: 12, height: 8, from0: true,
		says:    "How fast the refill clock of each policy runs on each node. quorum at 0 and share above 0: a minority. All at 0: the daemon.",
		queries: []query{{expr: onNode(`openclaw_cluster_refill_speed{job="$job"}`), legend: "{{node}} {{policy}}"}}},
	{kind: "timeseries", title: "Members reached", unit: "short", width: 12, height: 8, from0: true,
		says: "How many members each node reaches, itself included, and how many its roster has.",
		queries: []query{
			{expr: onNode(`openclaw_cluster_members{job="$job",state="alive"}`), legend: "{{node}}"},
			{expr: `max(openclaw_cluster_expected_members{job="$job"})`, legend: "expected", wanted: true},
		}},

	{kind: "timeseries", title: "Takes: $bucket", unit: "reqps", width: 12, height: 8, from0: true,
		says:    "Takes a second of all chosen nodes, by result.",
		queries: []query{{expr: `sum by (result) (` + onNode(`rate(openclaw_token_bucket_takes_total{job="$job",bucket="$bucket"}[$__rate_interval])`) + `)`, legend: "{{result}}"}}},
	{kind: "timeseries", title: "Requests refused", unit: "percentunit", width: 12, height: 8, from0: true,
		says: "Share of each node's takes over HTTP that were answered 429, and the share from which an alert fires.",
		queries: []query{
			{expr: onNode(`sum by (job, instance) (rate(openclaw_http_requests_total{job="$job",status="429",route=~"/v1/(take|check).*"}[$__rate_interval])) / sum by (job, instance) (rate(openclaw_http_requests_total{job="$job",route=~"/v1/(take|check).*"}[$__rate_interval]))`), legend: "{{node}}"},
			{expr: `vector(0.05)`, legend: "alert", wanted: true},
		}},

	{kind: "timeseries", title: "Keys: $bucket", unit: "short", width: 8, height: 8, from0: true,
		says: "Buckets that are not full, and those of them without a whole token, on each node.",
		queries: []query{
			{expr: onNode(`openclaw_token_bucket_live_keys{job="$job",bucket="$bucket"}`), legend: "{{node}} live"},
			{expr: onNode(`openclaw_token_bucket_dry_keys{job="$job",bucket="$bucket"}`), legend: "{{node}} dry"},
		}},
	{kind: "timeseries", title: "Tokens left: $bucket", unit: "short", width: 8, height: 8, from0: true,
		says:    "Whole tokens in all live buckets of the limit together; its capacity when none is live.",
		queries: []query{{expr: onNode(`openclaw_token_bucket_current_tokens{job="$job",bucket="$bucket"}`), legend: "{{node}}"}}},
	{kind: "timeseries", title: "Debt: $bucket", unit: "short", width: 8, height: 8, from0: true,
		says:    "Tokens admitted beyond the limit and not yet paid back by refill.",
		queries: []query{{expr: onNode(`openclaw_token_bucket_debt_tokens{job="$job",bucket="$bucket"}`), legend: "{{node}}"}}},

	{kind: "timeseries", title: "Replication lag", unit: "s", width: 12, height: 8, from0: true,
		says:    "Age of the oldest change that a peer has not acknowledged.",
		queries: []query{{expr: onNode(`openclaw_replication_lag_seconds{job="$job"}`), legend: "{{node}} to {{peer}}"}}},
	{kind: "timeseries", title: "Gossip", unit: "Bps", width: 6, height: 8, from0: true,
		says:    "Bytes of frames a second, by node and direction.",
		queries: []query{{expr: onNode(`rate(openclaw_gossip_bytes_total{job="$job"}[$__rate_interval])`), legend: "{{node}} {{direction}}"}}},
	{kind: "timeseries", title: "Frames dropped", unit: "short", width: 6, height: 8, from0: true,
		says:    "Frames a second that were not used, by node and reason. Should be nothing but an occasional restart.",
		queries: []query{{expr: onNode(`rate(openclaw_gossip_frames_dropped_total{job="$job"}[$__rate_interval]) > 0`), legend: "{{node}} {{reason}}"}}},

	{kind: "heatmap", title: "Store calls", unit: "s", width: 12, height: 8,
		says:    "How long calls of KV and Redis take, by all chosen nodes.",
		queries: []query{{expr: `sum by (le) (` + onNode(`rate(openclaw_store_operation_duration_seconds_bucket{job="$job",store!="disk"}[$__rate_interval])`) + `)`, legend: "{{le}}"}}},
	{kind: "timeseries", title: "Store errors", unit: "short", width: 12, height: 8, from0: true,
		says:    "Calls a second that failed, by store and how.",
		queries: []query{{expr: `sum by (store, result) (` + onNode(`rate(openclaw_store_operations_total{job="$job",result!="ok"}[$__rate_interval])`) + `) > 0`, legend: "{{store}} {{result}}"}}},

	{kind: "timeseries", title: "CPU", unit: "short", width: 12, height: 7, from0: true,
		says:    "Cores that each node uses.",
		queries: []query{{expr: onNode(`rate(process_cpu_seconds_total{job="$job"}[$__rate_interval])`), legend: "{{node}}"}}},
	{kind: "timeseries", title: "Memory", unit: "bytes", width: 12, height: 7, from0: true,
		says:    "Resident memory of each node.",
		queries: []query{{expr: onNode(`process_resident_memory_bytes{job="$job"}`), legend: "{{node}}"}}},
}
