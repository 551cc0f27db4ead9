package alerts

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Twenty times as fast every span of time is a twentieth, of thresholds too, and nothing else has changed.
func TestScaledRulesGoFasterAndAreTheSame(t *testing.T) {
	same, err := Scaled(1)
	if err != nil {
		t.Fatal(err)
	}
	fast, err := Scaled(20)
	if err != nil {
		t.Fatal(err)
	}
	if len(fast) != len(glob(t, "rules/*.yml")) {
		t.Errorf("%d files", len(fast))
	}
	span := regexp.MustCompile(`\d+ms\b`)
	dir, spans := t.TempDir(), 0
	for name, text := range fast {
		write(t, filepath.Join(dir, name), text)
		slow := span.FindAllString(same[name], -1)
		for i, s := range span.FindAllString(text, -1) {
			if got, want := duration(t, s), duration(t, slow[i])/20; got != want && want >= time.Millisecond {
				t.Errorf("%s: %s of %s", name, s, slow[i])
			}
			spans++
		}
		shape := func(text string) string { return span.ReplaceAllString(text, "SPAN") }
		if name != "cluster.yml" && name != "exporter.yml" && shape(text) != shape(same[name]) {
			t.Errorf("%s: something else has changed", name)
		}
	}
	if spans < 120 {
		t.Errorf("only %d spans", spans)
	}
	for name, want := range map[string]string{
		"cluster.yml":   "min_over_time(openclaw_replication_lag_seconds[6000ms]) > 0.25)",
		"exporter.yml":  "max_over_time(openclaw_exporter_last_poll_timestamp_seconds[3000ms]) < 3\n",
		"recording.yml": "last_over_time(openclaw:node:seen_seconds[4320000ms])",
		"buckets.yml":   "for: 3000ms\n        labels:\n          severity: critical\n          failover: backup",
	} {
		if !strings.Contains(fast[name], want) {
			t.Errorf("%s: no %s", name, want)
		}
	}
	promtool := tool(t, "promtool", "prometheus")
	if out, err := exec.CommandContext(t.Context(), promtool, append([]string{"check", "rules"}, glob(t, filepath.Join(dir, "*.yml"))...)...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
