package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/openclaw/edge/testnet/process"
	"github.com/openclaw/edge/testnet/program"
)

// contractMetrics is every metric of the contract that a node without stores owns.
var contractMetrics = strings.Fields(`
	openclaw_token_bucket_refill_rate openclaw_token_bucket_config_refill_rate openclaw_token_bucket_current_tokens
	openclaw_http_requests_total openclaw_token_bucket_refilled_tokens_total openclaw_token_bucket_capacity_tokens
	openclaw_token_bucket_debt_tokens openclaw_token_bucket_live_keys openclaw_token_bucket_dry_keys
	openclaw_token_bucket_takes_total openclaw_token_bucket_evicted_total
	openclaw_cluster_members openclaw_cluster_expected_members openclaw_cluster_refill_speed
	openclaw_gossip_frames_received_total openclaw_gossip_frames_dropped_total openclaw_gossip_bytes_total
	openclaw_replication_lag_seconds openclaw_clock_skew_seconds openclaw_replication_repairs_total
	openclaw_config_last_reload_successful openclaw_config_drift openclaw_build_info`)

// The sixty seconds of README.md, command by command, with the output as it is written
// there; then the metrics that the page and the contract name.
func TestSixtySecondsAreAsWritten(t *testing.T) {
	for _, tool := range []string{"bash", "curl", "grep", "sort", "uniq"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	r := newReader(t)
	for _, block := range blocks(section(t, "Sixty seconds"), "console") {
		for _, c := range commands(block) {
			if strings.HasPrefix(c.text, "go run ./cmd/openclaw-edge") {
				r.start(c)
			} else {
				r.run(c)
			}
		}
	}
	if len(r.nodes) != 3 {
		t.Errorf("%d nodes were started", len(r.nodes))
	}
	r.metrics()
	t.Run("the other doors", func(t *testing.T) { (&doors{reader: r.in(t)}).open() })
	for _, n := range r.nodes {
		n.stop(t)
	}
}

// command is one line after a prompt, and the output written below it.
type command struct{ text, output string }

func commands(block string) (all []command) {
	for line := range strings.Lines(block) {
		if text, ok := strings.CutPrefix(line, "$ "); ok {
			all = append(all, command{text: strings.TrimSpace(text)})
		} else if len(all) > 0 {
			all[len(all)-1].output += line
		}
	}
	return all
}

// reader is somebody who follows the page, in a directory and on ports of their own.
type reader struct {
	t     *testing.T
	dir   string
	env   []string
	ports map[string]string // as written: as used
	pause time.Duration     // between two looks
	nodes []*served
}

func newReader(t *testing.T) *reader {
	r := &reader{t: t, dir: t.TempDir(), ports: map[string]string{}, pause: 50 * time.Millisecond}
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, filepath.Join(r.dir, "openclaw-edge")) // TestMain knows the name
	}
	if err == nil {
		err = os.Symlink(process.Command(t, "openclawctl"), filepath.Join(r.dir, "openclawctl"))
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range portWritten.FindAllStringSubmatch(section(t, "Sixty seconds")+section(t, doorsHeading)+deployed(t, "haproxy.cfg"), -1) {
		if r.ports[m[1]] == "" {
			_, r.ports[m[1]], _ = net.SplitHostPort(process.FreeAddr(t))
		}
	}
	r.env = []string{
		"PATH=" + r.dir + ":" + os.Getenv("PATH"), "HOME=" + r.dir, "LC_ALL=C", "OPENCLAW_NODE=laptop",
		// The defaults' place is taken by what is free here; flags come before these.
		"OPENCLAW_HTTP=127.0.0.1:" + r.ports["8080"], "OPENCLAW_GOSSIP=127.0.0.1:" + r.ports["7946"],
		"OPENCLAW_METRICS_PORT=" + r.ports["9100"], "OPENCLAW_GRPC=127.0.0.1:0", "OPENCLAW_ADDR=127.0.0.1:" + r.ports["8080"],
	}
	return r
}

var portWritten = regexp.MustCompile(`(?:127\.0\.0\.1:|--metrics-port=)(\d+)`)

// in is the same reader, in a part of the test.
func (r *reader) in(t *testing.T) *reader { part := *r; part.t = t; return &part }

// moved puts the ports that are used in the place of those that are written.
func (r *reader) moved(text string) string {
	return portWritten.ReplaceAllStringFunc(text, func(s string) string {
		port := portWritten.FindStringSubmatch(s)[1]
		return strings.TrimSuffix(s, port) + r.ports[port]
	})
}

func (r *reader) bash(text string) *exec.Cmd {
	text = r.moved(text)
	text = strings.ReplaceAll(text, "go run ./cmd/openclawctl", "openclawctl")
	cmd := exec.CommandContext(r.t.Context(), "bash", "-c", text)
	cmd.Dir, cmd.Env = r.dir, r.env
	return cmd
}

// plain makes an output comparable: ports as written, and what differs from run to run gone.
func (r *reader) plain(output string) string {
	for written, used := range r.ports {
		output = strings.ReplaceAll(output, "127.0.0.1:"+used, "127.0.0.1:"+written)
	}
	output = strings.ReplaceAll(output, "\r\n", "\n")
	for _, v := range variable {
		output = v.pattern.ReplaceAllString(output, v.by)
	}
	return strings.TrimSpace(output)
}

var variable = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`OpenClaw Edge \S+:`), "OpenClaw Edge VERSION:"},
	{regexp.MustCompile(`(?m)^Date: .*$`), "Date: NOW"},
	{regexp.MustCompile(`(?m)^Content-Length: .*$`), "Content-Length: N"},
	{regexp.MustCompile(`(?m)^Retry-After: [1-9]\d*$`), "Retry-After: N"},
	{regexp.MustCompile(`r=\d+;t=[1-9]\d*`), "r=N;t=N"},
	{regexp.MustCompile(`("allowed":false.*"remaining":)\d+(.*"retry_after_ms":)[1-9]\d*`), "${1}N${2}N"},
	{regexp.MustCompile(`"tokens":\d+`), `"tokens":N`},
	{regexp.MustCompile(`"writer":"[0-9a-f]+"`), `"writer":"W"`},
	{regexp.MustCompile(`"id":"[\w-]{32}"`), `"id":"ID"`},
	{regexp.MustCompile(`"expires_at":"[\d-]{10}T[\d:]{8}Z"`), `"expires_at":"THEN"`},
	{regexp.MustCompile(`(?m)^ *\d+ (\d{3})$`), "N $1"},
}

const patience = 30 * time.Second

// run runs a command. What only looks is looked at again until it shows what is written:
// news needs a round, a drill half a second.
func (r *reader) run(c command) {
	r.t.Helper()
	want := r.plain(c.output)
	for end := time.Now().Add(patience); ; time.Sleep(r.pause) {
		out, err := r.bash(c.text).Output()
		got := r.plain(string(out))
		if err == nil && got == want {
			return
		}
		if strings.Contains(c.text, "-X POST") || time.Now().After(end) {
			r.t.Fatalf("$ %s\n%v\ngot:\n%s\nwant:\n%s", c.text, err, got, want)
		}
	}
}

// served is a node that was started.
type served struct {
	cmd  *exec.Cmd
	done chan error
	out  program.Output
	log  program.Output
}

// start starts a node, and waits until it has said what is written.
func (r *reader) start(c command) {
	r.t.Helper()
	n := &served{cmd: r.bash("exec " + strings.Replace(c.text, "go run ./cmd/openclaw-edge", "openclaw-edge", 1)), done: make(chan error, 1)}
	n.cmd.Stdout, n.cmd.Stderr = &n.out, &n.log
	if err := n.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.nodes = append(r.nodes, n)
	go func() { n.done <- n.cmd.Wait() }()
	r.t.Cleanup(func() {
		n.cmd.Process.Kill()
		if r.t.Failed() {
			r.t.Logf("$ %s\n%s%s", c.text, &n.out, &n.log)
		}
	})
	want := r.plain(c.output)
	for end := time.Now().Add(patience); !strings.HasPrefix(r.plain(n.out.String()), want); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("$ %s\ngot:\n%s\nwant:\n%s", c.text, r.plain(n.out.String()), want)
		}
	}
}

// stop is Ctrl-C in its terminal.
func (n *served) stop(t *testing.T) {
	t.Helper()
	if err := n.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Error(err)
	}
	if err := <-n.done; err != nil {
		t.Errorf("stopped: %v", err)
	}
}

// metrics compares what a live node of three exports with the contract and the page.
func (r *reader) metrics() {
	r.t.Helper()
	resp, err := http.Get("http://127.0.0.1:" + r.ports["9100"] + "/metrics")
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	var exported []string
	for _, m := range regexp.MustCompile(`(?m)^(openclaw_\w+?)[{ ]`).FindAllSubmatch(body, -1) {
		exported = append(exported, string(m[1]))
	}
	named := regexp.MustCompile(`\bopenclaw_\w+`).FindAllString(readme(r.t), -1)
	for _, name := range slices.Concat(contractMetrics, named) {
		if !slices.Contains(exported, name) && !strings.HasPrefix(name, "openclaw_tls_") { // these only with TLS, where they are looked at
			r.t.Errorf("%s is not exported", name)
		}
	}
}
