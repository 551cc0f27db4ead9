package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func deployed(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTheUnitIsOneForSystemd(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	text := deployed(t, "openclaw-edge.service")
	command := regexp.MustCompile(`ExecStart=(\S+)`).FindStringSubmatch(text)
	if command == nil {
		t.Fatal("it starts nothing")
	}
	self, err := os.Executable() // verify wants the command to be there
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(t.TempDir(), "openclaw-edge.service")
	if err := os.WriteFile(unit, []byte(strings.Replace(text, command[1], self, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", unit).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("verify: %v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), analyze, "security", "--offline=true", "--threshold=20", unit).CombinedOutput()
	if err != nil { // an exposure over 2.0 of 10
		t.Errorf("security: %v\n%s", err, out)
	}
}
