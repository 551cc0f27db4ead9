package node

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/openclaw/edge/persist"
)

// storeMetrics counts calls of stores.
type storeMetrics struct {
	operations *prometheus.CounterVec
	took       *prometheus.HistogramVec
}

var (
	storeOps     = []string{"put", "get", "list", "delete"}
	storeResults = []string{"ok", "partial", persist.Failed.String(), persist.Unknown.String(), persist.Throttled.String(),
		persist.Denied.String(), persist.Misconfigured.String(), persist.Rejected.String()}
)

func newStoreMetrics() storeMetrics {
	return storeMetrics{
		operations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "openclaw_store_operations_total",
			Help: "Calls of a store, by store, operation and result.",
		}, []string{"store", "op", "result"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "openclaw_store_operation_duration_seconds",
			Help:    "How long calls of a store took, by store and operation.",
			Buckets: []float64{.001, .005, .02, .1, .25, .5, 1, 2.5, 5, 10, 30, 120},
		}, []string{"store", "op"}),
	}
}

// expect makes the series of the stores begin at 0.
func (m *storeMetrics) expect(s stores) {
	for _, store := range []persist.Store{s.primary, s.fallback, s.disk} {
		if store == nil {
			continue
		}
		for _, op := range storeOps {
			m.took.WithLabelValues(store.Name(), op)
			for _, result := range storeResults {
				m.operations.WithLabelValues(store.Name(), op, result)
			}
		}
	}
}

func (m *storeMetrics) observe(store, op, result string, took time.Duration) {
	m.operations.WithLabelValues(store, op, result).Inc()
	m.took.WithLabelValues(store, op).Observe(took.Seconds())
}

// StoreStats is the stores' part of Stats.
type StoreStats struct {
	persist.Stats
	Fallback                      string        // its name: what waits there for the primary is pending
	SnapshotEvery, ReconcileEvery time.Duration // 0: nothing is persisted
}

func (n *Node) storeStats() StoreStats {
	k := n.keeper.Load()
	if k == nil {
		return StoreStats{Fallback: defaultFallback}
	}
	s := StoreStats{Stats: k.hybrid.Stats(), Fallback: defaultFallback,
		SnapshotEvery: n.cfg.Persist.SnapshotEvery, ReconcileEvery: n.cfg.Persist.ReconcileEvery}
	if k.stores.fallback != nil {
		s.Fallback = k.stores.fallback.Name()
	}
	return s
}

const defaultFallback = "redis" // the label of what never waits where there is none

var (
	descFallback      = desc("store_fallback_active", "1 while snapshots go to the fallback store.")
	descPending       = desc("store_pending_segments", "Segments that a store holds for the one that failed.", "store")
	descSnapshot      = desc("snapshot_last_success_timestamp_seconds", "What changed before is stored: when the newest complete snapshot began, Unix; 0 before the first.")
	descSnapshotEvery = desc("snapshot_interval_seconds", "Time between snapshot rounds; 0 where nothing is persisted.")
	descReconcile     = desc("reconcile_last_success_timestamp_seconds", "When the stores were reconciled last, Unix; 0 before the first time.")
	descReconcileRate = desc("reconcile_interval_seconds", "Time between reconciles; 0 where nothing is persisted.")
	descReconciles    = desc("reconcile_runs_total", "Reconciles of the stores, by result.", "result")
	descSetAside      = desc("store_set_aside_total", "Stored values that could not be used, by reason.", "reason")
)

var asideReasons = []string{"damaged", "newer", "cluster", "key", "refused"}

func (s *StoreStats) collect(gauge, counter func(d *prometheus.Desc, v float64, labels ...string)) {
	gauge(descFallback, truthValue(s.FallbackActive))
	gauge(descPending, float64(s.Pending), s.Fallback)
	gauge(descSnapshot, timestamp(s.LastSnapshot))
	gauge(descSnapshotEvery, s.SnapshotEvery.Seconds())
	gauge(descReconcile, timestamp(s.LastReconcile))
	gauge(descReconcileRate, s.ReconcileEvery.Seconds())
	for _, result := range []string{persist.ReconcileOK, persist.ReconcileFailed} {
		counter(descReconciles, float64(s.Reconciles[result]), result)
	}
	for _, reason := range asideReasons {
		counter(descSetAside, float64(s.SetAside[reason]), reason)
	}
}

// timestamp is Unix seconds, 0 for never.
func timestamp(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
