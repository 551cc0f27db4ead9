package scenario

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/openclaw/edge/crdt"
)

// What a file may ask for.
const (
	maxText    = 64 << 10 // bytes
	maxLines   = 500
	maxRegions = 12
	maxNodes   = 12 // in a region
	maxRate    = 20_000
	maxKeys    = 100_000
	maxErrors  = 20
)

var nameText = regexp.MustCompile(`^[a-z][a-z0-9.-]{0,30}$`)

// parser is a scenario being read. What names nodes or limits is read after those.
type parser struct {
	s      *Scenario
	placed bool // nodes were named: their number is settled
	lines  []*line
	after  []func() // what can be checked only when all lines are read
}

// Parse reads a scenario. Its error has a line for each mistake, with file, line and column.
func Parse(file, text string) (*Scenario, error) {
	if len(text) > maxText || strings.Count(text, "\n") > maxLines {
		return nil, fmt.Errorf("%s:1:1: longer than a scenario may be; write at most %d lines and %d bytes", file, maxLines, maxText)
	}
	name := strings.TrimSuffix(file[strings.LastIndex(file, "/")+1:], ".txt")
	p := &parser{s: &Scenario{Name: name, Regions: []string{"eu", "us", "ap"}, Nodes: 2}}
	top := true
	for i, t := range strings.Split(text, "\n") {
		if comment, ok := strings.CutPrefix(strings.TrimSpace(t), "#"); ok && top {
			p.s.About += strings.TrimSpace(comment) + "\n"
			continue
		}
		l := split(file, i+1, t)
		if len(l.words) == 0 {
			continue
		}
		top = false
		p.line(l)
		l.done()
		p.lines = append(p.lines, l)
	}
	errs := p.errors()
	if len(errs) == 0 {
		if err := p.complete(); err != nil {
			return nil, fmt.Errorf("%s:1:1: %w", file, err)
		}
		errs = p.errors()
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs[:min(len(errs), maxErrors)]...)
	}
	return p.s, nil
}

func (p *parser) errors() (errs []error) {
	for _, l := range p.lines {
		if l.err != nil {
			errs = append(errs, l.err)
		}
	}
	return errs
}

func (p *parser) line(l *line) {
	switch l.choose("regions", "nodes", "delay", "lasts", "limit", "load", "at", "within", "from", "expect") {
	case "regions":
		p.regions(l)
	case "nodes":
		p.s.Nodes = int(l.count("how many nodes are in each region", 1, maxNodes))
		p.unplaced(l)
	case "delay":
		d := Delay{A: p.region(l), B: p.region(l), OneWay: l.duration("the delay one way")}
		p.s.Delays = append(p.s.Delays, d)
	case "lasts":
		p.s.Lasts = l.duration("how long the load lasts")
	case "limit":
		d := p.limit(l)
		if l.err == nil && p.definition(d.Name) != nil {
			l.fail(l.words[1], "a second limit %q; give it a name of its own", d.Name)
		}
		p.s.Limits = append(p.s.Limits, d)
	case "load":
		p.load(l)
	case "at":
		p.at(l)
	case "within":
		p.within(l)
	case "from":
		e := &Expect{when: when{kind: allTheTime, from: l.duration("since when")}}
		l.must("to")
		e.when.to = l.duration("until when")
		l.must("expect")
		p.expect(l, e)
	case "expect":
		p.expect(l, new(Expect))
	}
}

// unplaced refuses to change the nodes once something was said of them.
func (p *parser) unplaced(l *line) {
	if p.placed {
		l.fail(l.words[0], "%q after a line that names nodes; write it further up", l.words[0].text)
	}
}

func (p *parser) region(l *line) string {
	p.placed = true
	return l.choose(p.s.Regions...)
}

// nodesOf is the nodes of a region, or a node itself; nil: neither.
func (s *Scenario) nodesOf(name string) (names []string) {
	region, _, isNode := strings.Cut(name, "-")
	if !slices.Contains(s.Regions, region) {
		return nil
	}
	for i := range s.Nodes {
		if n := fmt.Sprintf("%s-%d", region, i+1); !isNode || n == name {
			names = append(names, n)
		}
	}
	return names
}

// place reads regions and nodes with commas between them, or *: all but others.
func (p *parser) place(l *line, others []string) (names []string) {
	p.placed = true
	w := l.next("a region, a node, several with commas, or *")
	if l.err != nil {
		return nil
	}
	if w.text == "*" {
		names = slices.DeleteFunc(p.s.Names(), func(n string) bool { return slices.Contains(others, n) })
		if len(names) == 0 {
			l.fail(w, "* is nobody here: all nodes are named already")
		}
		return names
	}
	for part := range strings.SplitSeq(w.text, ",") {
		of := p.s.nodesOf(part)
		if of == nil {
			l.fail(w, "no node or region %q; write some of %s, %s or *", part, strings.Join(p.s.Regions, ", "), strings.Join(p.s.Names(), ", "))
			return nil
		}
		for _, n := range of {
			if slices.Contains(names, n) || slices.Contains(others, n) {
				l.fail(w, "%s twice; name each node once", n)
			}
			names = append(names, n)
		}
	}
	return names
}

// sides reads two places with a word between them; one of the two may be *.
func (p *parser) sides(l *line, between ...string) (from []string, word string, to []string) {
	first := l.read
	all := l.accept("*")
	if !all {
		from = p.place(l, nil)
	}
	word = l.choose(between...)
	to = p.place(l, from)
	if last := l.read; all && l.err == nil {
		l.read = first
		from = p.place(l, to)
		l.read = last
	}
	return from, word, to
}

func (p *parser) definition(name string) *crdt.Definition {
	for i := range p.s.Limits {
		if p.s.Limits[i].Name == name {
			return &p.s.Limits[i]
		}
	}
	return nil
}

// complete looks at the scenario as a whole.
func (p *parser) complete() error {
	s := p.s
	switch {
	case s.About == "":
		return errors.New("no comment on top; say there what is played, and what is broken if this breaks")
	case s.Lasts == 0:
		return errors.New("it does not say how long the load lasts; write, say, lasts 30s")
	case len(s.Limits) == 0:
		return errors.New("no limit; write, say, limit burst capacity 100 rate 100/s")
	case len(s.Loads) == 0:
		return fmt.Errorf("no load; write, say, load %s 300/s", s.Limits[0].Name)
	case len(s.Expects) == 0:
		return errors.New("nothing is expected; write, say, expect laws")
	}
	s.allDelays()
	slices.SortStableFunc(s.Steps, func(a, b Step) int { return cmp.Compare(a.At, b.At) })
	for _, f := range p.after {
		f()
	}
	return nil
}

// at reads what is done, or expected, at one or several times.
func (p *parser) at(l *line) {
	w := l.next("a time, or several with commas")
	var times []time.Duration
	for part := range strings.SplitSeq(w.text, ",") {
		times = append(times, l.parseDuration(w, part, "a time"))
	}
	if l.accept("expect") {
		from := l.read
		for _, t := range times {
			l.read = from
			p.expect(l, &Expect{when: when{kind: atTime, from: t, to: t}})
		}
		return
	}
	from := l.read
	do, link := p.step(l)
	for _, t := range times {
		p.s.Steps = append(p.s.Steps, Step{At: t, Text: l.text(from, len(l.words)), Line: l.no, do: do, link: link})
	}
	p.after = append(p.after, func() {
		if slices.Max(times) >= p.s.Lasts {
			l.fail(w, "%v is after the load, which lasts %v; write an earlier time, or a longer lasts", slices.Max(times), p.s.Lasts)
		}
	})
}
