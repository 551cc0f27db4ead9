package node

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// Each call is in the bucket of the first bound that it did not exceed, and in all above.
func TestAHistogramCountsEveryCallWhereItBelongs(t *testing.T) {
	l := newLatencies("took", "How long.")
	for _, took := range []time.Duration{0, 10 * time.Microsecond, 10*time.Microsecond + 1, time.Millisecond, 5 * time.Second, 6 * time.Second} {
		l.of("a", "2xx").observe(took)
	}
	l.of("b", "2xx").observe(time.Microsecond)
	l.of("a", "2xx").observe(60 * time.Millisecond)
	want := "# HELP took How long.\n# TYPE took histogram\n"
	for _, series := range []struct{ route, counts, sum, count string }{
		{"a", "2 3 3 3 3 3 4 4 4 4 5 5 6", "11.061020001", "7"},
		{"b", "1 1 1 1 1 1 1 1 1 1 1 1 1", "1e-06", "1"},
	} {
		bounds := strings.Fields("1e-05 2.5e-05 5e-05 0.0001 0.00025 0.0005 0.001 0.0025 0.01 0.05 0.25 1 5")
		labels := `{route="` + series.route + `",status="2xx"`
		for i, n := range strings.Fields(series.counts) {
			want += "took_bucket" + labels + `,le="` + bounds[i] + `"} ` + n + "\n"
		}
		want += "took_bucket" + labels + `,le="+Inf"} ` + series.count + "\ntook_sum" + labels + "} " + series.sum + "\ntook_count" + labels + "} " + series.count + "\n"
	}
	if err := testutil.CollectAndCompare(l, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

func TestLatenciesAreCountedByBoundedLabels(t *testing.T) {
	n := take100(t)
	n.call(t, "POST", "/v1/take/per-user/alice?cost=100", "")
	n.call(t, "POST", "/v1/take/per-user/alice", "") // 429
	n.call(t, "POST", "/v1/take/per-user/bob", "")
	n.call(t, "BREW", "/some/where", "")
	body := call(t, "GET", "http://"+n.metrics+"/metrics", "").body
	for _, want := range []string{
		`_count{route="/v1/take/{limit}/{key}",status="2xx"} 2`,
		`_count{route="/v1/take/{limit}/{key}",status="4xx"} 1`,
		`_count{route="other",status="4xx"} 1`,
		`_bucket{route="/v1/take/{limit}/{key}",status="2xx",le="+Inf"} 2`,
		`_bucket{route="/v1/take/{limit}/{key}",status="2xx",le="1e-05"} `,
	} {
		if !strings.Contains(body, "\nopenclaw_http_request_duration_seconds"+want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(body, "/some/where") || strings.Contains(body, "BREW") {
		t.Error("a client's invention is a label")
	}
}
