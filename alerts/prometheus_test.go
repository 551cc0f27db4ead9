package alerts

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// In a real Prometheus beside three real nodes: every rule can be evaluated, and says nothing. Then
// the drill of the alerting guide, ten times as fast: the refill daemon of one node stops, and
// the alerts for that node fire, and for no other; it goes on, and they resolve.
func TestRulesInARealPrometheus(t *testing.T) {
	c := startCluster(t)
	want := len(rules(t))
	eventually(t, "every rule was evaluated, and well", func() bool {
		all := c.rules()
		return len(all) == want && !slices.ContainsFunc(all, func(r liveRule) bool { return r.Health != "ok" })
	})
	c.scraped()
	eventually(t, "Absent is forgotten", func() bool { return len(c.alerts()) == 1 }) // rules run before the first scrape
	time.Sleep(5 * time.Second)                                                       // not for anything to happen, but for nothing to
	if got := c.alerts(); !slices.Equal(got, []string{"OpenClawWatchdog  firing"}) {
		t.Errorf("alerts of a healthy cluster: %q", got)
	}
	for _, r := range c.rules() {
		if r.Health != "ok" {
			t.Errorf("%s: %s: %s", r.Name, r.Health, r.LastError)
		}
	}
	if status := c.nodes[1].Post("/-/refill?paused=true"); status != 200 {
		t.Fatal(status)
	}
	begin := time.Now()
	eventually(t, "the paused node's alerts fire", func() bool {
		got := c.alerts()
		return slices.Contains(got, "OpenClawTokenBucketRefillLow edge-2 firing") && slices.Contains(got, "OpenClawTokenBucketRefillStalled edge-2 firing")
	})
	t.Logf("RefillLow after %v; promised, %d times as fast: 12 s", time.Since(begin).Round(100*time.Millisecond), speed)
	if got := c.alerts(); len(got) != 3 {
		t.Errorf("more than edge-2's: %q", got)
	}
	c.console("OpenClawTokenBucketRefillLow")
	c.nodes[1].Post("/-/refill?paused=false")
	eventually(t, "they resolve", func() bool { return len(c.alerts()) == 1 })
}

// console looks at the console: with curl's eyes, and a browser's, which draws seven charts.
func (c *cluster) console(alert string) {
	c.t.Helper()
	url := c.prometheus + "/consoles/openclaw.html?job=edge&bucket=per-user"
	text := page(c.t, url)
	for _, want := range []string{"<td>" + alert + "</td>", "<td>edge-1</td><td>r1</td>", "<td>edge-3</td><td>r3</td>", `<span class="bad">0%</span>`, "3 of 3"} {
		if !strings.Contains(text, want) {
			c.t.Errorf("the console shows no %s:\n%s", want, text)
		}
	}
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		c.t.Log("chromium is not installed: the console's charts were not drawn")
		return
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	dom, err := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--user-data-dir="+c.t.TempDir(),
		"--virtual-time-budget=10000", "--dump-dom", url).Output()
	if err != nil || !strings.Contains(string(dom), `data-drawn="yes"`) || strings.Count(string(dom), "<svg") != 7 || strings.Contains(string(dom), "Error:") {
		c.t.Errorf("the console was not drawn: %v\n%s", err, dom)
	}
}

// What nodes and exporter export passes promtool, and is all that rules, dashboard, console and runbook use.
func TestOnlyMetricsThatExistAreUsed(t *testing.T) {
	c := startCluster(t)
	exported := map[string]bool{"up": true, "scrape_duration_seconds": true}
	for _, name := range []string{"prometheus_rule_evaluation_failures_total", "prometheus_rule_group_iterations_missed_total"} {
		eventually(t, name+" is exported", func() bool {
			return strings.Contains(page(t, c.prometheus+"/metrics"), "\n"+name+`{rule_group="`)
		})
		exported[name] = true
	}
	promtool := tool(t, "promtool", "prometheus")
	for _, addr := range []string{c.nodes[0].Metrics, c.exporter} {
		text := page(t, "http://"+addr+"/metrics")
		check := exec.CommandContext(t.Context(), promtool, "check", "metrics")
		check.Stdin = strings.NewReader(text)
		if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: %v: %s", addr, err, out)
		}
		for _, m := range regexp.MustCompile(`(?m)^(\w+)[{ ]`).FindAllStringSubmatch(text, -1) {
			exported[m[1]] = true
		}
	}
	for _, r := range rules(t) {
		if r.Record != "" {
			exported[r.Record] = true
		}
	}
	c.runbook()
	used := regexp.MustCompile(`\b(?:openclaw[_:]\w[\w:]*|prometheus_\w+|process_\w+|scrape_\w+_seconds|go_\w+)`)
	for what, text := range users(t) {
		names := used.FindAllString(text, -1)
		for _, name := range names {
			if !exported[name] {
				t.Errorf("%s uses %s, which nothing exports", what, name)
			}
		}
		if len(names) == 0 {
			t.Errorf("%s uses no metric", what)
		}
	}
}

// scraped waits for the first scrape of everybody: discovery takes Prometheus some seconds.
func (c *cluster) scraped() {
	c.t.Helper()
	eventually(c.t, "all are scraped", func() bool {
		var data struct{ Result []struct{ Value []any } }
		c.ask("/api/v1/query?query=count(up==1)", &data)
		return len(data.Result) == 1 && data.Result[0].Value[1] == "4"
	})
}

// runbook runs every command block of the runbook against the cluster, as somebody who was woken would.
func (c *cluster) runbook() {
	c.t.Helper()
	c.scraped()
	blocks := shell.FindAllStringSubmatch(read(c.t, "RUNBOOK.md"), -1)
	for i, m := range blocks {
		cmd := exec.CommandContext(c.t.Context(), "bash", "-euo", "pipefail", "-c", blocks[0][1]+m[1])
		cmd.Env = append(os.Environ(), "NODE=http://"+c.nodes[0].HTTP, "METRICS=http://"+c.nodes[0].Metrics+"/metrics", "PROM="+c.prometheus, "OPENCLAW_ADMIN_TOKEN=")
		if out, err := cmd.CombinedOutput(); err != nil || i > 0 && len(out) == 0 {
			c.t.Errorf("RUNBOOK.md: %v\n%s\n%s", err, m[1], out)
		}
	}
	if len(blocks) < len(alerting(c.t)) {
		c.t.Errorf("only %d blocks of commands", len(blocks))
	}
}

// users are the texts that name metrics.
func users(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, r := range rules(t) {
		if r.Labels["severity"] != "none" {
			said := strings.ReplaceAll(r.Annotations["description"], "openclaw_exporter ", "") // the program
			all[r.name()] = r.Expr + " " + said
		}
	}
	for i, expr := range append(dashboardExprs(t), consoleExprs(t)...) {
		if strings.Contains(expr, "openclaw") || strings.Contains(expr, "process_") {
			all[fmt.Sprint("dashboard or console, expression ", i)] = expr
		}
	}
	all["RUNBOOK.md"] = strings.ReplaceAll(read(t, "RUNBOOK.md"), "prometheus_rule_group_last_duration_seconds", "") // Prometheus' own
	return all
}
