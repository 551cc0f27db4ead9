package processes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/netns"
	"github.com/openclaw/edge/testnet/process"
	"github.com/openclaw/edge/testnet/world"
)

// The test binary is also a program that holds a testnet until it is told to stop, or killed.
func TestMain(m *testing.M) {
	if binary := os.Getenv("HOLD_A_TESTNET"); binary != "" {
		if err := hold(binary); err != nil {
			slog.Error("held", "err", err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	process.Cleanup()
	os.Exit(code)
}

func hold(binary string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	w, err := New(ctx, Config{Binary: binary})
	if err != nil {
		return err
	}
	fmt.Println(filepath.Dir(w.machines[0].proc.Dir), w.net.Host()) // as a sign that all is up
	if err = w.Run(time.Hour, []*world.Flow{hot("g", 50)}); errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, w.Close())
}

const (
	lease  = 3 * time.Second // the default one; the promises of design.md, section 9, are multiples of it
	second = time.Second
)

func hot(limit string, perSecond float64) *world.Flow {
	return &world.Flow{Limit: limit, PerSecond: perSecond, Keys: world.Keys{Name: "hot"}}
}

// start starts a testnet that ends with the test.
func start(t *testing.T, cfg Config) *World {
	t.Helper()
	cfg.Binary = process.Binary(t)
	w, err := New(t.Context(), cfg)
	if errors.Is(err, netns.ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, m := range w.machines {
				t.Logf("log of %s:\n%s", m.Name, m.proc.Logs())
			}
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func rate(t *testing.T, text string) crdt.Rate {
	t.Helper()
	r, err := crdt.ParseRate(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// limited is a limit "g" of 100 and 100/s.
func limited(t *testing.T, policy crdt.Policy) []crdt.Definition {
	t.Helper()
	return []crdt.Definition{{
		Name: "g", Capacity: 100 * crdt.Token, Rate: rate(t, "100"), Policy: policy,
		Backup: &crdt.Backup{Capacity: 10 * crdt.Token, Rate: rate(t, "1")},
	}}
}

// run lets time pass, or fails the test.
func run(t *testing.T, w *World, d time.Duration, flows ...*world.Flow) {
	t.Helper()
	if err := w.Run(d, flows); err != nil {
		t.Fatal(err)
	}
}

// do fails the test with err.
func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until runs the load until ok, and returns how long that took.
func until(t *testing.T, w *World, within time.Duration, what string, ok func() bool, flows ...*world.Flow) time.Duration {
	t.Helper()
	began := w.Now()
	for !ok() {
		if w.Now()-began > within {
			t.Fatalf("not within %v: %s", within, what)
		}
		run(t, w, 100*time.Millisecond, flows...)
	}
	return w.Now() - began
}

// refill is what a node offers, as a share of what is configured.
func refill(w *World, name string) float64 {
	l := w.State(name).Limits["g"]
	return l.Refill / l.Configured
}

// judged waits until all is quiet, and fails the test with every breach of a law.
func judged(t *testing.T, w *World, laws judge.Laws) *judge.Verdict {
	t.Helper()
	laws.Nodes, laws.Whole = len(w.machines), true
	laws.Ahead, laws.Apart = 600*time.Millisecond, 300*time.Millisecond
	var v *judge.Verdict
	for range 10 {
		run(t, w, judge.Window/2)
		w.Look()
		if v = judge.Of(w.Observed(), laws); len(v.Breaches) == 0 {
			break
		}
	}
	for _, b := range v.Breaches {
		t.Error(b)
	}
	id := judge.ID{Limit: "g", Key: "hot"}
	admitted, offered := w.Observed().Admitted(id)
	t.Logf("admitted %d of %d offered; overdraft %.2f of what is allowed, clocks at most %.4f of real time in 5 s, lost %d",
		admitted, offered, v.Overdraft, v.Growth, v.Lost)
	if admitted == 0 || len(w.Observed().Samples) < 20 || len(w.Observed().Holdings[id]) != len(w.machines) || len(w.Observed().Writers) == 0 {
		t.Errorf("little was observed: %d samples, %d holdings, writers %v", len(w.Observed().Samples), len(w.Observed().Holdings[id]), w.Observed().Writers)
	}
	return v
}
