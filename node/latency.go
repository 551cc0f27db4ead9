package node

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
)

// How long calls take, by route and outcome, from the request's header read to the answer
// handed to the network. Both labels are of small fixed sets. A series begins with its
// first call: most routes are seldom called, and a histogram is a dozen series.

// latencyBounds fit what is measured: a take is some ten microseconds, a snapshot seconds.
var latencyBounds = []float64{10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 10e-3, 50e-3, 0.25, 1, 5}

func newHTTPLatency() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "openclaw_http_request_duration_seconds",
		Help:    "Time from a request's header to its answer, by route of the API and class of the status.",
		Buckets: latencyBounds,
	}, []string{"route", "status"})
}

// classes are a route's histograms by class of the status, found once: the look-up by labels
// costs more than what it counts.
type classes [6]atomic.Pointer[prometheus.Observer]

var classNames = [6]string{"other", "1xx", "2xx", "3xx", "4xx", "5xx"}

func (c *classes) observe(vec *prometheus.HistogramVec, route string, status int, took time.Duration) {
	class := status / 100
	if class < 1 || class > 5 {
		class = 0
	}
	h := c[class].Load()
	if h == nil {
		made := vec.WithLabelValues(route, classNames[class])
		h = &made
		c[class].Store(h)
	}
	(*h).Observe(took.Seconds())
}

// grpcLatency is the histograms of gRPC.
type grpcLatency struct {
	vec  *prometheus.HistogramVec
	good map[string]prometheus.Observer // of the methods that are called often, answered OK
}

// newGRPCLatency makes the histograms; often are the methods that are called often.
func newGRPCLatency(often ...string) *grpcLatency {
	l := &grpcLatency{good: map[string]prometheus.Observer{}, vec: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "openclaw_grpc_request_duration_seconds",
		Help:    "Time that a call took to be answered, by method and status code.",
		Buckets: latencyBounds,
	}, []string{"route", "status"})}
	for _, method := range often {
		l.good[method] = l.vec.WithLabelValues(method, codes.OK.String())
	}
	return l
}

func (l *grpcLatency) observe(method string, code codes.Code, took time.Duration) {
	if h := l.good[method]; h != nil && code == codes.OK {
		h.Observe(took.Seconds())
		return
	}
	l.vec.WithLabelValues(method, code.String()).Observe(took.Seconds())
}
