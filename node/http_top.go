package node

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// top is GET /v1/top?n=20: the hottest keys, the dry ones, and the debts. It takes a second, in
// which takes are counted; who asks meanwhile shares the answer, so that the table is walked
// twice a second at most, whoever asks how often. Keys say who the clients are: hence guarded.
func (s *server) top(w http.ResponseWriter, r *http.Request, _ string) int {
	n, err := topCount(r.URL.RawQuery)
	if err != nil {
		return s.refuse(w, err)
	}
	shared, _, _ := s.ranks.Do("top", func() (any, error) {
		return s.node.measureTop(func() { time.Sleep(topWindow) }), nil
	})
	t := shared.(*Top)
	return reply(w, http.StatusOK, struct {
		Node     string   `json:"node"`
		WindowMS int64    `json:"window_ms"`
		Live     int      `json:"live_keys"`
		Dry      int      `json:"dry_keys"`
		Indebted int      `json:"debt_keys"`
		HotKeys  []TopKey `json:"hot"`
		DryKeys  []TopKey `json:"dry"`
		Debts    []TopKey `json:"debts"`
	}{s.node.cfg.Node, t.Window.Milliseconds(), t.Live, t.Dry, t.Indebted, t.hot.first(n), t.dry.first(n), t.debts.first(n)})
}

// topCount reads how many keys each list is to have.
func topCount(query string) (int, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return 0, badRequest("the query cannot be read (" + err.Error() + "); write ?n=20")
	}
	text := values.Get("n")
	if !values.Has("n") {
		return 20, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxTop {
		return 0, badRequest(fmt.Sprintf("n must be a whole number from 1 to %d", maxTop))
	}
	return n, nil
}
