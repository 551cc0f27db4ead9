package node

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/openclaw/edge/crdt"
)

// statsCollector turns one Stats into the series of a scrape, so that they agree with each
// other, and so that a limit or a peer that is gone leaves no series behind.
type statsCollector struct{ stats func() Stats }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("openclaw_"+name, help, labels, nil)
}

var (
	descRefillRate = desc("token_bucket_refill_rate", "Tokens per second now being offered, measured on the refill clock.", "bucket")
	descConfigRate = desc("token_bucket_config_refill_rate", "Tokens per second configured.", "bucket")
	descTokens     = desc("token_bucket_current_tokens", "Whole tokens left in all live buckets of the limit together; its capacity when none is live.", "bucket")
	descRefilled   = desc("token_bucket_refilled_tokens_total", "Tokens offered by refill, counted before the cap.", "bucket")
	descCapacity   = desc("token_bucket_capacity_tokens", "Tokens that a full bucket holds.", "bucket")
	descDebt       = desc("token_bucket_debt_tokens", "Tokens admitted beyond the limit and not yet paid back by refill.", "bucket")
	descLive       = desc("token_bucket_live_keys", "Buckets that are not full.", "bucket")
	descDry        = desc("token_bucket_dry_keys", "Buckets without one whole token.", "bucket")
	descTakes      = desc("token_bucket_takes_total", "Takes, by result.", "bucket", "result")
	descEvicted    = desc("token_bucket_evicted_total", "Buckets evicted, by reason.", "bucket", "reason")
	descDrift      = desc("config_drift", "1 where this node's file disagrees with the definition in force.", "bucket")

	descMembers  = desc("cluster_members", "Members of the cluster, by state as this node sees it.", "state")
	descExpected = desc("cluster_expected_members", "Members of the roster: all that joined and neither left nor were forgotten.")
	descSpeed    = desc("cluster_refill_speed", "How fast the refill clock of a policy runs, 0 to 1.", "policy")

	descFrames   = desc("gossip_frames_received_total", "Frames received, by peer.", "peer")
	descDropped  = desc("gossip_frames_dropped_total", "Frames not used, by reason.", "reason")
	descBytes    = desc("gossip_bytes_total", "Bytes of frames, by direction.", "direction")
	descLag      = desc("replication_lag_seconds", "Age of the oldest change that the peer has not acknowledged.", "peer")
	descSkew     = desc("clock_skew_seconds", "The peer's clock less ours.", "peer")
	descRepaired = desc("replication_repairs_total", "Differences that anti-entropy had to mend.")
)

// Describe sends nothing: the series depend on the limits in force, which a reload changes.
func (statsCollector) Describe(chan<- *prometheus.Desc) {}

func (c statsCollector) Collect(out chan<- prometheus.Metric) {
	s := c.stats()
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels []string) {
		m, err := prometheus.NewConstMetric(d, kind, v, labels...)
		if err != nil { // a label that is no UTF-8: this series is lost, and no other
			m = prometheus.NewInvalidMetric(d, err)
		}
		out <- m
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) { send(d, prometheus.GaugeValue, v, labels) }
	counter := func(d *prometheus.Desc, v float64, labels ...string) { send(d, prometheus.CounterValue, v, labels) }
	for i := range s.Limits {
		l := &s.Limits[i]
		gauge(descRefillRate, l.OfferedRate, l.Name)
		gauge(descConfigRate, l.ConfiguredRate, l.Name)
		gauge(descTokens, float64(l.CurrentTokens), l.Name)
		counter(descRefilled, l.Refilled, l.Name)
		gauge(descCapacity, tokens(l.Capacity), l.Name)
		gauge(descDebt, tokens(l.Debt), l.Name)
		gauge(descLive, float64(l.Live), l.Name)
		gauge(descDry, float64(l.Dry), l.Name)
		counter(descTakes, float64(l.Allowed), l.Name, "allowed")
		counter(descTakes, float64(l.Rejected), l.Name, "rejected")
		counter(descTakes, float64(l.Backup), l.Name, "backup")
		counter(descTakes, float64(l.Overflow), l.Name, "overflow")
		counter(descEvicted, float64(l.EvictedFull), l.Name, "full")
		counter(descEvicted, float64(l.EvictedMemory), l.Name, "memory")
		gauge(descDrift, truthValue(l.Drift), l.Name)
	}
	gauge(descMembers, float64(s.AliveMembers), "alive")
	gauge(descMembers, float64(s.UnreachableMembers), "unreachable")
	gauge(descExpected, float64(s.ExpectedMembers))
	for p, speed := range s.Speed {
		gauge(descSpeed, speed, crdt.Policy(p).String())
	}
	for peer, n := range s.FramesReceived {
		counter(descFrames, float64(n), peer)
	}
	for reason, n := range s.FramesDropped {
		counter(descDropped, float64(n), reason)
	}
	counter(descBytes, float64(s.BytesSent), "sent")
	counter(descBytes, float64(s.BytesReceived), "received")
	for _, p := range s.Peers {
		gauge(descLag, p.Lag.Seconds(), p.Peer)
		gauge(descSkew, p.Skew.Seconds(), p.Peer)
	}
	counter(descRepaired, float64(s.Repairs))
	s.Store.collect(gauge, counter)
}

func tokens(m crdt.Milli) float64 { return float64(m) / float64(crdt.Token) }

func truthValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
