package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"openclaw-edge": main, "grpcurl": grpcurl})
}

// The scripts of testdata/script are the command's documentation too.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Deadline:            time.Now().Add(time.Minute), // for a node that starts and should not
	})
}

// The first minute of a new user: start it, copy the line that it prints, stop it.
func TestTheLineThatItPrintsWorks(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	// Under the name that TestMain knows, this test's binary is the command.
	cmd := exec.CommandContext(ctx, self)
	cmd.Args = []string{"openclaw-edge", "--node=edge-1", "--http=127.0.0.1:0", "--grpc=127.0.0.1:0", "--metrics-port=0", "--gossip=127.0.0.1:0",
		"--data-dir=" + data, "--log-file=" + data + "/log"}
	cmd.Env = []string{} // no OPENCLAW_… of the developer's
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`^\s*curl -i -X POST (http://127\.0\.0\.1:\d+/v1/take/per-user/alice)$`)
	var said []string
	var url string
	for in := bufio.NewScanner(out); url == "" && in.Scan(); {
		said = append(said, in.Text())
		if m := line.FindStringSubmatch(in.Text()); m != nil {
			url = m[1]
		}
	}
	if url == "" || !strings.Contains(said[0], "rate limiter") {
		t.Fatalf("no line to try in:\n%s", strings.Join(said, "\n"))
	}
	resp, err := http.Post(url, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 200 || !strings.Contains(string(body), `"remaining":99`) || resp.Header.Get("RateLimit") != `"per-user";r=99;t=0` {
		t.Errorf("%s %v %s", resp.Status, resp.Header, body)
	}

	second := exec.CommandContext(ctx, self)
	second.Args, second.Env = cmd.Args, cmd.Env
	refused, err := second.CombinedOutput()
	if err == nil || !strings.Contains(string(refused), "--data-dir") {
		t.Errorf("a second process on the data directory: %v %s", err, refused)
	}

	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("stopped by SIGTERM: %v", err)
	}
}
