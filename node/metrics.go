package node

import (
	"log"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/openclaw/edge/crdt"
)

// metrics is everything on /metrics. What the node's core counts comes from one Stats a
// scrape (metrics_stats.go); only what this package's HTTP face counts lives here.
type metrics struct {
	registry *prometheus.Registry
	http     *prometheus.CounterVec
	took     *latencies // of HTTP calls
	grpc     *latencies
	reloaded prometheus.Gauge
	errors   *log.Logger
}

// A scrape walks the whole table, so few run at once; who waits gets 503.
const (
	maxScrapes    = 4
	scrapeTimeout = 20 * time.Second
)

func newMetrics(n *Node) *metrics {
	m := &metrics{
		errors:   slog.NewLogLogger(n.log.Handler(), slog.LevelWarn),
		registry: prometheus.NewRegistry(),
		took:     newHTTPLatency(),
		grpc:     newGRPCLatency(),
		http: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "openclaw_http_requests_total",
			Help: "Requests answered, by status, route of the API and method.",
		}, []string{"status", "route", "method"}),
		reloaded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "openclaw_config_last_reload_successful",
			Help: "1 if the configuration file was good when last read, 0 if the limits in force are older than it.",
		}),
	}
	m.reloaded.Set(1)
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "openclaw_build_info",
		Help: "Always 1; the labels tell node, region and version.",
		ConstLabels: prometheus.Labels{
			"node": n.cfg.Node, "region": n.cfg.Region, "version": Version(),
		},
	})
	build.Set(1)
	m.registry.MustRegister(m.http, m.took, m.grpc, m.reloaded, build, n.stores.operations, n.stores.took, statsCollector{n.Stats}, ratingsCollector{&n.ratings}, reservationsCollector{&n.reservations},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// requests is the counter of one series; the caller keeps what it needs often.
func (m *metrics) requests(status, route, method string) prometheus.Counter {
	return m.http.WithLabelValues(status, route, method)
}

func statusLabel(status int) string { return strconv.Itoa(status) }

func (m *metrics) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes,
		Timeout:             scrapeTimeout,
		EnableOpenMetrics:   true,
		ErrorHandling:       promhttp.ContinueOnError, // one bad series must not blind every alert
		ErrorLog:            m.errors,
	}))
	return mux
}

// Version is the version that this binary was built from, as far as the build recorded it.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
}

// Stats is what the core of the node tells a scrape. Gauges are as of now, counters since
// the start.
type Stats struct {
	Limits []LimitStats

	AliveMembers, UnreachableMembers, ExpectedMembers int
	Speed                                             [crdt.Policies]float64 // of each refill clock, 0 to 1

	FramesReceived           map[string]uint64 // by peer: bounded by the roster
	FramesDropped            map[string]uint64 // by reason: a fixed set, each from 0
	BytesSent, BytesReceived uint64
	Peers                    []PeerStats
	Repairs                  uint64

	Store StoreStats
}

// LimitStats is one limit on this node.
type LimitStats struct {
	Name           string
	ConfiguredRate float64    // tokens per second
	OfferedRate    float64    // the same, as the refill clock really ran
	Refilled       float64    // tokens offered since the start, before the cap
	CurrentTokens  int64      // whole tokens in all live buckets; the capacity if there are none
	Capacity, Debt crdt.Milli // Debt: negative levels, summed, as a positive amount
	Live, Dry      int        // buckets not full; of those, without a whole token

	Allowed, Rejected, Backup, Overflow uint64 // takes by result
	EvictedFull, EvictedMemory          uint64
	Drift                               bool // this node's file disagrees with the definition in force
}

// PeerStats is one peer as gossip sees it.
type PeerStats struct {
	Peer string        // node name
	Lag  time.Duration // age of the oldest change it has not acknowledged; 0: none
	Skew time.Duration // its clock less ours
}
