package alerts

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openclaw/edge/testnet/process"
	"github.com/openclaw/edge/testnet/program"
)

func TestMain(m *testing.M) {
	code := m.Run()
	process.Cleanup()
	os.Exit(code)
}

// listening starts a program that logs where it listens, and ends it with the test.
func listening(t *testing.T, path string, args ...string) (addr string) {
	t.Helper()
	p, err := program.Start(path, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(path), p.Log())
		}
	})
	return p.Addr
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// cluster is three nodes, an exporter, and a Prometheus that watches them with the shipped rules, each of
// their times divided by speed.
type cluster struct {
	t          *testing.T
	nodes      []*process.Node
	exporter   string
	prometheus string
}

const speed = 10

func startCluster(t *testing.T) *cluster {
	t.Helper()
	prometheus := tool(t, "prometheus", "prometheus")
	c := &cluster{t: t}
	var seeds, urls, targets []string
	for i := range 3 {
		n := process.Start(t, process.Options{Node: fmt.Sprint("edge-", i+1), Region: fmt.Sprint("r", i+1), Join: seeds})
		seeds = append(seeds, n.Addresses.Gossip)
		urls, targets = append(urls, "http://"+n.HTTP), append(targets, n.Metrics)
		c.nodes = append(c.nodes, n)
	}
	for _, n := range c.nodes {
		n.Ready(30 * time.Second)
	}
	dir := t.TempDir()
	c.exporter = listening(t, process.Command(t, "openclaw_exporter"), "--metrics-port=0", "--interval=500ms", "--nodes="+strings.Join(urls, ","))
	files, err := Scaled(speed)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		write(t, filepath.Join(dir, "rules-"+name), text)
	}
	write(t, filepath.Join(dir, "prometheus.yml"), fmt.Sprintf(`
global: {scrape_interval: 500ms, evaluation_interval: 500ms}
rule_files: [%q]
scrape_configs:
  - {job_name: edge, static_configs: [{targets: [%s]}]}
  - {job_name: exporter, static_configs: [{targets: [%q]}]}
`, filepath.Join(dir, "rules-*.yml"), `"`+strings.Join(targets, `", "`)+`"`, c.exporter))
	c.prometheus = "http://" + listening(t, prometheus, "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0",
		"--web.console.templates=consoles", "--web.console.libraries=consoles")
	return c
}

// ask calls the HTTP API of Prometheus; while that starts there is no answer, and into stays as it is.
func (c *cluster) ask(path string, into any) {
	c.t.Helper()
	resp, err := http.Get(c.prometheus + path)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusServiceUnavailable {
		return
	}
	if err := json.NewDecoder(resp.Body).Decode(&struct{ Data any }{into}); err != nil {
		c.t.Fatal(err)
	}
}

type liveRule struct {
	Name, Health, LastError, LastEvaluation string
}

func (c *cluster) rules() (all []liveRule) {
	c.t.Helper()
	var data struct{ Groups []struct{ Rules []liveRule } }
	c.ask("/api/v1/rules", &data)
	for _, g := range data.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// alerts are the pending and firing ones, as "name node state".
func (c *cluster) alerts() (all []string) {
	c.t.Helper()
	var data struct {
		Alerts []struct {
			State  string
			Labels map[string]string
		}
	}
	c.ask("/api/v1/alerts", &data)
	for _, a := range data.Alerts {
		if line := a.Labels["alertname"] + " " + a.Labels["node"] + " " + a.State; !slices.Contains(all, line) {
			all = append(all, line)
		}
	}
	slices.Sort(all)
	return all
}

// page is the body of a 200.
func page(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp.Status, err)
	}
	return string(text)
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
