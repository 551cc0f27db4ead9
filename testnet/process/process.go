// Package process runs real openclaw-edge processes: each on free ports or given ones, with its
// own data directory, and gone when whoever started it is gone.
//
//	Build(dir) ─▶ New(Options) ─▶ *Process: Start, Listening, Stop, Kill, Pause; Take, Get, Metric
//
//	Start(t, Options) ─▶ *Node: the same for a test, which it fails, and ends with
//	                       │
//	                     Load: takes at a steady rate over HTTP
package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/openclaw/edge/testnet/program"
)

// Options say how to start a node. Node and Region are required.
type Options struct {
	Node, Region string
	Binary       string // openclaw-edge; Start builds it if there is none
	Join         []string
	Config       string // YAML; "": built-in limits
	Dir          string // data directory; Start makes one if there is none
	Host         string // to listen on; "": 127.0.0.1
	Gossip       string // HOST:PORT; "": Host and a free port
	API          string // HOST:PORT of HTTP; "": Host and a free port, another after each start
	MetricsPort  int    // 0: a free one
	Advertise    string
	Env, Wrap    []string // Wrap: a command to run it under, such as ip netns exec NAME
	Log          string   // level; "": warn
	Args         []string // further flags
}

// Process is one openclaw-edge and its data directory. Its calls over HTTP may be made from any
// goroutine, the others from one.
type Process struct {
	Options
	Addresses
	cmd    *exec.Cmd
	ended  chan struct{} // closed when it has; nil before the first start
	err    error         // how it ended, then
	client *http.Client
}

// Addresses are those in addresses.json.
type Addresses struct{ HTTP, Metrics, Gossip string }

// New is a process that does not run yet.
func New(o Options) *Process {
	for to, fallback := range map[*string]string{&o.Host: "127.0.0.1", &o.Log: "warn"} {
		if *to == "" {
			*to = fallback
		}
	}
	for _, to := range []*string{&o.Gossip, &o.API} {
		if *to == "" {
			*to = o.Host + ":0"
		}
	}
	return &Process{Options: o, client: &http.Client{
		Timeout: 5 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 256},
	}}
}

func (p *Process) file(name string) string { return filepath.Join(p.Dir, name) }

// Start starts it, in the data directory that the last start left, and does not wait.
func (p *Process) Start() error {
	if p.Running() {
		return fmt.Errorf("process: %s runs already", p.Node)
	}
	if err := p.WriteConfig(p.Config); err != nil {
		return err
	}
	os.Remove(p.file("addresses.json"))
	logs, err := os.OpenFile(p.file("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("process: %w", err)
	}
	words := append(append(append([]string{}, p.Wrap...), p.Binary), p.flags()...)
	cmd, ended := exec.Command(words[0], words[1:]...), make(chan struct{})
	cmd.Stdout, cmd.Stderr = logs, logs
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C in a terminal is for the one that started it
	err = program.Child(cmd, func() {
		p.err = cmd.Wait()
		logs.Close()
		close(ended)
	})
	if err != nil {
		logs.Close()
		return fmt.Errorf("process: %w", err)
	}
	p.cmd, p.ended = cmd, ended
	p.client.CloseIdleConnections() // those to the last one
	return nil
}

func (p *Process) flags() []string {
	flags := []string{
		"--node", p.Node, "--region", p.Region, "--http", p.API, "--grpc", p.Host + ":0", "--metrics-port", fmt.Sprint(p.MetricsPort),
		"--gossip", p.Options.Gossip, "--data-dir", p.Dir, "--log-level", p.Log,
	}
	if p.Advertise != "" {
		flags = append(flags, "--advertise", p.Advertise)
	}
	if len(p.Join) > 0 {
		flags = append(flags, "--join", strings.Join(p.Join, ","))
	}
	if p.Config != "" {
		flags = append(flags, "--config", p.file("config.yaml"))
	}
	return append(flags, p.Args...)
}

// WriteConfig puts a file in the place of the one that the process reads: whole, as it may be
// looking. "" leaves what is there.
func (p *Process) WriteConfig(text string) error {
	p.Config = text
	if text == "" {
		return nil
	}
	err := os.WriteFile(p.file("config.yaml.new"), []byte(text), 0o600)
	if err == nil {
		err = os.Rename(p.file("config.yaml.new"), p.file("config.yaml"))
	}
	if err != nil {
		return fmt.Errorf("process: %w", err)
	}
	return nil
}

// listening reads the addresses, if the process has written them.
func (p *Process) listening() bool {
	var a Addresses
	b, err := os.ReadFile(p.file("addresses.json"))
	if err != nil || json.Unmarshal(b, &a) != nil {
		return false
	}
	for to, bound := range map[*string]string{&p.HTTP: a.HTTP, &p.Metrics: a.Metrics, &p.Addresses.Gossip: a.Gossip} {
		if *to != bound { // else a load may be reading it
			*to = bound
		}
	}
	return true
}

// Listening waits until it listens, and knows the addresses then.
func (p *Process) Listening(within time.Duration) error {
	return p.poll(within, "listens", p.listening)
}

// poll waits until ok, the end of the process, or of within.
func (p *Process) poll(within time.Duration, what string, ok func() bool) error {
	for start := time.Now(); !ok(); time.Sleep(10 * time.Millisecond) {
		if !p.Running() {
			return fmt.Errorf("process: %s ended before it %s: %v\n%s", p.Node, what, p.err, p.Logs())
		}
		if time.Since(start) > within {
			return fmt.Errorf("process: %s: not within %v: %s\n%s", p.Node, within, what, p.Logs())
		}
	}
	return nil
}

// Running tells whether the process lives.
func (p *Process) Running() bool {
	if p.ended == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Ended is closed when the process of the last start has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Logs is what the processes in this directory have written.
func (p *Process) Logs() string {
	b, _ := os.ReadFile(p.file("log"))
	return string(b)
}

// signal goes to the process and what it is wrapped in. A process that has ended is no process
// group any more, and its number may be another's.
func (p *Process) signal(s syscall.Signal) {
	if p.Running() {
		syscall.Kill(-p.cmd.Process.Pid, s)
	}
}

// Kill kills with SIGKILL and waits. What does not run is left alone.
func (p *Process) Kill() {
	p.signal(syscall.SIGKILL)
	if p.ended != nil {
		<-p.ended
	}
}

// Term asks it to stop, with SIGTERM.
func (p *Process) Term() { p.signal(syscall.SIGTERM) }

// Pause stops the process with SIGSTOP; Resume lets it go on.
func (p *Process) Pause()  { p.signal(syscall.SIGSTOP) }
func (p *Process) Resume() { p.signal(syscall.SIGCONT) }

// stopWithin is how long a process may take to stop: a node's own deadlines and some.
const stopWithin = 20 * time.Second

// ErrAlive is what Stop says, wrapped, of a process that it had to kill.
var ErrAlive = errors.New("process: still alive")

// Stop stops with SIGTERM and waits. An error says how it ended if not as it should; one that
// does not end is killed.
func (p *Process) Stop() error {
	if !p.Running() {
		return p.err
	}
	p.Term()
	select {
	case <-p.ended:
		return p.err
	case <-time.After(stopWithin):
	}
	p.Kill()
	return fmt.Errorf("%w: %s, %v after SIGTERM\n%s", ErrAlive, p.Node, stopWithin, p.Logs())
}

// Wipe empties the data directory of a node that does not run; its log stays.
func (p *Process) Wipe() error {
	held, err := os.ReadDir(p.Dir)
	if err != nil {
		return fmt.Errorf("process: %w", err)
	}
	for _, e := range held {
		if e.Name() == "log" {
			continue
		}
		if err := os.RemoveAll(p.file(e.Name())); err != nil {
			return fmt.Errorf("process: %w", err)
		}
	}
	return nil
}
