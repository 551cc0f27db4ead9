package alerts

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// The rules of the alerting guide, as it prints them, do not work; these files keep them, and
// say how each fails. Should one of them begin to work, what we mended was no mistake.
func TestTheGuidesOwnRulesFail(t *testing.T) {
	promtool := tool(t, "promtool", "prometheus")
	for _, c := range []struct{ file, says string }{
		{"printed.yml", "yaml"},                  // the page has lost its indentation
		{"indented.yml", "only allowed between"}, // one bad rule, and Prometheus refuses the file
		{"parses.yml", ""},
	} {
		out, err := exec.CommandContext(t.Context(), promtool, "check", "rules", "testdata/guide/"+c.file).CombinedOutput()
		if (err == nil) != (c.says == "") || !strings.Contains(string(out), c.says) {
			t.Errorf("%s: %v, want %q in\n%s", c.file, err, c.says, out)
		}
	}
	var guide ruleFile
	if err := yaml.Unmarshal([]byte(read(t, "testdata/guide/parses.yml")), &guide); err != nil {
		t.Fatal(err)
	}
	var broken []struct {
		Reason   string              `yaml:"reason"`
		Series   []map[string]string `yaml:"series"`
		Alert    string              `yaml:"alert"`
		At       string              `yaml:"at"`
		Expected string              `yaml:"expected"`
	}
	if err := yaml.Unmarshal([]byte(read(t, "testdata/guide/expected.yml")), &broken); err != nil {
		t.Fatal(err)
	}
	if len(broken) < 9 {
		t.Errorf("only %d reasons", len(broken))
	}
	for _, b := range broken {
		series, err := json.Marshal(b.Series)
		if err != nil {
			t.Fatal(err)
		}
		samples := "[]"
		if b.Expected != "" {
			samples = fmt.Sprintf(`[{"labels": %q, "value": 1}]`, b.Expected)
		}
		expr := fmt.Sprintf(`group by (instance) (ALERTS{alertname=~%q,alertstate="firing"})`, b.Alert)
		c := testCase{every: "15s", text: fmt.Sprintf(`{"interval": "15s", "input_series": %s, "promql_expr_test": [{"expr": %q, "eval_time": %q, "exp_samples": %s}]}`, series, expr, b.At, samples)}
		failed, err := promtoolFails(t.Context(), promtool, t.TempDir(), guide.Groups[0].Rules, c)
		if err != nil || !failed {
			t.Errorf("the guide's rules do not fail: %s (%v)", b.Reason, err)
		}
	}
}
