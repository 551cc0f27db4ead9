package node

import (
	"strings"
	"testing"
)

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
