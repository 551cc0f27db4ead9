// Package process starts real openclaw-edge processes for tests: built once, on free
// ports, each with its own data directory, and gone when the test ends.
//
//	process.Binary(t) ─▶ Start(t, Options) ─▶ *Node: URL, Stop, Kill, Pause, Restart
//	                                            │
//	                     Offer(t, load) ────────┘ takes at a steady rate over HTTP
package process

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Binary builds openclaw-edge once for the test process and returns its path.
func Binary(t testing.TB) string {
	t.Helper()
	build.Do(func() {
		dir, err := os.MkdirTemp("", "openclaw-edge-*")
		if err != nil {
			build.err = err
			return
		}
		build.path = filepath.Join(dir, "openclaw-edge")
		out, err := exec.Command("go", "build", "-o", build.path, "github.com/openclaw/edge/cmd/openclaw-edge").CombinedOutput()
		if err != nil {
			build.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if build.err != nil {
		t.Fatal(build.err)
	}
	return build.path
}

var build struct {
	sync.Once
	path string
	err  error
}

// Cleanup removes the binary; to be called from TestMain after m.Run.
func Cleanup() {
	if build.path != "" {
		os.RemoveAll(filepath.Dir(build.path))
	}
}

// Options say how to start a node. Node and Region are required.
type Options struct {
	Node, Region string
	Join         []string
	Config       string // YAML; "": built-in limits
	Dir          string // data directory; "": a new one
	Host         string // to listen on; "": 127.0.0.1
	Gossip       string // HOST:PORT; "": Host and a free port
	API          string // HOST:PORT of HTTP; "": Host and a free port, another after each Restart
	Advertise    string
	Env, Wrap    []string // Wrap: a command to run it under, such as ip netns exec NAME
	Log          string   // level; "": warn
	Args         []string // further flags
}

// Node is a running process.
type Node struct {
	Options
	Addresses
	t      testing.TB
	cmd    *exec.Cmd
	done   chan struct{}
	err    error
	logs   *os.File
	client *http.Client
}

// Addresses are those in addresses.json.
type Addresses struct{ HTTP, Metrics, Gossip string }

// Start starts a node and waits until it listens.
func Start(t testing.TB, o Options) *Node {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	if o.Gossip == "" {
		o.Gossip = o.Host + ":0"
	}
	if o.API == "" {
		o.API = o.Host + ":0"
	}
	if o.Log == "" {
		o.Log = "warn"
	}
	n := &Node{Options: o, t: t, client: &http.Client{
		Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 256},
	}}
	n.launch()
	t.Cleanup(func() {
		n.Kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", o.Node, n.Logs())
		}
	})
	return n
}

func (n *Node) launch() {
	n.t.Helper()
	args := []string{
		"--node", n.Node, "--region", n.Region, "--http", n.API, "--grpc", n.Host + ":0", "--metrics-port", "0",
		"--gossip", n.Options.Gossip, "--data-dir", n.Dir, "--log-level", n.Log,
	}
	if n.Advertise != "" {
		args = append(args, "--advertise", n.Advertise)
	}
	if len(n.Join) > 0 {
		args = append(args, "--join", strings.Join(n.Join, ","))
	}
	if n.Config != "" {
		file := filepath.Join(n.Dir, "config.yaml")
		if err := os.WriteFile(file, []byte(n.Config), 0o600); err != nil {
			n.t.Fatal(err)
		}
		args = append(args, "--config", file)
	}
	args = append(args, n.Args...)
	words := append(append([]string{}, n.Wrap...), Binary(n.t))
	words = append(words, args...)
	addresses := filepath.Join(n.Dir, "addresses.json")
	os.Remove(addresses)
	var err error
	if n.logs, err = os.OpenFile(filepath.Join(n.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		n.t.Fatal(err)
	}
	n.cmd = exec.Command(words[0], words[1:]...)
	n.cmd.Stdout, n.cmd.Stderr = n.logs, n.logs
	n.cmd.Env = append(os.Environ(), n.Env...)
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) {
		n.err = cmd.Wait()
		close(done)
	}(n.cmd, n.done)
	n.Eventually(20*time.Second, "listens", func() bool {
		var a Addresses
		b, err := os.ReadFile(addresses)
		if err != nil || json.Unmarshal(b, &a) != nil {
			return false
		}
		if a.HTTP != n.HTTP { // else a load may be reading it
			n.HTTP = a.HTTP
		}
		n.Metrics, n.Addresses.Gossip = a.Metrics, a.Gossip
		return true
	})
}

// Logs is what the process has written.
func (n *Node) Logs() string {
	b, _ := os.ReadFile(filepath.Join(n.Dir, "log"))
	return string(b)
}

// Eventually polls until ok, or fails the test.
func (n *Node) Eventually(within time.Duration, what string, ok func() bool) time.Duration {
	n.t.Helper()
	start := time.Now()
	for !ok() {
		select {
		case <-n.done:
			n.t.Fatalf("%s: ended before it %s: %v\n%s", n.Node, what, n.err, n.Logs())
		default:
		}
		if time.Since(start) > within {
			n.t.Fatalf("%s: not within %v: %s\n%s", n.Node, within, what, n.Logs())
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(start)
}

// Ready waits until /readyz says so.
func (n *Node) Ready(within time.Duration) time.Duration {
	n.t.Helper()
	return n.Eventually(within, "is ready", func() bool { return n.Status("/readyz") == 200 })
}

// Status is the status of a GET; 0 if there was no answer.
func (n *Node) Status(path string) int {
	resp, err := n.client.Get("http://" + n.HTTP + path)
	if err != nil {
		return 0
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp.StatusCode
}

// Get reads a JSON body into v; false if there was no good answer.
func (n *Node) Get(path string, v any) bool {
	resp, err := n.client.Get("http://" + n.HTTP + path)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == 200 && json.NewDecoder(resp.Body).Decode(v) == nil
}

// Post posts without a body and returns the status, 0 if there was no answer.
func (n *Node) Post(path string) int {
	resp, err := n.client.Post("http://"+n.HTTP+path, "", nil)
	if err != nil {
		return 0
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp.StatusCode
}

// Taken is the body of a take.
type Taken struct {
	Allowed   bool    `json:"allowed"`
	Remaining float64 `json:"remaining"`
	Backup    bool    `json:"backup"`
}

// Take takes one token; ok is false if there was no answer.
func (n *Node) Take(limit, key string) (t Taken, ok bool) {
	resp, err := n.client.Post("http://"+n.HTTP+"/v1/take/"+limit+"/"+key, "", nil)
	if err != nil {
		return t, false
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 && resp.StatusCode != 429 {
		return t, false
	}
	err = json.NewDecoder(resp.Body).Decode(&t)
	io.Copy(io.Discard, resp.Body)
	return t, err == nil
}

// Metric reads one series, named as it stands in the exposition; -1 if it is not there.
func (n *Node) Metric(series string) float64 {
	resp, err := n.client.Get("http://" + n.Metrics + "/metrics")
	if err != nil {
		return -1
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return -1
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			var v float64
			if _, err := fmt.Sscan(rest, &v); err == nil {
				return v
			}
		}
	}
	return -1
}

func (n *Node) signal(s syscall.Signal) { syscall.Kill(-n.cmd.Process.Pid, s) }

// Kill kills with SIGKILL and waits.
func (n *Node) Kill() { n.signal(syscall.SIGKILL); <-n.done; n.logs.Close() }

// Wipe empties the data directory of a node that does not run; its log stays.
func (n *Node) Wipe() {
	n.t.Helper()
	held, err := os.ReadDir(n.Dir)
	if err != nil {
		n.t.Fatal(err)
	}
	for _, e := range held {
		if e.Name() == "log" {
			continue
		}
		if err := os.RemoveAll(filepath.Join(n.Dir, e.Name())); err != nil {
			n.t.Fatal(err)
		}
	}
}

// Stop stops with SIGTERM, waits, and returns how the process ended.
func (n *Node) Stop() error {
	n.signal(syscall.SIGTERM)
	select {
	case <-n.done:
	case <-time.After(20 * time.Second):
		n.t.Errorf("%s: still alive 20 s after SIGTERM\n%s", n.Node, n.Logs())
		n.Kill()
	}
	return n.err
}

// Pause stops the process with SIGSTOP; Resume lets it go on.
func (n *Node) Pause()  { n.signal(syscall.SIGSTOP) }
func (n *Node) Resume() { n.signal(syscall.SIGCONT) }

// Restart starts it again with the same options and data directory.
func (n *Node) Restart() { n.t.Helper(); n.launch() }

var given sync.Map // ports that FreeAddr has returned

// FreeAddr returns a loopback address, free for UDP and TCP, that stays so: it is below the ports
// that the kernel hands to connections and to listeners on port 0, and tried only once.
func FreeAddr(t testing.TB) string {
	t.Helper()
	for range 1000 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000))
		if _, taken := given.LoadOrStore(addr, true); taken { // first: to try it is to take it for a moment
			continue
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		l.Close()
		p, err := net.ListenPacket("udp", addr)
		if err != nil {
			continue
		}
		p.Close()
		return addr
	}
	t.Fatal("no port is free for both UDP and TCP")
	return ""
}
