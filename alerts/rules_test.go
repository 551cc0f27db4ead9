package alerts

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// ruleFile is a rule file of Prometheus.
type ruleFile struct {
	Groups []ruleGroup `yaml:"groups" json:"groups"`
}

type ruleGroup struct {
	Name     string `yaml:"name" json:"name"`
	Interval string `yaml:"interval" json:"interval,omitempty"`
	Rules    []rule `yaml:"rules" json:"rules"`
}

type rule struct {
	Record      string            `yaml:"record" json:"record,omitempty"`
	Alert       string            `yaml:"alert" json:"alert,omitempty"`
	Expr        string            `yaml:"expr" json:"expr"`
	For         string            `yaml:"for" json:"for,omitempty"`
	Labels      map[string]string `yaml:"labels" json:"labels,omitempty"`
	Annotations map[string]string `yaml:"annotations" json:"annotations,omitempty"`
}

func (r *rule) name() string { return r.Alert + r.Record }

// rules are all rules, those of recording.yml first.
func rules(t *testing.T) (all []rule) {
	t.Helper()
	names, err := fs.Glob(Rules, "rules/*.yml")
	if err != nil || len(names) < 6 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		text, err := Rules.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var f ruleFile
		if err := yaml.UnmarshalWithOptions(text, &f, yaml.Strict()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, g := range f.Groups {
			if want := "openclaw-" + strings.TrimSuffix(path.Base(name), ".yml"); g.Name != want || g.Interval != "15s" {
				t.Errorf("%s: group %s at %q, want %s at 15s", name, g.Name, g.Interval, want)
			}
			all = append(all, g.Rules...)
		}
	}
	slices.SortStableFunc(all, func(a, b rule) int { return strings.Compare(a.Alert, b.Alert) }) // those without, first
	return all
}

func alerting(t *testing.T) []rule {
	return slices.DeleteFunc(rules(t), func(r rule) bool { return r.Alert == "" })
}

// tool is a program that is not part of Go; without it the test is skipped.
func tool(t *testing.T, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed: apt-get install %s", name, pkg)
	}
	return path
}

func TestRulesPassPromtool(t *testing.T) {
	promtool := tool(t, "promtool", "prometheus")
	for _, kind := range []struct{ check, files string }{{"check", "rules/*.yml"}, {"test", "tests/*_test.yml"}} {
		t.Run(kind.check, func(t *testing.T) {
			files := glob(t, kind.files)
			out, err := exec.CommandContext(t.Context(), promtool, append([]string{kind.check, "rules"}, files...)...).CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// A promise is what an alert's windows and its for sum up to: it fires then at the latest, and
// sooner where a rate or an average is far beyond its threshold. Where the trouble is a level that has to be
// reached first, the age of a snapshot, the rule's comment says how long that takes by default.
func TestWindowAndForAreThePromise(t *testing.T) {
	reached := map[string]time.Duration{
		"OpenClawSnapshotTooOld": time.Minute, "OpenClawReconcileStale": 20 * time.Minute,
		"OpenClawNodeDown":     time.Minute, // in openclaw:node:down
		"OpenClawExporterDown": time.Minute, "OpenClawTokenBucketEmpty": 30 * time.Second,
		"OpenClawAbsent":                   time.Minute, // its day is memory, no delay
		"OpenClawTokenBucketOverflowInUse": 0,           // any overflow begins it; the window only says when it ends
	}
	window := regexp.MustCompile(`\[(\w+)\]`)
	for _, r := range alerting(t) {
		promised, want := duration(t, r.Annotations["promised"]), duration(t, r.For)
		longest, ok := reached[r.Alert]
		for _, m := range window.FindAllStringSubmatch(r.Expr, -1) {
			if !ok {
				longest = max(longest, duration(t, m[1]))
			}
		}
		if want += longest; promised != want {
			t.Errorf("%s promises %v; its window and for are %v", r.Alert, promised, want)
		}
	}
}

// duration reads Prometheus' format, which has days.
func duration(t *testing.T, text string) time.Duration {
	t.Helper()
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n int
		if _, err := fmt.Sscan(days, &n); err == nil {
			return time.Duration(n) * 24 * time.Hour
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Errorf("duration %q: %v", text, err)
	}
	return d
}

// Who is woken reads the description first: which node, which bucket, and where to read on.
func TestEveryAlertSaysWhatItIsAbout(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range alerting(t) {
		if seen[r.Alert] || !strings.HasPrefix(r.Alert, "OpenClaw") {
			t.Errorf("%s: twice, or without the prefix", r.Alert)
		}
		seen[r.Alert] = true
		if !slices.Contains([]string{"critical", "warning", "none"}, r.Labels["severity"]) {
			t.Errorf("%s: severity %q", r.Alert, r.Labels["severity"])
		}
		said := r.Annotations["description"]
		if r.Annotations["summary"] == "" || said == "" || len(r.Annotations) != 4 {
			t.Errorf("%s: annotations %v", r.Alert, r.Annotations)
		}
		for _, label := range []string{"node", "bucket", "peer"} {
			carries := strings.Contains(r.Expr, "group_left ("+label) || strings.Contains(r.Expr, "openclaw_exporter_node_") && label == "node" ||
				strings.Contains(r.Expr, "openclaw_token_bucket") && label == "bucket" ||
				strings.Contains(r.Expr, "_lag_seconds") && label == "peer"
			if carries && !strings.Contains(said, "$labels."+label) {
				t.Errorf("%s: its description names no %s", r.Alert, label)
			}
		}
		if !strings.Contains(said, "ode ") && !strings.Contains(r.Expr, "prometheus_") && !strings.Contains(r.Expr, "openclaw_exporter_") && r.Labels["severity"] != "none" {
			t.Errorf("%s: its description names no node: %s", r.Alert, said)
		}
		if strings.Contains(r.Expr, "job=") {
			t.Errorf("%s: a hard-coded job", r.Alert)
		}
	}
	for _, name := range []string{"OpenClawTokenBucketRefillLow", "OpenClawTokenBucketRejectionSpike", "OpenClawTokenBucketEmpty"} {
		if !seen[name] {
			t.Errorf("no %s, which the alerting guide names", name)
		}
	}
}

// The configuration that README.md shows is one.
func TestThePrometheusConfigInTheReadmeIsGood(t *testing.T) {
	promtool := tool(t, "promtool", "prometheus")
	m := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindStringSubmatch(read(t, "README.md"))
	if m == nil {
		t.Fatal("none")
	}
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "prometheus.yml")
	write(t, file, strings.ReplaceAll(m[1], "alerts/rules", filepath.Join(wd, "rules")))
	out, err := exec.CommandContext(t.Context(), promtool, "check", "config", file).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "SUCCESS: 6 rule files found") {
		t.Errorf("%v\n%s", err, out)
	}
}
