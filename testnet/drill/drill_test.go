package drill

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openclaw/edge/alerts"
	"github.com/openclaw/edge/testnet/leak"
)

var (
	factor = flag.Float64("factor", 30, "of the drill")
	only   = flag.String("only", "", "faults to drill, separated by commas; all by default")
)

// The shipped alerts, before a real Prometheus and a real Alertmanager: each fault raises what it has to,
// for the node that has it, as soon as promised, and nothing else; and all resolves.
func TestEveryAlertKeepsItsPromise(t *testing.T) {
	if _, _, err := find(); err != nil {
		t.Skip(err)
	}
	t.Parallel()
	c := Config{Factor: *factor, Out: t.Output()}
	if *only != "" {
		c.Only = strings.Split(*only, ",")
	}
	failed := tell(t, c)
	if len(failed) > 0 { // another test may have had the machine for a moment: slower, and alone
		t.Logf("once more: %q", failed)
		c.Only, c.Factor = failed, c.Factor/2
		for _, f := range tell(t, c) {
			t.Errorf("%s: see above", f)
		}
	}
}

// tell drills, and returns the faults whose alerts were not as promised.
func tell(t *testing.T, c Config) (failed []string) {
	t.Helper()
	results, err := run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	table(c.Out, results)
	for _, r := range results {
		if len(r.write(io.Discard)) > 0 {
			failed = append(failed, r.fault.name)
		}
	}
	return failed
}

// What is not as promised is told, and nothing else is.
func TestTheTableSaysWhatIsWrong(t *testing.T) {
	began := time.Now()
	at10 := func(s float64) time.Time { return began.Add(time.Duration(s * float64(time.Second))) }
	good := func() *line {
		return &line{alert: alert{name: low}, at: at{low, "eu-1"}, promise: 12 * time.Second,
			showed: at10(1), fired: at10(13), known: true, ended: at10(30)}
	}
	for want, spoil := range map[string]func(l *line, r *result){
		"":                                func(*line, *result) {},
		"never fired":                     func(l *line, _ *result) { l.fired, l.ended = time.Time{}, time.Time{} },
		"does not resolve":                func(l *line, _ *result) { l.ended = time.Time{} },
		"and two scrapes":                 func(l *line, _ *result) { l.fired = at10(1 + 12*1.2 + 3.1) },
		"too soon for one":                func(l *line, _ *result) { l.fired = at10(1 + 12*0.8 - 3.1) },
		"never showed the trouble":        func(l *line, _ *result) { l.showed = time.Time{} },
		"is not told":                     func(l *line, _ *result) { l.known, l.by = false, split },
		"is not silenced in Alertmanager": func(l *line, _ *result) { l.known, l.under = false, []string{standing} },
		"nothing is wrong there":          func(_ *line, r *result) { r.surprises[at{low, "us-1"}] = at10(5) },
	} {
		l := good()
		r := &result{fault: fault{name: "partition"}, drill: drill{stage: &stage{factor: 10}, began: began, healed: at10(20), lines: []*line{l}, surprises: map[at]time.Time{}}}
		spoil(l, r)
		var out bytes.Buffer
		err := table(&out, []*result{r})
		if failed := err != nil; failed != (want != "") || !strings.Contains(out.String(), want) || strings.Contains(out.String(), "FAIL") != failed {
			t.Errorf("%q: %v\n%s", want, err, out.String())
		}
	}
	may := good()
	may.may, may.fired, may.ended = true, time.Time{}, time.Time{}
	r := &result{drill: drill{stage: &stage{factor: 10}, lines: []*line{may}}}
	if wrong := r.write(io.Discard); len(wrong) > 0 {
		t.Errorf("what may fire need not: %q", wrong)
	}
}

// Every alert that a fault raises is one that is shipped, on a node that there is, once.
func TestFaultsRaiseAlertsThatExist(t *testing.T) {
	shipped := shippedAlerts(t)
	for _, f := range faults() {
		seen := map[at]bool{}
		for _, a := range f.raises {
			for _, name := range append([]string{a.name}, a.under...) {
				if !shipped[name] {
					t.Errorf("%s: no alert is called %s", f.name, name)
				}
			}
			for _, n := range a.nodes {
				if k := (at{a.name, n}); seen[k] {
					t.Errorf("%s: %v twice", f.name, k)
				} else {
					seen[k] = true
				}
			}
		}
	}
}

func TestMistakesAreAnsweredWithWhatToDo(t *testing.T) {
	for want, c := range map[string]Config{
		"write 1 to 75":           {Factor: 0.5},
		"factor 76":               {Factor: 76},
		"write one of crash, flo": {Factor: 20, Only: []string{"crsh"}},
	} {
		if err := Run(t.Context(), c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if err := Run(t.Context(), Config{Factor: 20, Out: io.Discard}); err == nil || !strings.Contains(err.Error(), "apt-get install prometheus") {
		t.Errorf("without Prometheus: %v", err)
	}
}

// An interrupt in the middle ends it at once, and leaves no file, process or goroutine.
func TestAnInterruptLeavesNothing(t *testing.T) {
	if _, _, err := find(); err != nil {
		t.Skip(err)
	}
	t.Setenv("TMPDIR", t.TempDir())
	before := goleak.IgnoreCurrent()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	said := &stopping{at: "Alertmanager http", stop: stop}
	if err := Run(ctx, Config{Factor: 20, Out: said}); !errors.Is(err, errStopped) {
		t.Errorf("%v, want that it was stopped", err)
	}
	client.CloseIdleConnections()
	leak.None(t, before)
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// stopping stops the drill when that has said something.
type stopping struct {
	at   string
	stop context.CancelFunc
}

func (s *stopping) Write(b []byte) (int, error) {
	if strings.Contains(string(b), s.at) {
		s.stop()
	}
	return len(b), nil
}

func shippedAlerts(t *testing.T) map[string]bool {
	t.Helper()
	files, err := alerts.Scaled(1)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, text := range files {
		for line := range strings.Lines(text) {
			if _, name, ok := strings.Cut(strings.TrimSpace(line), "- alert: "); ok {
				all[name] = true
			}
		}
	}
	return all
}
