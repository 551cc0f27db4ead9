package alerts

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// dashboard is as much of Grafana's JSON as is checked here.
type dashboard struct {
	Panels []struct {
		ID                       int
		Type, Title, Description string
		GridPos                  struct{ X, Y, W, H int }
		FieldConfig              struct{ Defaults struct{ Unit string } }
		Targets                  []struct{ RefID, Expr, LegendFormat string }
	}
	Templating struct {
		List []struct{ Name, Query string }
	}
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	if err := json.Unmarshal([]byte(read(t, "grafana/openclaw-edge.json")), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestTheDashboardIsWhatItsProgramWrites(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "run", "./grafana").Output()
	if err != nil || string(out) != read(t, "grafana/openclaw-edge.json") {
		t.Errorf("go run ./alerts/grafana > alerts/grafana/openclaw-edge.json (%v)", err)
	}
}

// Each panel says what it shows and in which unit, has a place of its own, and the first is the one that
// shows a partition.
func TestPanelsAreWhole(t *testing.T) {
	d := readDashboard(t)
	ids, kinds, taken := map[int]bool{}, map[string]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.Title == "" || len(p.Description) < 20 || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d %q: an id twice, or without title, description, unit or query", p.ID, p.Title)
		}
		ids[p.ID], kinds[p.Type] = true, true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%s lies on %q", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		refs := map[string]bool{}
		for _, q := range p.Targets {
			if refs[q.RefID] || q.LegendFormat == "" && p.Type != "stat" {
				t.Errorf("%s: query %s twice, or without a legend", p.Title, q.RefID)
			}
			refs[q.RefID] = true
		}
	}
	first := d.Panels[0]
	if !strings.Contains(first.Targets[0].Expr, "openclaw_token_bucket_refill_rate") || !strings.Contains(first.Targets[1].Expr, "openclaw_token_bucket_config_refill_rate") {
		t.Errorf("the first panel is %s", first.Title)
	}
	for _, kind := range []string{"stat", "timeseries", "heatmap"} {
		if !kinds[kind] {
			t.Errorf("no %s", kind)
		}
	}
	names := ""
	for _, v := range d.Templating.List {
		names += v.Name + " "
	}
	if names != "datasource job region node bucket " {
		t.Errorf("variables: %s", names)
	}
}

// Every expression of dashboard and console parses, as the rules of a file that promtool reads.
func TestExpressionsParse(t *testing.T) {
	promtool := tool(t, "promtool", "prometheus")
	file := ruleFile{Groups: []ruleGroup{{Name: "expressions"}}}
	for _, expr := range append(dashboardExprs(t), consoleExprs(t)...) {
		file.Groups[0].Rules = append(file.Groups[0].Rules, rule{Record: "x", Expr: expr, Labels: map[string]string{"n": string(rune('A' + len(file.Groups[0].Rules)))}})
	}
	if n := len(file.Groups[0].Rules); n < 30 {
		t.Fatalf("only %d expressions", n)
	}
	text, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "rules.yml")
	write(t, path, string(text))
	if out, err := exec.CommandContext(t.Context(), promtool, "check", "rules", path).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// dashboardExprs are the queries with Grafana's variables filled in.
func dashboardExprs(t *testing.T) (all []string) {
	fill := strings.NewReplacer("$__rate_interval", "1m", "$job", "edge", "$region", ".*", "$node", ".*", "$bucket", "per-user")
	for _, p := range readDashboard(t).Panels {
		for _, q := range p.Targets {
			expr := fill.Replace(q.Expr)
			if strings.Contains(expr, "$") {
				t.Errorf("%s: an unknown variable in %s", p.Title, expr)
			}
			all = append(all, expr)
		}
	}
	return all
}

// consoleExprs are those in the data-query attributes and the query pipelines of the console.
func consoleExprs(t *testing.T) (all []string) {
	text := read(t, "consoles/openclaw.html")
	fill := strings.NewReplacer("JOB", "edge", "BUCKET", "per-user", "%s", "edge", `\"`, `"`)
	for _, m := range regexp.MustCompile(`data-(?:query|wanted)='([^']+)'|printf "((?:[^"\\]|\\.)+)" [^|}]*\| query|query "((?:[^"\\]|\\.)+)"`).FindAllStringSubmatch(text, -1) {
		all = append(all, fill.Replace(m[1]+m[2]+m[3]))
	}
	return all
}
