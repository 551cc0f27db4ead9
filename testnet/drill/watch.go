package drill

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// at is an alert on a node: what the table has a line for. Several of its series are one.
type at struct{ alert, node string }

// watchdog always fires, and says nothing about a node.
const watchdog = "OpenClawWatchdog"

var client = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}

// get asks one of the programs, and decodes the answer.
func get(ctx context.Context, url string, into any) error {
	r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return fmt.Errorf("drill: %w", err)
	}
	resp, err := client.Do(r)
	if ctx.Err() != nil {
		return errStopped
	}
	if err != nil {
		return fmt.Errorf("drill: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("drill: %s: %s", url, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("drill: %s: %w", url, err)
	}
	return nil
}

// state of an alert in Prometheus.
type state int

const (
	pending state = iota + 1
	firing
)

// active is what Prometheus holds for pending or firing, the watchdog aside.
func (s *stage) active(ctx context.Context) (map[at]state, error) {
	var body struct {
		Data struct {
			Alerts []struct {
				State  string
				Labels map[string]string
			}
		}
	}
	if err := get(ctx, "http://"+s.prometheus.Addr+"/api/v1/alerts", &body); err != nil {
		return nil, err
	}
	all := make(map[at]state)
	for _, a := range body.Data.Alerts {
		is := pending
		if a.State == "firing" {
			is = firing
		}
		if k := (at{a.Labels["alertname"], a.Labels["node"]}); k.alert != watchdog {
			all[k] = max(all[k], is)
		}
	}
	return all, nil
}

// told is what Alertmanager knows, the watchdog aside: of each alert the one that silences it,
// or "" if any of its series is told.
func (s *stage) told(ctx context.Context) (map[at]string, error) {
	var body []struct {
		Fingerprint string
		Labels      map[string]string
		Status      struct{ InhibitedBy []string }
	}
	if err := get(ctx, "http://"+s.alertmanager.Addr+"/api/v2/alerts", &body); err != nil {
		return nil, err
	}
	names := make(map[string]string)
	for _, a := range body {
		names[a.Fingerprint] = a.Labels["alertname"]
	}
	all := make(map[at]string)
	for _, a := range body {
		k := at{a.Labels["alertname"], a.Labels["node"]}
		by := ""
		if len(a.Status.InhibitedBy) > 0 {
			by = names[a.Status.InhibitedBy[0]]
		}
		if was, known := all[k]; k.alert != watchdog && (!known || was != "") {
			all[k] = by
		}
	}
	return all, nil
}

// rule is an alerting rule as Prometheus has loaded it.
type rule struct {
	Name, Type, Health, LastError string
	Duration                      float64 // its for, in seconds
	Annotations                   map[string]string
}

// promises are what the loaded alerts promise. It fails while one of all rules was not evaluated, or not well.
func (s *stage) promises(ctx context.Context) (map[string]time.Duration, error) {
	var body struct {
		Data struct{ Groups []struct{ Rules []rule } }
	}
	if err := get(ctx, "http://"+s.prometheus.Addr+"/api/v1/rules", &body); err != nil {
		return nil, err
	}
	all := make(map[string]time.Duration)
	for _, g := range body.Data.Groups {
		for _, r := range g.Rules {
			if r.Health != "ok" {
				return nil, fmt.Errorf("drill: rule %s is %q: %s", r.Name, r.Health, r.LastError)
			}
			if r.Type != "alerting" {
				continue
			}
			d, err := time.ParseDuration(r.Annotations["promised"])
			if err != nil {
				return nil, fmt.Errorf("drill: %s: promised: %w", r.Name, err)
			}
			all[r.Name] = d
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("drill: Prometheus has loaded no rules")
	}
	return all, nil
}

// ask queries a number; ok is false while there is none.
func (s *stage) ask(ctx context.Context, query string) (v float64, ok bool, err error) {
	var body struct {
		Data struct{ Result []struct{ Value []any } }
	}
	err = get(ctx, "http://"+s.prometheus.Addr+"/api/v1/query?query="+url.QueryEscape(query), &body)
	r := body.Data.Result
	if err != nil || len(r) != 1 || len(r[0].Value) != 2 {
		return 0, false, err
	}
	text, _ := r[0].Value[1].(string)
	v, err = strconv.ParseFloat(text, 64)
	return v, err == nil, err
}

// scraped tells whether every node is, and the rules have recorded who it is: one that crashes
// before that is a node that was never seen, and nobody can say its name.
func (s *stage) scraped(ctx context.Context) (bool, error) {
	up, ok, err := s.ask(ctx, "count(up == 1 and on (job, instance) openclaw:node:info)")
	return ok && int(up) == len(everybody), err
}

// slowest is how long a scrape has taken at worst: on a machine that has time for the drill, next to nothing.
func (s *stage) slowest(ctx context.Context) (time.Duration, error) {
	v, _, err := s.ask(ctx, "max(max_over_time(scrape_duration_seconds[1h]))")
	return time.Duration(v * float64(time.Second)), err
}
