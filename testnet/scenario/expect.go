package scenario

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// within reads an expectation that has to come true some time after each of its steps.
func (p *parser) within(l *line) {
	e := &Expect{when: when{kind: withinTime, within: l.duration("within what time")}}
	l.must("of")
	from := l.read
	for first := true; first || l.peek() != "expect"; first = false {
		if l.next(`how a step begins, such as cut, and then "expect"`); l.err != nil {
			return
		}
	}
	p.resolve(l, from, e)
	l.must("expect")
	p.expect(l, e)
}

// resolve finds the steps that an expectation is about, from how they begin; once all steps are
// known and in order.
func (p *parser) resolve(l *line, from int, e *Expect) {
	prefix := l.text(from, l.read)
	p.after = append(p.after, func() {
		if e.when.steps = p.s.beginningWith(prefix); len(e.when.steps) == 0 {
			l.fail(l.words[from], "no step begins with %q; write how one of the steps begins: %s", prefix, strings.Join(p.beginnings(), ", "))
		}
	})
}

func (s *Scenario) beginningWith(prefix string) (steps []int) {
	for i, step := range s.Steps {
		if strings.HasPrefix(step.Text+" ", prefix+" ") {
			steps = append(steps, i)
		}
	}
	return steps
}

func (p *parser) beginnings() (all []string) {
	for _, step := range p.s.Steps {
		if !slices.Contains(all, step.Text) {
			all = append(all, step.Text)
		}
	}
	return all
}

// expect reads what is expected: of the samples that e is about, or of the run.
func (p *parser) expect(l *line, e *Expect) {
	e.Text, e.Line = l.text(0, len(l.words)), l.no
	w := &e.when
	if w.kind == atTime {
		e.Text = fmt.Sprintf("at %v %s", w.from, l.text(l.read-1, len(l.words))) // of several times, its own
	}
	if w.kind == wholeRun {
		p.ofRun(l, e)
	} else {
		p.ofMoment(l, e)
	}
	p.s.Expects = append(p.s.Expects, e)
	p.after = append(p.after, func() {
		if w.to > p.s.Lasts || w.from > w.to {
			l.fail(l.words[0], "the load lasts %v, and time goes forward; write times from 0s to that", p.s.Lasts)
		}
	})
}

// comparison is what a figure is held against.
type comparison struct {
	op   string
	a, b float64
}

func (c comparison) holds(x float64) bool {
	switch c.op {
	case "<":
		return x < c.a
	case "<=":
		return x <= c.a
	case ">":
		return x > c.a
	case ">=":
		return x >= c.a
	case "between":
		return x >= c.a && x <= c.b
	}
	return x == c.a
}

// margin is how well x fits: of several figures the one with the least margin is told.
func (c comparison) margin(x float64) float64 {
	switch c.op {
	case "<", "<=":
		return c.a - x
	case ">", ">=":
		return x - c.a
	case "between":
		return min(x-c.a, c.b-x)
	}
	return -max(x-c.a, c.a-x)
}

// unit is how a figure is written and read.
type unit struct {
	read func(l *line) float64
	show func(x float64) string
}

var (
	percent = unit{
		func(l *line) float64 {
			w := l.next("a percentage, such as 20%")
			text, ok := strings.CutSuffix(w.text, "%")
			if !ok {
				l.fail(w, "%q; write a percentage, such as 20%%", w.text)
			}
			return l.parseNumber(w, text, "a percentage, such as 20%") / 100
		},
		func(x float64) string { return fmt.Sprintf("%.4g %%", 100*x) },
	}
	plain = unit{
		func(l *line) float64 { return l.number("a number") },
		func(x float64) string { return fmt.Sprintf("%.5g", x) },
	}
	seconds = unit{
		func(l *line) float64 { return l.offset("a time").Seconds() },
		func(x float64) string {
			return time.Duration(x * float64(time.Second)).Round(time.Millisecond).String()
		},
	}
)

// compare reads an operator and its numbers.
func (l *line) compare(u unit) comparison {
	c := comparison{op: l.choose("<", "<=", "=", ">", ">=", "between")}
	c.a = u.read(l)
	if c.op == "between" {
		l.must("and")
		if c.b = u.read(l); l.err == nil && c.b < c.a {
			l.fail(l.words[l.read-1], "the lower number comes first; write between %s and %s", u.show(c.b), u.show(c.a))
		}
	}
	return c
}
