package main

import (
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("openclaw_exporter_"+name, help, labels, nil)
}

var (
	descNodes     = desc("nodes", "Nodes that are watched.")
	descGroups    = desc("split_groups", "Groups of nodes that reach each other, by what both ends say; 1 in a whole cluster, 0 if nobody answers.")
	descAnswering = desc("node_answering", "1 if the node answered when it was asked last.", "target", "node")
	descReady     = desc("node_ready", "1 if the node says that it is fit for traffic.", "target", "node")
	descGroup     = desc("node_group", "Number of the group that the node is in; 1 is the largest.", "target", "node")
	descDisagrees = desc("node_disagrees", "1 if the node says something else than most do, by what it is about.", "target", "node", "about")
	descTook      = desc("node_answer_seconds", "How long the node took to answer, or not to.", "target", "node")
	descPolls     = desc("polls_total", "Times that the node was asked, by what came of it.", "target", "result")
	descLast      = desc("last_poll_timestamp_seconds", "When all nodes were asked last, Unix.")
)

// Describe names everything: the labels' values change, the metrics do not.
func (w *watcher) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descNodes, descGroups, descAnswering, descReady, descGroup, descDisagrees, descTook, descPolls, descLast} {
		out <- d
	}
}

// Collect shows the newest round, all of it or nothing.
func (w *watcher) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(descNodes, float64(len(w.targets)))
	for _, t := range w.targets {
		for r := range results {
			out <- prometheus.MustNewConstMetric(descPolls, prometheus.CounterValue, float64(t.polls[r].Load()), t.label, r.String())
		}
	}
	r := w.newest.Load()
	if r == nil {
		return
	}
	gauge(descLast, float64(r.at.UnixMilli())/1000)
	gauge(descGroups, float64(len(r.found.groups)))
	for n, group := range r.found.groups {
		for _, i := range group {
			gauge(descGroup, float64(n+1), w.targets[i].label, r.names[i])
		}
	}
	for i := range r.answers {
		a, labels := &r.answers[i], []string{w.targets[i].label, r.names[i]}
		gauge(descAnswering, truth(a.err == nil), labels...)
		gauge(descTook, a.took.Seconds(), labels...)
		if a.err != nil {
			continue
		}
		gauge(descReady, truth(a.ready), labels...)
		for about := range subjects {
			gauge(descDisagrees, truth(r.found.disagree[about][i]), labels[0], labels[1], about.String())
		}
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (e *exporter) handler() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(e.watcher, collectors.NewBuildInfoCollector(),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: 8, EnableOpenMetrics: true,
		ErrorLog: slog.NewLogLogger(e.cfg.log.Handler(), slog.LevelWarn),
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("alive\n")) })
	return mux
}
