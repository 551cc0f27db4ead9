package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"openclaw-testnet": main})
}

// The scripts of testdata/script are the command's documentation too.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Deadline:            time.Now().Add(8 * time.Minute), // with the race detector virtual time is slow, too,
	})
}

// An interrupt in the middle of a play ends it at once, and leaves nothing behind.
func TestAnInterruptLeavesNothing(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	cmd := exec.CommandContext(t.Context(), self) // under the name that TestMain knows it is the command
	cmd.Args = []string{"openclaw-testnet", "run", "kv-outage", "--report=" + temp + "/report"}
	cmd.Env = append(os.Environ(), "TMPDIR="+temp)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := ""
	for buf := make([]byte, 1000); err == nil && !strings.Contains(said, " load\n"); { // the nodes have found each other
		var n int
		n, err = out.Read(buf)
		said += string(buf[:n])
	}
	began := time.Now()
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	go func() {
		for buf := make([]byte, 1000); ; { // else it may wait for us
			if _, err := out.Read(buf); err != nil {
				return
			}
		}
	}()
	err = cmd.Wait()
	if err == nil || !strings.Contains(errs.String(), "stopped") || time.Since(began) > 20*time.Second {
		t.Errorf("ended after %v with %v: %s\n%s", time.Since(began), err, errs.String(), said)
	}
	left, err := os.ReadDir(temp)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
