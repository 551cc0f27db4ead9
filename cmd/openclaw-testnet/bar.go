package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/openclaw/edge/testnet/scenario"
)

// bar shows how far a scenario is: a progress bar on a terminal; elsewhere a line for each
// step, and now and then for time that passes. It draws on a goroutine of its own, which ends
// with close: a play may have a virtual time, and drawing must not.
type bar struct {
	out  io.Writer
	of   time.Duration
	line *progressbar.ProgressBar // nil: no terminal
	end  chan struct{}
	done sync.WaitGroup

	mu    sync.Mutex // guards what follows
	at    time.Duration
	said  string
	steps []string // not yet printed; without a terminal
}

// every is how often a terminal's bar is drawn; nowAndThen is how often, elsewhere, a line says that
// time passes.
const (
	every      = 200 * time.Millisecond
	nowAndThen = 10 * time.Second
)

func newBar(out io.Writer, of time.Duration) *bar {
	b := &bar{out: out, of: of, said: "the nodes start", end: make(chan struct{})}
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		b.line = progressbar.NewOptions(int(of/time.Millisecond), progressbar.OptionSetWriter(out), progressbar.OptionSetWidth(30),
			progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false),
			progressbar.OptionUseANSICodes(true))
	}
	b.done.Add(1)
	go b.draw()
	return b
}

// watch is called by the play. It never waits for the terminal.
func (b *bar) watch(p scenario.Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at = p.At
	if p.Said == "" {
		return
	}
	b.said = p.Said
	if b.line == nil && len(b.steps) < 1000 {
		b.steps = append(b.steps, fmt.Sprintf("  %5.1f s  %s\n", p.At.Seconds(), p.Said))
	}
}

func (b *bar) draw() {
	defer b.done.Done()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	told := time.Now()
	for {
		select {
		case <-b.end:
			b.show()
			return
		case <-ticker.C:
			if b.show() {
				told = time.Now()
			} else if b.line == nil && time.Since(told) > nowAndThen {
				told = time.Now()
				b.mu.Lock()
				fmt.Fprintf(b.out, "  %5.1f s of %v\n", b.at.Seconds(), b.of)
				b.mu.Unlock()
			}
		}
	}
}

// show draws what is new, and tells whether lines were printed.
func (b *bar) show() (printed bool) {
	b.mu.Lock()
	at, said, steps := b.at, b.said, b.steps
	b.steps = nil
	b.mu.Unlock()
	for _, s := range steps {
		fmt.Fprint(b.out, s)
	}
	if b.line != nil {
		b.line.Describe(fmt.Sprintf("%5.1f s of %v  %-32.32s", at.Seconds(), b.of, said))
		_ = b.line.Set(int(min(at, b.of-time.Millisecond) / time.Millisecond)) // full only when it is cleared
	}
	return len(steps) > 0
}

// close takes the bar away.
func (b *bar) close() {
	close(b.end)
	b.done.Wait()
	if b.line != nil {
		_ = b.line.Finish()
	}
}
