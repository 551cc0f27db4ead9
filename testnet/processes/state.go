package processes

import (
	"encoding/json"
	"strings"
	"sync"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/openclaw/edge/testnet/world"
)

// State is a node as /v1/cluster, /readyz and /metrics show it now.
func (w *World) State(name string) world.State {
	s := world.State{Limits: make(map[string]world.Limit), Takes: make(map[string]world.Counts)}
	m, err := w.machine(name)
	if err != nil || !m.proc.Running() {
		s.Reason = "does not run"
		return s
	}
	s.Up = true
	var asking sync.WaitGroup
	asking.Go(func() { s.Cluster, _ = m.cluster() })
	asking.Go(func() { s.Ready, s.Reason, _ = m.ready() })
	asking.Go(func() {
		if text, err := m.proc.Exposition(); err == nil {
			readMetrics(&s, text)
		}
	})
	asking.Wait()
	return s
}

// detail is the reason that an answer other than 200 gives.
func detail(status int, body []byte) string {
	var problem struct{ Detail string }
	if status == 200 || json.Unmarshal(body, &problem) != nil {
		return ""
	}
	return problem.Detail
}

// readMetrics reads the gauges of the limits, and the takes. An exposition that cannot be read
// leaves s as it is.
func readMetrics(s *world.State, text string) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		return
	}
	for name, set := range map[string]func(*world.Limit, float64){
		"openclaw_token_bucket_config_refill_rate": func(l *world.Limit, v float64) { l.Configured = v },
		"openclaw_token_bucket_refill_rate":        func(l *world.Limit, v float64) { l.Refill = v },
		"openclaw_token_bucket_current_tokens":     func(l *world.Limit, v float64) { l.Tokens = v },
	} {
		for _, series := range families[name].GetMetric() {
			for _, label := range series.GetLabel() {
				l := s.Limits[label.GetValue()] // the bucket is the only label
				set(&l, series.GetGauge().GetValue())
				s.Limits[label.GetValue()] = l
			}
		}
	}
	for _, series := range families["openclaw_token_bucket_takes_total"].GetMetric() {
		labels := make(map[string]string)
		for _, label := range series.GetLabel() {
			labels[label.GetName()] = label.GetValue()
		}
		c := s.Takes[labels["bucket"]]
		n := uint64(series.GetCounter().GetValue())
		switch labels["result"] {
		case "allowed", "overflow": // from the bucket that keys share for which there is no memory
			c.Allowed += n
		case "rejected":
			c.Rejected = n
		case "backup":
			c.Backup = n
		}
		s.Takes[labels["bucket"]] = c
	}
}
