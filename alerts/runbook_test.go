package alerts

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/openclaw/edge/testnet/process"
)

const runbookURL = "https://github.com/openclaw/edge/blob/main/alerts/RUNBOOK.md#"

var (
	heading = regexp.MustCompile(`(?m)^## (.+)\n`)
	shell   = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")
)

// sections are those of the runbook, by heading.
func sections(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	text := read(t, "RUNBOOK.md")
	at := heading.FindAllStringSubmatchIndex(text, -1)
	for i, m := range at {
		end := len(text)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		all[text[m[2]:m[3]]] = text[m[1]:end]
	}
	return all
}

// Alerts, sections and the links between them are the same set, and each section answers the four questions.
func TestEveryAlertHasItsSection(t *testing.T) {
	all := sections(t)
	delete(all, "Five steps for every alert")
	for _, r := range alerting(t) {
		text, ok := all[r.Alert]
		delete(all, r.Alert)
		if !ok {
			t.Errorf("no section %s", r.Alert)
		}
		if want := runbookURL + strings.ToLower(r.Alert); r.Annotations["runbook_url"] != want {
			t.Errorf("%s: runbook_url %s, want %s", r.Alert, r.Annotations["runbook_url"], want)
		}
		last := 0
		for _, part := range []string{"**Means.** ", "**See.**", "```sh\n", "**Do.** ", "**Else.** "} {
			at := strings.Index(text, part)
			if at < last || at < 0 {
				t.Errorf("%s: no %s, or not in its order", r.Alert, part)
			}
			last = at
		}
	}
	for name := range all {
		t.Errorf("section %s is of no alert", name)
	}
	for _, name := range regexp.MustCompile(`\bOpenClaw[A-Z]\w+`).FindAllString(read(t, "RUNBOOK.md"), -1) {
		if !slices.ContainsFunc(alerting(t), func(r rule) bool { return r.Alert == name }) {
			t.Errorf("no alert is called %s", name)
		}
	}
}

// Calls and flags that the text names are those of our programs.
func TestTheRunbookNamesWhatExists(t *testing.T) {
	text := read(t, "RUNBOOK.md")
	routes := read(t, filepath.Join("..", "node", "http_route.go"))
	calls := regexp.MustCompile("`(GET|POST) (/[^\\s?`]*)").FindAllStringSubmatch(text, -1)
	if len(calls) < 15 {
		t.Errorf("only %d calls found", len(calls))
	}
	for _, m := range calls {
		if !strings.Contains(routes, `{"`+m[1]+`", "`+m[2]+`"`) {
			t.Errorf("no route %s %s", m[1], m[2])
		}
	}
	known := ""
	for _, program := range []string{process.Command(t, "openclaw_exporter"), process.Binary(t)} {
		out, err := exec.CommandContext(t.Context(), program, "--help").CombinedOutput()
		if err != nil {
			t.Fatal(err)
		}
		known += string(out)
	}
	schema := read(t, filepath.Join("..", "node", "config_schema.go"))
	for _, m := range regexp.MustCompile("`(--[a-z-]+)`").FindAllStringSubmatch(text, -1) {
		if !regexp.MustCompile(`(?m)\s` + m[1] + `\b`).MatchString(known) {
			t.Errorf("no flag %s", m[1])
		}
	}
	for _, setting := range []string{"refill_rate", "max_buckets", "on_partition", "snapshot_every", "lease", "keys", "version", "cluster"} {
		if !strings.Contains(text, "`"+setting) || !strings.Contains(schema, `yaml:"`+setting+`"`) {
			t.Errorf("setting %s is not in the text, or not in the schema", setting)
		}
	}
}
