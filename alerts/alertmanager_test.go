package alerts

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const configFile = "alertmanager/alertmanager.yml"

func TestAlertmanagerConfigPassesAmtool(t *testing.T) {
	amtool := tool(t, "amtool", "prometheus-alertmanager")
	if out, err := exec.CommandContext(t.Context(), amtool, "check-config", configFile).CombinedOutput(); err != nil || !strings.Contains(string(out), "1 templates") {
		t.Errorf("%v\n%s", err, out)
	}
	for _, c := range []struct{ labels, receivers string }{
		{"alertname=OpenClawWatchdog severity=none", "deadman"},
		{"alertname=OpenClawNodeDown severity=warning node=edge-2", "tell"},
		{"alertname=OpenClawClusterSplit severity=critical node=edge-2", "page"},
		{"alertname=OpenClawTokenBucketRefillLow severity=critical failover=backup node=edge-2", "failover-edge-2,page"},
		{"alertname=OpenClawTokenBucketRefillStalled severity=critical failover=backup node=edge-3", "failover-edge-3,page"},
		{"alertname=OpenClawTokenBucketRefillLow severity=critical failover=backup node=unknown", "page"},
	} {
		args := append([]string{"config", "routes", "test", "--config.file", configFile, "--verify.receivers", c.receivers}, strings.Fields(c.labels)...)
		if out, err := exec.CommandContext(t.Context(), amtool, args...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", c.labels, err, out)
		}
	}
}

// Every template is rendered, with what Alertmanager gives when nothing is said.
func TestTemplatesRender(t *testing.T) {
	amtool := tool(t, "amtool", "prometheus-alertmanager")
	text := read(t, "alertmanager/templates/openclaw.tmpl")
	data := filepath.Join(t.TempDir(), "data.json")
	write(t, data, `{"status":"firing","groupLabels":{"job":"edge"},"commonLabels":{"severity":"critical"},"commonAnnotations":{"runbook_url":"URL"},
		"alerts":[{"status":"firing","labels":{"alertname":"A"},"annotations":{"summary":"SUMMARY","description":"SAID","runbook_url":"URL"},"startsAt":"2026-01-01T10:00:00Z"}]}`)
	for name, want := range map[string]string{"title": "1 firing: SUMMARY", "text": "SAID\nSince 10:00:00 UTC. What to do: URL", "html": "<b>A</b><br>SAID", "color": "danger", "runbook": "URL"} {
		if !strings.Contains(text, `define "openclaw.`+name+`"`) || !strings.Contains(read(t, configFile), `template "openclaw.`+name+`"`) {
			t.Errorf("openclaw.%s is not defined, or not used", name)
		}
		out, err := exec.CommandContext(t.Context(), amtool, "template", "render", "--template.glob=alertmanager/templates/*.tmpl",
			"--template.data="+data, `--template.text={{ template "openclaw.`+name+`" . }}`).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("openclaw.%s: %v\n%s", name, err, out)
		}
	}
}

// Secrets come from files, and every alert that is named is one of ours.
func TestAlertmanagerConfigHoldsNoSecretsAndNoStrangers(t *testing.T) {
	text := read(t, configFile)
	for _, m := range regexp.MustCompile(`(?m)^[^#\n]*\b(api_url|routing_key|service_key|smtp_auth_password|password|credentials|bearer_token|slack_api_url):`).FindAllString(text, -1) {
		t.Errorf("a secret in the config: %s", m)
	}
	var known []string
	for _, r := range alerting(t) {
		known = append(known, r.Alert)
	}
	named := regexp.MustCompile(`\bOpenClaw[A-Z]\w+`).FindAllString(text, -1)
	for _, name := range named {
		if !slices.Contains(known, name) {
			t.Errorf("no alert is called %s", name)
		}
	}
	if len(named) < 20 {
		t.Errorf("only %d alerts named", len(named))
	}
}
