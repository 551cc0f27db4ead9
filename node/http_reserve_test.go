package node

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestReserveAndSettleAnswerAsDocumented(t *testing.T) {
	n := take100(t)
	a := n.call(t, "POST", "/v1/reserve/per-user/alice%2F1?cost=80&ttl=90s", "")
	shape := regexp.MustCompile(`^{"id":"([A-Za-z0-9_-]{32})","expires_at":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)",("allowed":true,"limit":"per-user","key":"alice/1","cost":80,"remaining":20,"capacity":100,"refill_rate":[0-9.]+,"retry_after_ms":0,"backup":false})` + "\n$")
	found := shape.FindStringSubmatch(a.body)
	if a.StatusCode != 200 || found == nil || !json.Valid([]byte(a.body)) {
		t.Fatalf("%s %s", a.Status, a.body)
	}
	if at, err := time.Parse(time.RFC3339, found[2]); err != nil || time.Until(at) < 60*time.Second || time.Until(at) > 91*time.Second {
		t.Errorf("expires at %s", found[2])
	}
	if !strings.HasPrefix(a.Header.Get("RateLimit"), `"per-user";r=20;t=`) || a.Header.Get("RateLimit-Policy") == "" || a.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%v", a.Header)
	}
	settle, settled := "/v1/settle/"+found[1], `{"id":"`+found[1]+`","limit":"per-user","key":"alice/1","reserved":80,"used":12,"applied":true,"again":`
	if dry := n.call(t, "POST", "/v1/reserve/per-user/alice%2F1?cost=90", ""); dry.StatusCode != 429 || dry.Header.Get("Retry-After") == "" || !strings.HasPrefix(dry.body, `{"allowed":false,"limit":"per-user","key":"alice/1","cost":90,`) {
		t.Errorf("%s %v %s", dry.Status, dry.Header, dry.body)
	}
	for i, again := range []string{"false}\n", "true}\n"} {
		if a := n.call(t, "POST", settle+"?used=12", ""); a.StatusCode != 200 || a.body != settled+again {
			t.Errorf("settled, %d: %s %s", i, a.Status, a.body)
		}
	}
	if a := n.call(t, "GET", "/v1/buckets/per-user/alice%2F1", ""); !strings.Contains(a.body, `"tokens":88,`) {
		t.Error(a.body)
	}
	unknown := reservationText(n.newReservationID(time.Now().Add(time.Minute).Unix()))
	if a := n.call(t, "POST", "/v1/settle/"+unknown+"?used=0", ""); a.StatusCode != 202 || a.body != `{"id":"`+unknown+`","used":0,"known":false}`+"\n" {
		t.Errorf("%s %s", a.Status, a.body)
	}
	ended := reservationText(n.newReservationID(time.Now().Add(-10 * time.Minute).Unix()))
	for _, c := range []struct {
		method, path string
		status       int
		detail       string
	}{
		{"POST", settle + "?used=13", 409, "12 tokens were used, and that stays"},
		{"POST", "/v1/settle/" + ended + "?used=13", 410, "take what was used with POST /v1/take"},
		{"POST", "/v1/settle/" + strings.Repeat("A", 32) + "?used=1", 404, "no such reservation"},
		{"POST", "/v1/settle/nonsense?used=1", 400, "it has 32 letters"},
		{"POST", settle, 400, "used must be one whole number from 0 to 1000000000"},
		{"POST", settle + "?used=-1", 400, "used must be"},
		{"POST", settle + "?used=1.5", 400, "used must be"},
		{"POST", settle + "?used=1&used=2", 400, "used must be"},
		{"POST", settle + "?used=%zz", 400, "cannot be read"},
		{"POST", "/v1/reserve/per-user/alice?ttl=90", 400, "ttl must be one time with its unit, as in 90s"},
		{"POST", "/v1/reserve/per-user/alice?ttl=2h", 400, "write 1s to 1h0m0s"},
		{"POST", "/v1/reserve/per-user/alice?ttl=1s&ttl=2s", 400, "ttl must be"},
		{"POST", "/v1/reserve/per-user/alice?cost=0", 400, "cost must be"},
		{"POST", "/v1/reserve/per-user/alice?cost=101", 400, "more than the capacity"},
		{"POST", "/v1/reserve/per-user/", 400, "the key is missing"},
		{"POST", "/v1/reserve/nope/alice", 404, "unknown limit"},
		{"GET", settle, 405, "answers to POST only"},
		{"GET", "/v1/reserve/per-user/alice", 405, "answers to POST only"},
	} {
		a := n.call(t, c.method, c.path, "")
		if a.StatusCode != c.status || !strings.Contains(a.body, c.detail) || a.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %s %s", c.method, c.path, a.Status, a.body)
		}
	}
	a = call(t, "GET", "http://"+n.metrics+"/metrics", "")
	for _, want := range []string{
		`openclaw_reservations_held{state="open"} 0`, `openclaw_reservations_held{state="settled"} 1`, `openclaw_reservations_held{state="freed"} 0`, `openclaw_reservations_held{state="waiting"} 1`,
		`openclaw_reservations_total{result="reserved"} 1`, `openclaw_reservations_total{result="refused"} 1`, `openclaw_reservations_total{result="settled"} 2`,
		`openclaw_reservations_total{result="repeated"} 1`, `openclaw_reservations_total{result="contradicted"} 1`, `openclaw_reservations_total{result="full"} 0`,
		`openclaw_reservations_total{result="freed"} 0`, `openclaw_reservations_refused_total{reason="clock"} 0`, `openclaw_reservations_refused_total{reason="memory"} 0`,
		`openclaw_http_requests_total{method="POST",route="/v1/settle/{id}",status="202"} 1`, `openclaw_http_requests_total{method="POST",route="/v1/reserve/{limit}/{key}",status="429"} 1`,
	} {
		if !strings.Contains(a.body, "\n"+want+"\n") {
			t.Errorf("no %s", want)
		}
	}
}
