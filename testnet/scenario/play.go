package scenario

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/world"
)

// SampleEvery is how often all nodes are looked at, besides the times that a scenario names.
const SampleEvery = 250 * time.Millisecond

// quiet is how long everybody has after the load to agree: one anti-entropy period.
const quiet = 20 * time.Second

// Result is what a play left behind.
type Result struct {
	Scenario *Scenario
	Samples  []Sample
	Events   []Event
	Observed *judge.Observed
	Began    time.Duration // zero of the scenario's times, on Observed's clock
	Verdict  *judge.Verdict
	Settled  time.Duration // after the load, when all laws held, or patience ended
	Late     time.Duration // how late the player was at worst; nodes on the same machine were, too
	Figures  judge.Figures
	Checks   []Check
}

// Event is a step, when it was done.
type Event struct {
	At   time.Duration
	Text string
	step int
}

// Check is an expectation after the play.
type Check struct {
	Text     string
	Line     int
	OK       bool
	Measured string
}

// OK tells whether all was as expected.
func (r *Result) OK() bool {
	return !slices.ContainsFunc(r.Checks, func(c Check) bool { return !c.OK })
}

// Progress is how far a play is, and what was done last.
type Progress struct {
	At, Of time.Duration
	Said   string
}

// Play plays s on a World made of its regions, limits and delays. It tells watch, if that is not
// nil, how far it is; watch must not block. An error means that it could not be played: what is
// not as expected is in the Result.
func Play(ctx context.Context, s *Scenario, w world.World, watch func(Progress)) (*Result, error) {
	if watch == nil {
		watch = func(Progress) {}
	}
	watch(Progress{0, s.Lasts, "the nodes find each other"})
	g, err := newStage(s, w)
	if err == nil {
		err = g.gather(ctx)
	}
	if err != nil {
		return nil, err
	}
	p := &play{stage: g, s: s, ctx: ctx, watch: watch, r: &Result{Scenario: s, Observed: w.Observed(), Began: g.began}}
	for _, l := range s.Loads {
		p.flows = append(p.flows, &l.Flow)
	}
	if err := p.load(); err != nil {
		return nil, err
	}
	if err := p.calm(); err != nil {
		return nil, err
	}
	p.r.Late = g.late
	p.r.Figures = judge.Measure(w.Observed(), len(w.Observed().Takes))
	p.r.Checks = s.check(p.r)
	return p.r, nil
}

// play is a scenario on its way.
type play struct {
	*stage
	s     *Scenario
	ctx   context.Context
	watch func(Progress)
	r     *Result
	flows []*world.Flow // of s.Loads, in order
	next  int           // step
}

// load plays the part under load: samples, then the steps that are due, then time.
func (p *play) load() error {
	p.watch(Progress{0, p.s.Lasts, "load"})
	for now := p.now(); now < p.s.Lasts; now = p.now() {
		p.sample(now)
		if err := p.steps(now); err != nil {
			return err
		}
		if err := p.run(p.ctx, p.until(now)-p.now(), p.active(now)); err != nil {
			return fmt.Errorf("at %v: %w", p.now().Round(time.Millisecond), err)
		}
		p.watch(Progress{At: p.now(), Of: p.s.Lasts})
	}
	p.sample(p.now())
	return nil
}

// run lets d pass, unless nobody wants to go on, and notes how late the machine is: in virtual
// time never.
func (g *stage) run(ctx context.Context, d time.Duration, flows []*world.Flow) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	end := g.world.Now() + d
	err := g.world.Run(d, flows)
	g.late = max(g.late, g.world.Now()-end)
	return err
}

// until is when something is next to be done: a sample, a step, an expectation, a load that
// begins or ends.
func (p *play) until(now time.Duration) time.Duration {
	next := min(p.s.Lasts, now.Truncate(SampleEvery)+SampleEvery)
	sooner := func(t time.Duration) {
		if t > now {
			next = min(next, t)
		}
	}
	for _, step := range p.s.Steps {
		sooner(step.At)
	}
	for _, e := range p.s.Expects {
		sooner(e.when.from)
		sooner(e.when.to)
	}
	for _, l := range p.s.Loads {
		sooner(l.From)
		sooner(l.To)
	}
	return max(next, p.now()+time.Millisecond)
}

// active is the flows that send now.
func (p *play) active(now time.Duration) (flows []*world.Flow) {
	for i, l := range p.s.Loads {
		if l.From <= now && now < l.To {
			flows = append(flows, p.flows[i])
		}
	}
	return flows
}

// steps does what is due.
func (p *play) steps(now time.Duration) error {
	for ; p.next < len(p.s.Steps) && p.s.Steps[p.next].At <= now; p.next++ {
		step := &p.s.Steps[p.next]
		if err := step.do(p.stage); err != nil {
			return fmt.Errorf("line %d: %s: %w", step.Line, step.Text, err)
		}
		p.r.Events = append(p.r.Events, Event{p.now(), step.Text, p.next})
		p.watch(Progress{p.now(), p.s.Lasts, step.Text})
	}
	return nil
}

func (p *play) sample(now time.Duration) {
	s := Sample{At: now, Nodes: make(map[string]world.State, len(p.all))}
	for _, n := range p.all {
		s.Nodes[n] = p.world.State(n)
	}
	p.r.Samples = append(p.r.Samples, s)
}

// calm lets time pass without load until the laws hold, and judges.
func (p *play) calm() error {
	p.watch(Progress{p.s.Lasts, p.s.Lasts, "quiet"})
	const step = time.Second
	ended := p.now()
	if err := p.still(min(quiet, judge.Window+2*step)); err != nil {
		return err
	}
	for {
		p.world.Look()
		p.r.Verdict = p.s.judgeOf(p.world.Observed(), p.lawsNow())
		p.r.Settled = p.now() - ended
		if len(p.r.Verdict.Breaches) == 0 || p.r.Settled >= quiet {
			return nil
		}
		if err := p.still(step); err != nil {
			return err
		}
	}
}

// still lets d pass without load.
func (p *play) still(d time.Duration) error {
	for end := p.now() + d; p.now() < end; p.sample(p.now()) {
		if err := p.run(p.ctx, min(SampleEvery, end-p.now()), nil); err != nil {
			return err
		}
	}
	return nil
}
