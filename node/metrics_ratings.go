package node

import "github.com/prometheus/client_golang/prometheus"

var (
	descRatingSubjects = desc("ratings_subjects", "Subjects that somebody has rated; see the bound under ratings in the README.")
	descRatingVotes    = desc("ratings_votes", "Named votes held, withdrawn ones included.")
	descRatingRequests = desc("ratings_requests_total", "Requests to rate, by result.", "result")
	descRatingRefused  = desc("ratings_refused_votes_total", "Votes of peers and stores that were not taken over, by reason.", "reason")
)

// ratingsCollector tells what the ratings' tables count.
type ratingsCollector struct{ r *ratings }

// Describe sends nothing, as statsCollector's.
func (ratingsCollector) Describe(chan<- *prometheus.Desc) {}

func (c ratingsCollector) Collect(out chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	send(descRatingSubjects, prometheus.GaugeValue, float64(c.r.subjects.Load()))
	send(descRatingVotes, prometheus.GaugeValue, float64(c.r.votes.Load()))
	n := &c.r.counts
	send(descRatingRequests, prometheus.CounterValue, float64(n.counted.Load()), "counted")
	send(descRatingRequests, prometheus.CounterValue, float64(n.unchanged.Load()), "unchanged")
	send(descRatingRequests, prometheus.CounterValue, float64(n.limited.Load()), "limited")
	send(descRatingRequests, prometheus.CounterValue, float64(n.full.Load()), "full")
	send(descRatingRefused, prometheus.CounterValue, float64(n.early.Load()), "clock")
	send(descRatingRefused, prometheus.CounterValue, float64(n.unkept.Load()), "memory")
}
