// Package program runs programs for tests and testnets.
//
//	Start(path, args…)  ─▶ *Program: one that says in its log where it listens, such as Prometheus,
//	                       Alertmanager or openclaw_exporter, until its owner stops it or is gone
//	Child(cmd, wait)    any program, that ends with this one
//	Output              what a program says, read while it is written
package program

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Program is a process that listens. Safe for concurrent use.
type Program struct {
	Addr string // HOST:PORT

	cmd   *exec.Cmd
	ended chan struct{} // closed when it has, and its log is read

	mu  sync.Mutex // guards log
	log []string
}

const (
	listensWithin = 30 * time.Second
	mostLines     = 500 // of the log that are kept
)

var listening = regexp.MustCompile(`msg="?(?:Listening on|listening)"? (?:address|metrics)="?(?:http://)?(127\.0\.0\.1:\d+)`)

// Start starts a program and waits until it listens on loopback.
func Start(path string, args ...string) (*Program, error) {
	p := &Program{cmd: exec.Command(path, args...), ended: make(chan struct{})}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C in a terminal is for the one that started it
	out, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("program: %w", err)
	}
	found := make(chan string, 1)
	err = Child(p.cmd, func() {
		p.read(out, found)
		p.cmd.Wait()
		close(p.ended)
	})
	if err != nil {
		return nil, fmt.Errorf("program: %w", err)
	}
	select {
	case p.Addr = <-found:
		return p, nil
	case <-p.ended:
		return nil, fmt.Errorf("program: %s ended before it listened:\n%s", filepath.Base(path), p.Log())
	case <-time.After(listensWithin):
		p.Stop()
		return nil, fmt.Errorf("program: %s does not listen after %v:\n%s", filepath.Base(path), listensWithin, p.Log())
	}
}

// read keeps the last lines, and looks for the address in them.
func (p *Program) read(out io.Reader, found chan<- string) {
	for in := bufio.NewScanner(out); in.Scan(); {
		p.mu.Lock()
		if p.log = append(p.log, in.Text()); len(p.log) > mostLines {
			p.log = p.log[mostLines/5:]
		}
		p.mu.Unlock()
		if m := listening.FindStringSubmatch(in.Text()); m != nil {
			select {
			case found <- m[1]:
			default: // it listens on more
			}
		}
	}
	io.Copy(io.Discard, out) // after a line too long for the scanner
}

// Ended is closed when the program has ended.
func (p *Program) Ended() <-chan struct{} { return p.ended }

// Log is the last lines that it wrote.
func (p *Program) Log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.log, "\n")
}

// Stop kills it and waits: what it has on disk is of no use to anybody.
func (p *Program) Stop() {
	p.cmd.Process.Kill()
	<-p.ended
}
