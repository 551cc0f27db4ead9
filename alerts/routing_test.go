package alerts

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openclaw/edge/testnet/process"
)

// inbox is all receivers of the shipped config in one: what they were told, as "receiver alert status".
type inbox struct {
	mu   sync.Mutex
	told []string
}

func (in *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var hook struct {
		Alerts []struct {
			Status string
			Labels map[string]string
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&hook); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, a := range hook.Alerts {
		in.told = append(in.told, strings.TrimPrefix(r.URL.Path, "/")+" "+a.Labels["alertname"]+" "+a.Status)
	}
}

func (in *inbox) has(what string) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.Contains(in.told, what)
}

// alertmanager is a real one, with the shipped routes and inhibitions; its receivers are at
// the test's hands, and it does not wait as long.
func alertmanager(t *testing.T, receiver func(name string) (url, token string)) (base string) {
	t.Helper()
	binary, err := exec.LookPath("alertmanager")
	if err != nil {
		binary = tool(t, "prometheus-alertmanager", "prometheus-alertmanager")
	}
	dir := t.TempDir()
	routes, _, ok := strings.Cut(read(t, configFile), "\nreceivers:\n")
	if !ok {
		t.Fatal("no receivers")
	}
	_, routes, _ = strings.Cut(routes, "\nroute:\n")
	routes = regexp.MustCompile(`group_wait: \w+`).ReplaceAllString(routes, "group_wait: 300ms")
	routes = regexp.MustCompile(`group_interval: \w+`).ReplaceAllString(routes, "group_interval: 500ms")
	text := "route:\n" + routes + "\nreceivers:\n"
	for _, m := range regexp.MustCompile(`(?m)^  - name: (\S+)$`).FindAllStringSubmatch(read(t, configFile), -1) {
		url, token := receiver(m[1])
		text += "  - name: " + m[1] + "\n    webhook_configs:\n      - url: " + url + "\n"
		if token != "" {
			write(t, filepath.Join(dir, m[1]), token)
			text += "        http_config: {authorization: {credentials_file: " + filepath.Join(dir, m[1]) + "}}\n"
		}
	}
	write(t, filepath.Join(dir, "am.yml"), text)
	return "http://" + listening(t, binary, "--config.file="+filepath.Join(dir, "am.yml"),
		"--storage.path="+dir, "--web.listen-address=127.0.0.1:0", "--cluster.listen-address=")
}

// post sends alerts as Prometheus does; resolved ones have ended.
func post(t *testing.T, base string, resolved bool, alerts ...map[string]string) {
	t.Helper()
	type alert struct {
		Labels   map[string]string `json:"labels"`
		StartsAt time.Time         `json:"startsAt"`
		EndsAt   time.Time         `json:"endsAt"`
	}
	var body []alert
	for _, labels := range alerts {
		a := alert{labels, time.Now().Add(-time.Minute), time.Now().Add(time.Hour)}
		if resolved {
			a.EndsAt = time.Now().Add(-time.Second)
		}
		body = append(body, a)
	}
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(base+"/api/v2/alerts", "application/json", bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		answer, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s: %s", resp.Status, answer)
	}
}

// named makes an alert of ours on a node, with the labels that its rule gives.
func named(t *testing.T, alert, node string) map[string]string {
	t.Helper()
	for _, r := range alerting(t) {
		if r.Alert != alert {
			continue
		}
		labels := map[string]string{"alertname": alert, "job": "edge", "instance": node + ":9100", "node": node}
		for k, v := range r.Labels {
			labels[k] = v
		}
		return labels
	}
	t.Fatalf("no alert %s", alert)
	return nil
}

// In a real Alertmanager: the cause is told, its effects are not, those of another node are.
func TestACauseSilencesItsEffects(t *testing.T) {
	in := &inbox{}
	server := httptest.NewServer(in)
	defer server.Close()
	base := alertmanager(t, func(name string) (string, string) { return server.URL + "/" + name, "" })
	told := func(all ...string) {
		t.Helper()
		for _, want := range all {
			eventually(t, want, func() bool { return in.has(want) })
		}
	}
	post(t, base, false, named(t, "OpenClawTokenBucketRefillLow", "edge-2"), named(t, "OpenClawAllStoresFailing", "edge-3"),
		named(t, "OpenClawNodeDown", "edge-9"), named(t, "OpenClawWatchdog", ""))
	told("failover-edge-2 OpenClawTokenBucketRefillLow firing", "page OpenClawTokenBucketRefillLow firing",
		"page OpenClawAllStoresFailing firing", "tell OpenClawNodeDown firing", "deadman OpenClawWatchdog firing")
	post(t, base, false, named(t, "OpenClawTokenBucketEmpty", "edge-2"), named(t, "OpenClawTokenBucketRejectionSpike", "edge-2"),
		named(t, "OpenClawSnapshotTooOld", "edge-3"), named(t, "OpenClawMembersMissing", "edge-1"))
	post(t, base, false, named(t, "OpenClawTokenBucketEmpty", "edge-1"), named(t, "OpenClawTokenBucketRejectionSpike", "edge-3"), named(t, "OpenClawSnapshotTooOld", "edge-1"))
	told("page OpenClawTokenBucketEmpty firing", "tell OpenClawTokenBucketRejectionSpike firing", "page OpenClawSnapshotTooOld firing")
	if in.has("tell OpenClawMembersMissing firing") {
		t.Error("who misses a node that is down was told of")
	}
	in.mu.Lock()
	said := strings.Join(in.told, "\n")
	in.mu.Unlock()
	for _, once := range []string{"page OpenClawTokenBucketEmpty firing", "tell OpenClawTokenBucketRejectionSpike firing", "page OpenClawSnapshotTooOld firing"} {
		if strings.Count(said, once) != 1 { // edge-2's effect was told, too
			t.Errorf("%s: not once:\n%s", once, said)
		}
	}
}

const failoverConfig = `
limits:
  - {name: per-user, capacity: 1, refill_rate: 1/h, backup: {capacity: 5, refill_rate: 1}}
admin: {token_env: OPENCLAW_ADMIN_TOKEN}
`

// The alert of a node reaches that node's webhook: its backup bucket serves, and stops when the
// last alert has resolved. Another node's does not. Without the token nobody turns it on.
func TestFailoverEndToEnd(t *testing.T) {
	nodes := map[string]*process.Node{}
	for _, name := range []string{"edge-1", "edge-2"} {
		nodes[name] = process.Start(t, process.Options{Node: name, Region: "eu", Config: failoverConfig, Env: []string{"OPENCLAW_ADMIN_TOKEN=right"}})
		nodes[name].Ready(20 * time.Second)
	}
	in := httptest.NewServer(&inbox{})
	defer in.Close()
	base := alertmanager(t, func(name string) (string, string) {
		if n := nodes[strings.TrimPrefix(name, "failover-")]; n != nil {
			return "http://" + n.HTTP + "/-/failover", "right"
		}
		return in.URL + "/" + name, ""
	})
	backup := func(node string) bool {
		taken, ok := nodes[node].Take("per-user", "alice")
		return ok && taken.Allowed && taken.Backup
	}
	for node := range nodes {
		nodes[node].Take("per-user", "alice")
		if backup(node) {
			t.Errorf("%s: the backup serves before any alert", node)
		}
		if status := nodes[node].Post("/-/failover?on=true"); status != http.StatusUnauthorized || backup(node) {
			t.Errorf("%s: turned on without the token: %d", node, status)
		}
	}
	low, stalled := named(t, "OpenClawTokenBucketRefillLow", "edge-2"), named(t, "OpenClawTokenBucketRefillStalled", "edge-2")
	post(t, base, false, low, stalled)
	eventually(t, "edge-2 serves from its backup", func() bool { return backup("edge-2") })
	if backup("edge-1") {
		t.Error("edge-1 serves from its backup, too")
	}
	post(t, base, true, stalled)
	time.Sleep(2 * time.Second) // some group intervals, in which nothing may happen
	if logs := nodes["edge-2"].Logs(); !backup("edge-2") || strings.Contains(logs, "on=false") {
		t.Errorf("turned off while an alert of the node still fired:\n%s", logs)
	}
	post(t, base, true, low)
	eventually(t, "edge-2 serves from its backup no more", func() bool {
		time.Sleep(time.Second) // a token of the backup
		return !backup("edge-2")
	})
}
