package alerts

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"golang.org/x/sync/errgroup"
)

var allMutations = flag.Bool("mutations", false, "try every mutation of the rules (some minutes); otherwise a part that changes by the hour")

// parts is how many hours it takes until each mutation had its turn.
const parts = 48

// turn is the part of this hour.
func turn() int { return int(time.Now().Unix()/3600) % parts }

// testCase is one entry of tests: in a file for promtool.
type testCase struct {
	every string // evaluation_interval of its file
	text  string // the entry itself
	name  string
}

// mutant is a rule with one thing changed.
type mutant struct {
	rule
	what string // was changed
}

// A rule that does not do what it says is worse than none. So each rule is removed, each number,
// window, for and operator slipped, each label dropped from a join: some test must see it.
func TestEveryMutationIsCaught(t *testing.T) {
	promtool := tool(t, "promtool", "prometheus")
	all, cases := rules(t), testCases(t)
	var tried []mutant
	for _, r := range all {
		for _, m := range mutate(r) {
			if survivor[r.name()+": "+m.what] != "" {
				continue
			}
			if tried = append(tried, m); !*allMutations && len(tried)%parts != turn() {
				tried[len(tried)-1].what = ""
			}
		}
	}
	count := 0
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(2)
	for _, m := range tried {
		if m.what == "" {
			continue
		}
		count++
		g.Go(func() error {
			caught, err := catch(ctx, promtool, t.TempDir(), m, all, cases)
			if err == nil && !caught {
				t.Errorf("%s: no test notices: %s\n%s", m.name(), m.what, m.Expr)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d mutations tried", count, len(tried))
	if count < len(tried)/parts/2 {
		t.Error("too few")
	}
}

// survivor names the mutations that change nothing, and says why.
var survivor = map[string]string{
	"openclaw:node:info: 1 is 1.5 (0)":     "topk cuts it to 1",
	"OpenClawExporterDown: [1m] is [120s]": "the window bridges scrapes that fail, the 60 s decide",
	"OpenClawLimitsDiffer: [1m] is [120s]": "the window bridges scrapes that fail",
	"OpenClawGossipSilent: [1m] is [120s]": "a member that has left is gone before its rate is 0",
	`OpenClawAllStoresFailing: op="put",store!="disk",result!="ok" is op="put",store!="disk" (0)`: "calls of which none is ok have all failed",
	"OpenClawReconcileStale: [1m] is [120s]":                                                      "the window bridges scrapes that fail",
	"OpenClawSnapshotTooOld: [1m] is [120s]":                                                      "the window bridges scrapes that fail",
	"OpenClawReconcileStale: 0 is 1 (0)":                                                          "0 is never, and nobody had a success in January 1970",
	"OpenClawSnapshotTooOld: 0 is 1 (0)":                                                          "0 is never, and nobody had a success in January 1970",
	"OpenClawSplitGroups: 1 is 1.5 (0)":                                                           "groups are whole",
	"OpenClawWatchdog: 1 is 1.5 (0)":                                                              "nobody reads its value",
	"OpenClawWatchdog: 1 is 0.666667 (0)":                                                         "nobody reads its value",
	"OpenClawTokenBucketEmpty: [30s] is [15s]":                                                    "a scrape less is what Prometheus 2 and 3 differ by at a window's edge",
	`OpenClawReconcileFailing: result="failed" is  (0)`:                                           "where none was ok, all have failed",
}

// testCases reads all test files.
func testCases(t *testing.T) (all []testCase) {
	t.Helper()
	for _, file := range glob(t, "tests/*_test.yml") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var f struct {
			RuleFiles []string         `yaml:"rule_files"`
			Order     []string         `yaml:"group_eval_order"`
			Every     string           `yaml:"evaluation_interval"`
			Tests     []map[string]any `yaml:"tests"`
		}
		if err := yaml.UnmarshalWithOptions(text, &f, yaml.Strict()); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, entry := range f.Tests {
			text, err := json.Marshal(entry) // JSON is YAML, and no string in it is mistaken for a number
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, testCase{every: f.Every, text: string(text), name: fmt.Sprint(file, ": ", entry["name"])})
		}
	}
	return all
}

// needs are the rules that a case asks about, and what those read: promtool is as slow as there
// are rules.
func (c *testCase) needs(all []rule) (loaded []rule) {
	everything := strings.Contains(c.text, "alertname!=")
	asked := c.text
	for _, r := range slices.Backward(all) { // alerts before what they read, and that in reverse order too
		if names(asked, r.name()) || everything {
			loaded = append(loaded, r)
			asked += " " + r.Expr
		}
	}
	slices.Reverse(loaded)
	return loaded
}

// names says whether name stands in text, and not as a part of another name.
func names(text, name string) bool {
	return regexp.MustCompile(`\b` + name + `\b`).MatchString(text)
}

// catch runs the cases that load the rule, those that name it first, until one fails.
func catch(ctx context.Context, promtool, dir string, m mutant, all []rule, cases []testCase) (bool, error) {
	for _, naming := range []bool{true, false} {
		for _, c := range cases {
			if names(c.text, m.name()) != naming {
				continue
			}
			loaded := c.needs(all)
			i := slices.IndexFunc(loaded, func(r rule) bool { return r.name() == m.name() })
			if i < 0 {
				continue
			}
			if loaded[i] = m.rule; m.Expr == "" {
				loaded = slices.Delete(loaded, i, i+1)
			}
			failed, err := promtoolFails(ctx, promtool, dir, loaded, c)
			if failed || err != nil {
				return failed, err
			}
		}
	}
	return false, nil
}

// promtoolFails runs one case on rules.
func promtoolFails(ctx context.Context, promtool, dir string, loaded []rule, c testCase) (bool, error) {
	file := ruleFile{Groups: []ruleGroup{{Name: "all", Rules: loaded}}}
	text, err := json.Marshal(file)
	if err != nil {
		return false, err
	}
	test := fmt.Sprintf(`{"rule_files": ["rules.yml"], "evaluation_interval": %q, "tests": [%s]}`, c.every, c.text)
	err = errors.Join(os.WriteFile(filepath.Join(dir, "rules.yml"), text, 0o600), os.WriteFile(filepath.Join(dir, "test.yml"), []byte(test), 0o600))
	if err != nil {
		return false, err
	}
	cmd := exec.CommandContext(ctx, promtool, "test", "rules", "test.yml")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return false, nil
	case errors.As(err, &exit) && strings.Contains(string(out), "FAILED"):
		return true, nil
	}
	return false, fmt.Errorf("promtool: %w\n%s", err, out)
}

// The cases hold when nothing is mutated: else a mutant would be caught by mistake.
func TestCasesHoldOneByOne(t *testing.T) {
	promtool := tool(t, "promtool", "prometheus")
	all := rules(t)
	for i, c := range testCases(t) {
		if !*allMutations && i%4 != turn()%4 {
			continue // all together they are held by TestRulesPassPromtool
		}
		failed, err := promtoolFails(t.Context(), promtool, t.TempDir(), c.needs(all), c)
		if err != nil || failed {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: nothing, %v", pattern, err)
	}
	return files
}
