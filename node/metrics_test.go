package node

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestMetricNamesPassTheLinter(t *testing.T) {
	s := newTestServer(t, testConfig(t))
	problems, err := testutil.GatherAndLint(s.metrics.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestAScrapePassesPromtool(t *testing.T) {
	n := startNode(t, testConfig(t))
	a := call(t, "GET", "http://"+n.metrics+"/metrics", "")
	if a.StatusCode != 200 {
		t.Fatal(a.Status)
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Log("promtool is not installed; the linter above has looked at the names")
		return
	}
	check := exec.Command(promtool, "check", "metrics")
	check.Stdin = strings.NewReader(a.body)
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
}

// The first rejection would be invisible to rate() if its series began with it.
func TestSeriesStartAtZero(t *testing.T) {
	n := startNode(t, testConfig(t))
	a := call(t, "GET", "http://"+n.metrics+"/metrics", "")
	for _, want := range []string{
		`openclaw_http_requests_total{method="POST",route="/v1/take/{limit}/{key}",status="200"} 0`,
		`openclaw_http_requests_total{method="POST",route="/v1/take/{limit}/{key}",status="429"} 0`,
		`openclaw_http_requests_total{method="GET",route="/readyz",status="200"} 0`,
		`openclaw_token_bucket_takes_total{bucket="per-user",result="rejected"} 0`,
		`openclaw_token_bucket_takes_total{bucket="per-user",result="backup"} 0`,
		`openclaw_token_bucket_takes_total{bucket="per-user",result="overflow"} 0`,
		`openclaw_token_bucket_evicted_total{bucket="per-ip",reason="full"} 0`,
		`openclaw_token_bucket_evicted_total{bucket="per-ip",reason="memory"} 0`,
		`openclaw_token_bucket_debt_tokens{bucket="per-user"} 0`,
		`openclaw_token_bucket_config_refill_rate{bucket="per-user"} 10`,
		`openclaw_token_bucket_capacity_tokens{bucket="per-user"} 100`,
		`openclaw_token_bucket_current_tokens{bucket="per-user"} 100`,
		`openclaw_cluster_members{state="unreachable"} 0`,
		`openclaw_config_last_reload_successful 1`,
		`openclaw_config_drift{bucket="per-user"} 0`,
		`openclaw_replication_repairs_total 0`,
		`openclaw_reservations_held{state="open"} 0`,
		`openclaw_reservations_total{result="full"} 0`,
		`openclaw_reservations_refused_total{reason="clock"} 0`,
		`openclaw_http_requests_total{method="POST",route="/v1/settle/{id}",status="200"} 0`,
	} {
		if !strings.Contains(a.body, "\n"+want+"\n") {
			t.Errorf("no %s", want)
		}
	}
	if !regexp.MustCompile(`\nopenclaw_build_info{node="edge-1",region="default",version="[^"]+"} 1\n`).MatchString(a.body) {
		t.Error("no openclaw_build_info")
	}
}

// The alerting rules divide one by the other, and a join on differing labels is empty.
func TestRefillAndConfigGaugesCarryTheSameLabels(t *testing.T) {
	n := startNode(t, testConfig(t))
	body := call(t, "GET", "http://"+n.metrics+"/metrics", "").body
	labels := func(metric string) (all []string) {
		for _, m := range regexp.MustCompile(`(?m)^`+metric+`({.*}) `).FindAllStringSubmatch(body, -1) {
			all = append(all, m[1])
		}
		slices.Sort(all)
		return all
	}
	rate, config := labels("openclaw_token_bucket_refill_rate"), labels("openclaw_token_bucket_config_refill_rate")
	if len(rate) != 3 || !slices.Equal(rate, config) {
		t.Errorf("%v, %v", rate, config)
	}
}

func TestRequestsAreCountedByBoundedRoutes(t *testing.T) {
	n := take100(t)
	n.call(t, "POST", "/v1/take/per-user/alice?cost=100", "")
	n.call(t, "POST", "/v1/take/per-user/alice", "") // 429
	n.call(t, "POST", "/v1/take/per-user/bob", "")
	n.call(t, "POST", "/v1/take/nope/bob", "")
	n.call(t, "POST", "/v1/take/per-user/bob?cost=0", "")
	n.call(t, "GET", "/some/where", "")
	n.call(t, "BREW", "/else/where", "")
	n.call(t, "GET", "/v1/take/per-user/bob", "")
	body := call(t, "GET", "http://"+n.metrics+"/metrics", "").body
	for _, want := range []string{
		`{method="POST",route="/v1/take/{limit}/{key}",status="200"} 2`,
		`{method="POST",route="/v1/take/{limit}/{key}",status="429"} 1`,
		`{method="POST",route="/v1/take/{limit}/{key}",status="404"} 1`,
		`{method="POST",route="/v1/take/{limit}/{key}",status="400"} 1`,
		`{method="GET",route="/v1/take/{limit}/{key}",status="405"} 1`,
		`{method="GET",route="other",status="404"} 1`,
		`{method="other",route="other",status="404"} 1`,
	} {
		if !strings.Contains(body, "openclaw_http_requests_total"+want+"\n") {
			t.Errorf("no %s", want)
		}
	}
}
