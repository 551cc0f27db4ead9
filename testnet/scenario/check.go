package scenario

import (
	"fmt"
	"math"
	"time"
)

// check holds the run against what was expected.
func (s *Scenario) check(r *Result) (checks []Check) {
	for _, e := range s.Expects {
		f := e.find(r)
		checks = append(checks, Check{e.Text, e.Line, f.OK, f.Measured})
	}
	return checks
}

func (e *Expect) find(r *Result) Finding {
	if e.run != nil {
		return e.run(r)
	}
	switch e.when.kind {
	case atTime:
		for i := range r.Samples {
			if r.Samples[i].At >= e.when.from {
				return e.moment(&r.Samples[i])
			}
		}
		return Finding{Measured: "the run ended before"}
	case withinTime:
		return e.findWithin(r)
	}
	return e.findAlways(r)
}

// findWithin wants it to come true after each step. Told is the slowest time, or the first
// failure and how things stood when the time was over.
func (e *Expect) findWithin(r *Result) Finding {
	slowest := Finding{OK: true}
	most := time.Duration(-1)
	for _, step := range e.when.steps {
		since, done := r.done(step)
		if !done {
			return Finding{Measured: fmt.Sprintf("%q was never done", r.Scenario.Steps[step].Text)}
		}
		took, f := e.comesTrue(r, since)
		if !f.OK {
			f.Measured = fmt.Sprintf("not within %v of %v: %s", e.when.within, since.Round(time.Millisecond), f.Measured)
			return f
		}
		if took > most {
			most, slowest.Measured = took, fmt.Sprintf("after %v: %s", took.Round(time.Millisecond), f.Measured)
		}
	}
	return slowest
}

// comesTrue is when a moment is first as expected, or the last one that was not.
func (e *Expect) comesTrue(r *Result, since time.Duration) (time.Duration, Finding) {
	last := Finding{Measured: "no sample was taken"}
	for i := range r.Samples {
		s := &r.Samples[i]
		if s.At < since || s.At > since+e.when.within {
			continue
		}
		if last = e.moment(s); last.OK {
			return s.At - since, last
		}
	}
	return 0, last
}

// findAlways wants it of each sample between two times. Told is the first that was not as
// expected, else the one that came closest to it.
func (e *Expect) findAlways(r *Result) Finding {
	closest := Finding{Measured: "no sample was taken", margin: math.Inf(1)}
	for i := range r.Samples {
		s := &r.Samples[i]
		if s.At < e.when.from || s.At > e.when.to {
			continue
		}
		f := e.moment(s)
		if !f.OK || f.margin < closest.margin {
			closest = f
			closest.Measured = fmt.Sprintf("at %v: %s", s.At.Round(time.Millisecond), f.Measured)
		}
		if !f.OK {
			break
		}
	}
	return closest
}

// done is when a step was done.
func (r *Result) done(step int) (time.Duration, bool) {
	for _, e := range r.Events {
		if e.step == step {
			return e.At, true
		}
	}
	return 0, false
}
