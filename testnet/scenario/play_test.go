package scenario

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

const story = `# A story. If this breaks, the player is broken.
lasts 30s
limit burst capacity 100 rate 100/s
load burst 300/s
at 5s cut eu from *
at 15s heal all
`

func playFake(t *testing.T, text string, change func(*fake)) *Result {
	t.Helper()
	s := mustParse(t, text)
	f := newFake(s)
	if change != nil {
		change(f)
	}
	r, err := Play(context.Background(), s, f, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// For each kind of expectation: one that holds, and one that must not. A checker that cannot
// fail proves nothing.
func TestEveryExpectationHoldsAndFails(t *testing.T) {
	for _, e := range []struct{ holds, fails, measured string }{
		{"at 9s expect refill eu < 20%", "at 7s expect refill eu < 20%", "100 % on eu-1, burst"},
		{"within 4s of cut expect refill eu burst < 20%", "within 2s of cut expect refill eu burst < 20%", "not within 2s of 5s: 100 % on eu-1, burst"},
		{"from 9s to 15s expect refill eu < 20%", "from 9s to 20s expect refill eu < 20%", "at 15.25s: 100 % on eu-1, burst"},
		{"from 6s to 25s expect mean refill eu between 60% and 65%", "from 6s to 25s expect mean refill * > 65%", "62.34 % on eu-1, burst"},
		{"at 9s expect refill us,ap > 95%", "at 9s expect refill * > 95%", "0 % on eu-1"},
		{"at 9s expect ready eu no", "at 9s expect ready eu yes", "no on eu-1: no refill authority"},
		{"at 9s expect ready us,ap yes", "at 9s expect ready us,eu-2 yes", "no on eu-2"},
		{"at 15s expect refill eu < 20%", "at 15001ms expect refill eu < 20%", "100 % on eu-1, burst"}, // before what happens then
		{"at 9s expect members eu = 2", "at 9s expect members eu = 6", "2 on eu-1"},
		{"at 9s expect roster eu = 6", "at 9s expect roster eu < 6", "6 on eu-1"},
		{"at 9s expect rate * burst = 100", "at 9s expect rate * burst = 50", "100 on eu-1"},
		{"at 9s expect fallback * no", "at 9s expect fallback us-1 yes", "no on us-1"},
		{"at 9s expect pending * = 0", "at 9s expect pending * > 0", "0 on eu-1"},
		{"at 9s expect skew us of eu-1 between -1ms and 1ms", "at 9s expect skew us of eu-1 > 1s", "0s on us-1 of eu-1"},
		{"expect admitted/ideal burst between 0.99 and 1.01", "expect admitted/ideal burst < 0.99", "1 ("},
		{"expect admitted burst < 40%", "expect admitted burst < 30%", "34.43 % (9000 tokens offered, 3099 admitted"},
		{"expect refused burst < 0.1%", "expect refused burst > 0.1%", "0 %"},
		{"expect backup burst = 0", "expect backup burst > 0", "0 ("},
		{"expect overdraft burst < 1", "expect overdraft burst > 1", "0 ("},
		{"expect converged within 2s of heal", "expect converged within 500ms of heal", "after 1.1s"},
		{"expect laws", "", ""},
	} {
		r := playFake(t, story+e.holds+"\n", nil)
		if !r.OK() {
			t.Errorf("%s: %s", e.holds, r.Checks[0].Measured)
		}
		if e.fails == "" {
			continue
		}
		r = playFake(t, story+e.fails+"\n", nil)
		if c := r.Checks[0]; c.OK || !strings.Contains(c.Measured, e.measured) {
			t.Errorf("%s: ok %v, measured %q, want it to fail with %q", e.fails, c.OK, c.Measured, e.measured)
		}
	}
}

// A testnet that does what it should not fails what a sound one passes.
func TestAWrongTestnetIsCondemned(t *testing.T) {
	for _, e := range []struct {
		name, expect string
		wrong        func(*fake)
	}{
		{"refills twice", "expect laws", func(f *fake) { f.over = 2 }},
		{"refills twice", "expect admitted/ideal burst < 1.05", func(f *fake) { f.over = 2 }},
		{"refills twice", "expect overdraft burst < 100", func(f *fake) { f.over = 2 }},
		{"refills half", "expect refused burst < 0.1%", func(f *fake) { f.over = 0.5 }},
		{"sees no cut", "within 4s of cut expect refill eu < 20%", func(f *fake) { f.deaf = true }},
	} {
		if r := playFake(t, story+e.expect+"\n", nil); !r.OK() {
			t.Errorf("%s: %s", e.expect, r.Checks[0].Measured)
		}
		if r := playFake(t, story+e.expect+"\n", e.wrong); r.OK() {
			t.Errorf("one that %s passes %q: %s", e.name, e.expect, r.Checks[0].Measured)
		}
	}
}

// Every step reaches the testnet, at its time and in its order.
func TestStepsAreDone(t *testing.T) {
	r := playFake(t, story+`at 1s crash us-1,us-2
at 2s start us-1
at 2s start us-2
at 3s stop ap
at 4s start ap
at 1s,2s pause eu-1
at 3s resume eu-1
at 1s skew us-2 -3m
at 1s kv 429
at 2s kv ok
at 1s redis down
at 1s link eu -> us delay 200ms loss 10%
at 1s link us-1 <-> ap-1 delay 1ms
at 1s cut * -> ap
at 1500ms heal ap from us
at 1600ms heal ap
at 3s reload us-1 burst capacity 100 rate 50/s
expect laws
`, func(f *fake) {
		t.Cleanup(func() {
			for _, want := range []string{"crash us-2", "start us-2", "stop ap-2", "pause eu-1 true", "pause eu-1 false", "skew us-2 -3m0s", `fault kv "429"`, `fault kv ""`, `fault redis "down"`,
				"link [eu-1 eu-2] [us-1 us-2] 200ms 0.1", "link [ap-1] [us-1] 1ms 0", "cut [eu-1 eu-2 us-1 us-2] [ap-1 ap-2]", "heal [ap-1 ap-2] [us-1 us-2]", "reload us-1 burst 50"} {
				if !slices.Contains(f.done, want) {
					t.Errorf("not done: %s; done were %q", want, f.done)
				}
			}
		})
	})
	for i, e := range r.Events {
		if at := r.Scenario.Steps[e.step].At; e.At < at || e.At > at+10*time.Millisecond || i > 0 && e.At < r.Events[i-1].At {
			t.Errorf("%s: done at %v, not %v", e.Text, e.At, at)
		}
	}
}

// The laws know what was done: cuts, how long they lasted, and who started behind one.
func TestLawsFollowFromWhatWasDone(t *testing.T) {
	s := mustParse(t, story+"at 8s crash eu-2\nat 10s start eu-2\nat 20s link eu -> us delay 200ms loss 20%\nat 25s crash ap-1\nexpect laws\n")
	f := newFake(s)
	g, err := newStage(s, f)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range s.Steps {
		f.now = step.At
		if err := step.do(g); err != nil {
			t.Fatal(err)
		}
	}
	l := g.lawsNow()
	if l.Cuts != 1 || l.Frozen != 10*time.Second || l.Blind != 1 || len(l.Missed) != 1 || l.Whole || l.Nodes != 6 {
		t.Errorf("laws %+v", l)
	}
	if l.Delay < 200*time.Millisecond+2*400*time.Millisecond || l.Delay > 5*time.Second {
		t.Errorf("delay %v", l.Delay)
	}
}

// What cannot be done ends the play with the line that asked for it; and so does an interrupt.
func TestAPlayEndsEarly(t *testing.T) {
	s := mustParse(t, story+"at 7s crash us-1\nexpect laws\n")
	f := newFake(s)
	f.refuse = errors.New("no such thing")
	if _, err := Play(context.Background(), s, f, nil); err == nil || !strings.Contains(err.Error(), "line 7: crash us-1: crash us-1: no such thing") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s = mustParse(t, story+"expect laws\n")
	f = newFake(s)
	var after []Progress
	_, err := Play(ctx, s, f, func(p Progress) {
		if ctx.Err() != nil {
			after = append(after, p)
		}
		if p.At > 10*time.Second {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || f.now > 14*time.Second || len(after) > 0 {
		t.Errorf("at %v: %v; and went on: %v", f.now, err, after)
	}
	s.Regions = []string{"eu", "us"}
	if _, err := Play(context.Background(), mustParse(t, story+"expect laws\n"), newFake(s), nil); err == nil || !strings.Contains(err.Error(), "make it of the scenario's regions") {
		t.Errorf("another testnet: %v", err)
	}
}

// Loads are offered between their times only.
func TestLoadsBeginAndEnd(t *testing.T) {
	r := playFake(t, strings.Replace(story, "300/s", "300/s from 10s to 12s", 1)+"expect laws\n", nil)
	for _, takes := range r.Observed.Takes {
		first, last := takes[0].At-r.Began, takes[len(takes)-1].At-r.Began
		if first != 10*time.Second || last != 12*time.Second-10*time.Millisecond || len(takes) != 600 {
			t.Errorf("%d takes from %v to %v", len(takes), first, last)
		}
	}
}
