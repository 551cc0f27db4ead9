package scenario

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/openclaw/edge/testnet/judge"
)

// ofRun reads what is expected of the run as a whole.
func (p *parser) ofRun(l *line, e *Expect) {
	switch subject := l.choose("admitted/ideal", "admitted", "refused", "backup", "overdraft", "converged", "laws"); subject {
	case "admitted/ideal":
		limit := p.anyLimit(l)
		e.run = ofTotals(limit, l.compare(plain), plain, Total.Ratio)
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
		e.spread, e.when.within = true, l.duration("within what time")
		l.must("of")
		from := l.read
		for l.next("how a step begins, such as heal"); l.more(); {
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

// Total is the tokens of all buckets of a limit, over the run.
type Total struct {
	Offered, Admitted int64   // by buckets; backups are apart
	Ideal             int64   // one bucket each would have admitted of what was offered
	Refused           int64   // of those, bucket by bucket
	Backup            int64   // admitted by backup buckets
	Overdraft         float64 // of the worst bucket
}

// Ratio is admitted against ideal.
func (t Total) Ratio() float64 { return ratio(t.Admitted, t.Ideal) }

// Total sums up a limit.
func (r *Result) Total(limit string) (t Total) {
	o := r.Observed
	ideal := o.Limits[limit]
	for id, takes := range o.Takes {
		if id.Limit != limit {
			continue
		}
		admitted, offered := o.Admitted(id)
		admits := ideal.Admits(takes)
		overdraft, _ := ideal.Overdraft(takes)
		t.Offered, t.Admitted, t.Ideal = t.Offered+offered, t.Admitted+admitted, t.Ideal+admits
		t.Refused += max(0, admits-admitted)
		t.Overdraft = max(t.Overdraft, overdraft)
		for _, take := range takes {
			if take.Backup && take.Admitted {
				t.Backup += take.Cost
			}
		}
	}
	return t
}

// converged wants every node to know, in time, what anybody had taken before each step.
func (e *Expect) converged(r *Result) Finding {
	slowest := time.Duration(0)
	for _, step := range e.when.steps {
		i := slices.IndexFunc(r.Spread, func(s Spread) bool { return s.step == step })
		switch {
		case i < 0:
			return Finding{Measured: fmt.Sprintf("%q was never done", r.Scenario.Steps[step].Text)}
		case !r.Spread[i].Done:
			return Finding{Measured: fmt.Sprintf("never, after %v", r.Spread[i].After.Round(time.Millisecond))}
		}
		slowest = max(slowest, r.Spread[i].Took)
	}
	return Finding{OK: slowest <= e.when.within, Measured: fmt.Sprintf("after %v", slowest.Round(time.Millisecond))}
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
