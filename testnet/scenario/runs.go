package scenario

import (
	"fmt"
	"strings"
	"time"

	"github.com/openclaw/edge/testnet/judge"
)

// ofRun reads what is expected of the run as a whole.
func (p *parser) ofRun(l *line, e *Expect) {
	switch subject := l.choose("admitted/ideal", "admitted", "refused", "backup", "overdraft", "converged", "laws"); subject {
	case "admitted/ideal":
		limit := p.anyLimit(l)
		e.run = ofTotals(limit, l.compare(plain), plain, func(t Total) float64 { return t.Ratio() })
	case "admitted":
		limit := p.anyLimit(l)
		e.run = ofTotals(limit, l.compare(percent), percent, func(t Total) float64 { return ratio(t.Admitted, t.Offered) })
	case "refused":
		limit := p.anyLimit(l)
		e.run = ofTotals(limit, l.compare(percent), percent, func(t Total) float64 { return ratio(t.Refused, t.Ideal) })
	case "backup":
		limit := p.anyLimit(l)
		e.run = ofTotals(limit, l.compare(plain), plain, func(t Total) float64 { return float64(t.Backup) })
	case "overdraft":
		limit := p.anyLimit(l)
		e.run = ofTotals(limit, l.compare(plain), plain, func(t Total) float64 { return t.Overdraft })
	case "converged":
		l.must("within")
		e.when.within = l.duration("within what time")
		l.must("of")
		from := l.read
		l.must("heal")
		for l.more() {
			l.next("")
		}
		if l.err == nil {
			p.resolve(l, from, e)
		}
		e.run = e.converged
	case "laws":
		e.run = lawful
	}
}

func (p *parser) anyLimit(l *line) string { return l.choose(p.names()...) }

func ratio(a, b int64) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

func ofTotals(limit string, c comparison, u unit, of func(Total) float64) func(*Result) Finding {
	return func(r *Result) Finding {
		t := r.Total(limit)
		x := of(t)
		return Finding{OK: c.holds(x), Measured: fmt.Sprintf("%s (%d tokens offered, %d admitted, one bucket: %d)", u.show(x), t.Offered, t.Admitted, t.Ideal)}
	}
}

// Total is what came of a limit over the run, in tokens.
type Total struct {
	judge.Tally
	Refused int64 // of what one bucket would have admitted, key by key: none makes up for another
}

// Total sums up a limit.
func (r *Result) Total(limit string) (t Total) {
	for _, l := range r.Figures.Limits {
		if l.Limit == limit {
			t.Tally = l.Tally
		}
	}
	for _, k := range r.Figures.Keys {
		if k.Limit == limit {
			t.Refused += max(0, k.Ideal-k.Admitted)
		}
	}
	return t
}

// converged wants every node to know, in time, what anybody had taken before each heal.
func (e *Expect) converged(r *Result) Finding {
	slowest := time.Duration(0)
	for _, step := range e.when.steps {
		since, done := r.done(step)
		if !done {
			return Finding{Measured: fmt.Sprintf("%q was never done", r.Scenario.Steps[step].Text)}
		}
		took := r.agreed(since)
		if took == judge.Never {
			return Finding{Measured: fmt.Sprintf("not seen after %v", since.Round(time.Millisecond))}
		}
		slowest = max(slowest, took)
	}
	return Finding{OK: slowest <= e.when.within, Measured: fmt.Sprintf("after %v", slowest.Round(time.Millisecond))}
}

// agreed is how long after the heal of some time everybody knew everything.
func (r *Result) agreed(heal time.Duration) time.Duration {
	for i := len(r.Figures.Heals) - 1; i >= 0; i-- {
		if h := r.Figures.Heals[i]; h.At-r.Began <= heal { // noted when it was done: a little before
			return h.Agreed
		}
	}
	return judge.Never
}

// lawful wants no breach, and tells of all.
func lawful(r *Result) Finding {
	v := r.Verdict
	if len(v.Breaches) == 0 {
		return Finding{OK: true, Measured: fmt.Sprintf("all hold %v after the load; overdraft %.0f %% of what is allowed, refill of all sides together %.2f %% of real time at most",
			r.Settled.Round(time.Millisecond), 100*v.Overdraft, 100*v.Growth)}
	}
	var said []string
	for _, b := range v.Breaches {
		said = append(said, judge.Breach.String(b))
	}
	return Finding{Measured: strings.Join(said, "; ")}
}
