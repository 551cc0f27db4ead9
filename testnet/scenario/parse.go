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
	"github.com/openclaw/edge/testnet/world"
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

func (p *parser) regions(l *line) {
	p.unplaced(l)
	p.s.Regions = nil
	for ok := true; ok; ok = l.more() {
		w := l.next("the names of the regions, such as eu us ap")
		switch {
		case l.err != nil:
			return
		case !nameText.MatchString(w.text) || strings.Contains(w.text, "-"):
			l.fail(w, "%q; write a region's name: a-z, 0-9, beginning with a letter", w.text)
		case slices.Contains(p.s.Regions, w.text):
			l.fail(w, "region %q twice; name each once", w.text)
		case len(p.s.Regions) == maxRegions:
			l.fail(w, "too many regions; write at most %d", maxRegions)
		}
		p.s.Regions = append(p.s.Regions, w.text)
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

// limit reads a definition; parts that are not said are as the config's defaults.
func (p *parser) limit(l *line) (d crdt.Definition) {
	w := l.next("the limit's name")
	if l.err == nil && !nameText.MatchString(w.text) {
		l.fail(w, "%q; write a limit's name: a-z, 0-9, '-' and '.', beginning with a letter", w.text)
	}
	d.Name, d.MaxBuckets = w.text, 1_000_000
	l.must("capacity")
	d.Capacity, d.Rate = p.allowance(l, "rate")
	for l.more() {
		switch l.choose("policy", "backup", "buckets") {
		case "policy":
			d.Policy, _ = crdt.ParsePolicy(l.choose("quorum", "share", "open"))
		case "backup":
			d.Backup = new(crdt.Backup)
			d.Backup.Capacity, d.Backup.Rate = p.allowance(l, "")
		case "buckets":
			d.MaxBuckets = uint32(l.count("how many buckets a node may hold", 1, 16_000_000))
		}
	}
	return d
}

// allowance reads a capacity and a rate, with a word between them.
func (p *parser) allowance(l *line, between string) (crdt.Milli, crdt.Rate) {
	capacity := crdt.Milli(l.count("the capacity in tokens", 1, int64(crdt.MaxCapacity/crdt.Token))) * crdt.Token
	if between != "" {
		l.must(between)
	}
	w := l.next("the refill rate, such as 100/s or 1000/h")
	rate, err := crdt.ParseRate(w.text)
	if l.err == nil && err != nil {
		l.fail(w, "%v", err)
	}
	return capacity, rate
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

// Delays that nobody has named: those of the real world where the regions are known.
var usualDelays = []Delay{{"eu", "us", 40 * time.Millisecond}, {"us", "ap", 80 * time.Millisecond}, {"eu", "ap", 110 * time.Millisecond}}

const usualDelay = 80 * time.Millisecond

func (d *Delay) between(a, b string) bool { return d.A == a && d.B == b || d.A == b && d.B == a }

// allDelays gives each pair of regions one; where a file names one twice, the last line holds.
func (s *Scenario) allDelays() {
	said := append(slices.Clone(usualDelays), s.Delays...)
	s.Delays = nil
	for i, a := range s.Regions {
		for _, b := range s.Regions[i+1:] {
			d := Delay{a, b, usualDelay}
			for _, other := range said {
				if other.between(a, b) {
					d.OneWay = other.OneWay
				}
			}
			s.Delays = append(s.Delays, d)
		}
	}
}

// load reads a flow. What is not said: one key, by all nodes in turn, at random times, from
// beginning to end.
func (p *parser) load(l *line) {
	w := l.next("the name of a limit")
	if l.err == nil && p.definition(w.text) == nil {
		l.fail(w, "no limit %q above; write its limit line first", w.text)
	}
	load := Load{Flow: world.Flow{Limit: w.text, Keys: world.Keys{Name: "k"}}, To: longest}
	f := &load.Flow
	f.PerSecond = l.rate("how many takes", maxRate)
	for l.more() {
		switch l.choose("evenly", "burst", "on", "key", "keys", "zipf", "new", "cost", "in", "from") {
		case "evenly":
			f.Pattern.Even = true
		case "burst":
			f.Pattern.Burst = int(l.count("how many takes at once", 1, maxRate))
		case "on":
			f.Pattern.On = l.duration("how long it sends")
			l.must("off")
			f.Pattern.Off = l.duration("how long it is silent")
		case "key":
			f.Keys.Name = l.next("the name of the key").text
		case "keys":
			f.Keys.N = int(l.count("how many keys", 1, maxKeys))
		case "zipf":
			at := l.next("the exponent, such as 1.2")
			if f.Keys.Zipf = l.parseNumber(at, at.text, "an exponent over 1, such as 1.2"); l.err == nil && f.Keys.Zipf <= 1 {
				l.fail(at, "%q; write an exponent over 1, such as 1.2", at.text)
			}
		case "new":
			f.Keys.New = true
		case "cost":
			f.Cost = l.count("the cost of a take in tokens", 1, int64(crdt.MaxCapacity/crdt.Token))
		case "in":
			f.Nodes = p.place(l, nil)
		case "from":
			load.From = l.duration("since when")
			l.must("to")
			if load.To = l.duration("until when"); l.err == nil && load.To <= load.From {
				l.fail(l.words[l.read-1], "it ends before it begins; write a time after %v", load.From)
			}
		}
	}
	if f.Pattern.Off > 0 && f.Pattern.On <= 0 {
		l.fail(l.words[0], "a load that is never on; write on 1s off 1s, say")
	}
	p.s.Loads = append(p.s.Loads, load)
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
