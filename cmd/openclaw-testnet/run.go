package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/openclaw/edge/testnet/scenario"
)

// runCmd plays scenarios, one after the other.
type runCmd struct {
	Scenarios []string `arg:"" optional:"" name:"scenario" help:"Names of --list, or files that end in .txt."`
	All       bool     `help:"All of --list; with --fast, those that virtual time can play."`
	List      bool     `help:"Say which scenarios there are, and what each is about."`
	Fast      bool     `xor:"time" help:"In virtual time: seconds instead of minutes. Not for scenarios that need the shared stores."`
	Processes bool     `xor:"time" help:"On real openclaw-edge processes in network namespaces (Linux, root), not on nodes in this process."`
	Report    string   `default:"openclaw-report" placeholder:"DIR" help:"Where NAME.html and NAME.json go (default ${default})."`
	Seed      uint64   `default:"1" help:"Of the load and the links (default ${default})."`
}

// Run plays and judges. With --fast it does not return: package testing ends the process.
func (c *runCmd) Run() error {
	if c.List {
		return list(os.Stdout)
	}
	scenarios, err := c.pick()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := &session{runCmd: c, ctx: ctx, out: os.Stdout, bubble: func(play func()) { play() }}
	if c.Fast {
		inVirtualTime(func(bubble func(func())) error {
			s.bubble = bubble
			return s.playAll(scenarios)
		})
	}
	return s.playAll(scenarios)
}

func list(out io.Writer) error {
	scenarios, err := scenario.All()
	for _, s := range scenarios {
		note := ""
		if s.Stores() {
			note = " (needs the shared stores: not with --fast)"
		}
		fmt.Fprintf(out, "%-22s %3.0f s  %s%s\n", s.Name, s.Lasts.Seconds(), s.Title(), note)
	}
	return err
}

// pick finds the scenarios that were asked for.
func (c *runCmd) pick() (scenarios []*scenario.Scenario, err error) {
	switch {
	case c.All && len(c.Scenarios) > 0:
		return nil, errors.New("run: --all plays all; leave the names out")
	case !c.All && len(c.Scenarios) == 0:
		return nil, errors.New("run: which scenario? Write its name, or --all; --list says which there are")
	case c.All:
		all, err := scenario.All()
		for _, s := range all {
			if !c.Fast || !s.Stores() {
				scenarios = append(scenarios, s)
			}
		}
		return scenarios, err
	}
	for _, name := range c.Scenarios {
		s, err := scenario.Open(name)
		if err != nil {
			return nil, err
		}
		if c.Fast && s.Stores() {
			return nil, fmt.Errorf("run: %s needs KV and Redis, and virtual time does not wait for their sockets; play it without --fast", s.Name)
		}
		scenarios = append(scenarios, s)
	}
	return scenarios, nil
}

// session is the playing of some scenarios.
type session struct {
	*runCmd
	ctx    context.Context
	out    io.Writer
	bubble func(play func()) // runs it in its own virtual time, or in real time
}

// playAll plays, and tells of each scenario and, if there were several, of all in a table. Its
// error says what is wrong in one line: what failed, or could not be played.
func (s *session) playAll(scenarios []*scenario.Scenario) error {
	var reports []*scenario.Report
	failed := 0
	for _, sc := range scenarios {
		began := time.Now()
		r, err := s.play(sc)
		if err != nil {
			return fmt.Errorf("%s: %w", sc.Name, err)
		}
		html, err := r.Write(s.Report)
		if err != nil {
			return err
		}
		s.tell(r)
		verdict := "PASS"
		if !r.Passed {
			verdict = "FAIL"
			failed++
		}
		fmt.Fprintf(s.out, "%s %s in %.1f s: %s\n\n", verdict, sc.Name, time.Since(began).Seconds(), html)
		reports = append(reports, r)
	}
	if len(reports) > 1 {
		fmt.Fprint(s.out, scenario.TableHead)
		for _, r := range reports {
			fmt.Fprint(s.out, r.Row())
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d scenarios failed", failed, len(reports))
	}
	return nil
}

// play makes a testnet, plays one scenario on it, and takes it down again.
func (s *session) play(sc *scenario.Scenario) (report *scenario.Report, err error) {
	fmt.Fprintf(s.out, "%s: %s\n", sc.Name, sc.Title())
	bar := newBar(s.out, sc.Lasts)
	defer bar.close()
	s.bubble(func() {
		w, on, makeErr := s.make(sc)
		if err = makeErr; err != nil {
			return
		}
		defer func() { err = errors.Join(err, w.Close()) }()
		var result *scenario.Result
		if result, err = scenario.Play(s.ctx, sc, w, bar.watch); err == nil {
			report = result.Report(on)
		}
	})
	if s.ctx.Err() != nil {
		err = errors.New("stopped; nothing is left behind")
	}
	return report, err
}

// tell prints each expectation and what was measured.
func (s *session) tell(r *scenario.Report) {
	for _, c := range r.Checks {
		mark := "ok  "
		if !c.OK {
			mark = "FAIL"
		}
		fmt.Fprintf(s.out, "  %s %s\n         %s\n", mark, c.Text, c.Measured)
	}
	if w := r.Warning(); w != "" {
		fmt.Fprintln(s.out, "  "+w)
	}
}
