package client_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/openclaw/edge/node/client"
)

// What nodes and others may answer to a reservation and a settlement, and what becomes of it.
func TestReservationsOfOneCallEach(t *testing.T) {
	const id = "9d5j1QdGFoTgR3KRlDBBmjhtUeeWOmpM"
	var path string
	for _, it := range []struct {
		status int
		body   string
		want   string // of Reserve, then of Settle
	}{
		{200, `{"id":"` + id + `","expires_at":"2026-11-22T10:00:00Z",` + yes[1:], "true " + id + " 2026-11-22 | not the answer of a node"},
		{429, strings.Replace(yes, "true", "false", 1), "false  0001-01-01 | not the answer of a node"},
		{200, yes, "not the answer of a node | not the answer of a node"},
		{200, `{"id":"` + id + `","limit":"uploads","key":"a","reserved":2,"used":1,"applied":true,"again":true}`, "not the answer of a node | uploads 2 1 true true"},
		{202, `{"id":"` + id + `","used":1,"known":false}`, "answered Accepted |  0 1 false false"},
		{200, `{"id":"another","used":1}`, "not the answer of a node | not the answer of a node"},
		{503, `{"detail":"as many as it may"}`, "503: as many as it may | 503: as many as it may"},
		{410, `{"detail":"it ended"}`, "410: it ended | 410: it ended"},
		{500, `{"detail":"a fault"}`, "answered Internal Server Error | not the answer of a node"},
	} {
		c, err := client.New(client.Config{Addr: "http://node", OnFailure: client.FailOpen, Transport: fakeNode(func(r *http.Request) (*http.Response, error) {
			path = r.URL.RequestURI()
			return answer(it.status, it.body), nil
		})})
		if err != nil {
			t.Fatal(err)
		}
		wantReserve, wantSettle, _ := strings.Cut(it.want, " | ")
		got := ""
		if res, err := c.Reserve(t.Context(), "uploads", "a/b", 2, 90*time.Second); err != nil {
			got = err.Error()
		} else {
			got = fmt.Sprintln(res.Allowed, res.ID, res.Expires.Format(time.DateOnly))
		}
		if !strings.Contains(got, wantReserve) || path != "/v1/reserve/uploads/a%2Fb?cost=2&ttl=1m30s" {
			t.Errorf("%d %s: reserve %s: %s; want %s", it.status, it.body, path, got, wantReserve)
		}
		if done, err := c.Settle(t.Context(), id, 1); err != nil {
			var refused *client.CallError
			got = err.Error()
			if said := errors.As(err, &refused); said != (it.status == 503 || it.status == 410) {
				t.Errorf("%d: %v is a CallError: %v", it.status, err, said)
			}
		} else {
			got = fmt.Sprintln(done.Limit, done.Reserved, done.Used, done.Applied, done.Again)
		}
		if !strings.Contains(got, wantSettle) || path != "/v1/settle/"+id+"?used=1" {
			t.Errorf("%d %s: settle %s: %s; want %s", it.status, it.body, path, got, wantSettle)
		}
	}
}
