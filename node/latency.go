package node

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// How long calls take, by route and outcome, from the request's header read to the answer
// handed to the network. Both labels are of small fixed sets. A series begins with its
// first call: most routes are seldom called, and a histogram is a dozen series.

// latencyBounds fit what is measured: a take is some ten microseconds, a snapshot seconds.
var latencyBounds = [...]time.Duration{
	10 * time.Microsecond, 25 * time.Microsecond, 50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 10 * time.Millisecond, 50 * time.Millisecond, 250 * time.Millisecond, time.Second, 5 * time.Second,
}

// elapsed is a reading of the monotonic clock alone, good for differences. time.Now reads the wall
// clock besides, and costs twice as much.
func elapsed() time.Duration { return time.Since(clockZero) }

var clockZero = time.Now()

// histogram counts calls by how long they took. Every call is counted, and by the precise clock.
// Why not prometheus.Histogram: its sum is a float that is compared and swapped until it fits, its
// count a third word; together four times as much as these two additions. Why not one call in a
// hundred, or a clock that the refill daemon moves: the count would be no count, and 5 ms is no
// measure for ten microseconds.
type histogram struct {
	counts [len(latencyBounds) + 1]atomic.Uint64 // not cumulative; the last has no bound
	sum    atomic.Int64                          // nanoseconds
}

func (h *histogram) observe(took time.Duration) {
	i := 0
	for i < len(latencyBounds) && took > latencyBounds[i] { // mostly the first or second
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(took))
}

// latencies are the histograms of one metric.
type latencies struct {
	desc *prometheus.Desc
	mu   sync.Mutex // guards all, not what is in it
	all  map[callLabels]*histogram
}

// callLabels are a call's: both of small fixed sets.
type callLabels struct{ route, status string }

func newHTTPLatency() *latencies {
	return newLatencies("openclaw_http_request_duration_seconds",
		"Time from a request's header to its answer, by route of the API and class of the status.")
}

func newGRPCLatency() *latencies {
	return newLatencies("openclaw_grpc_request_duration_seconds", "Time that a call took to be answered, by method and status code.")
}

func newLatencies(name, help string) *latencies {
	return &latencies{desc: prometheus.NewDesc(name, help, []string{"route", "status"}, nil), all: map[callLabels]*histogram{}}
}

func (l *latencies) of(route, status string) *histogram {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := callLabels{route, status}
	if l.all[at] == nil {
		l.all[at] = &histogram{}
	}
	return l.all[at]
}

func (l *latencies) Describe(ch chan<- *prometheus.Desc) { ch <- l.desc }

func (l *latencies) Collect(ch chan<- prometheus.Metric) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for at, h := range l.all {
		below, count := make(map[float64]uint64, len(latencyBounds)), uint64(0)
		for i, bound := range latencyBounds {
			count += h.counts[i].Load()
			below[bound.Seconds()] = count
		}
		count += h.counts[len(latencyBounds)].Load()
		sum := time.Duration(h.sum.Load()).Seconds()
		ch <- prometheus.MustNewConstHistogram(l.desc, count, sum, below, at.route, at.status)
	}
}

// classes are a route's histograms by class of the status, found once: the look-up by labels
// costs more than what it counts.
type classes [6]atomic.Pointer[histogram]

var classNames = [6]string{"other", "1xx", "2xx", "3xx", "4xx", "5xx"}

func (c *classes) observe(l *latencies, route string, status int, took time.Duration) {
	class := status / 100
	if class < 1 || class > 5 {
		class = 0
	}
	h := c[class].Load()
	if h == nil {
		h = l.of(route, classNames[class])
		c[class].Store(h)
	}
	h.observe(took)
}
