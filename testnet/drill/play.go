package drill

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"
)

// drill plays faults on a stage, one after the other.
type drill struct {
	*stage
	out      io.Writer
	promised map[string]time.Duration // scaled, by alert

	// Of the fault under way:
	began, healed time.Time
	lines         []*line
	by            map[at]*line
	surprises     map[at]time.Time // what fires that nothing calls for, since when
}

// line is what became of one alert on one node.
type line struct {
	alert
	at
	promise time.Duration
	showed  time.Time // on the node itself; zero: not yet, as the next ones
	fired   time.Time
	by      string    // in Alertmanager: who silences it
	known   bool      // to Alertmanager, as it has to be
	ended   time.Time // it fires no more
}

// play breaks one thing, waits for what it raises, mends it, and waits until all is quiet again.
func (d *drill) play(ctx context.Context, f fault) (*result, error) {
	d.prepare(f)
	d.began, d.healed = time.Now(), time.Time{}
	if err := f.begin(d.stage); err != nil {
		return nil, err
	}
	d.say("%s", f.about)
	if err := d.until(ctx, d.patience(), d.raised); err != nil {
		return nil, err
	}
	d.say("it is mended")
	if err := f.end(d.stage); err != nil {
		return nil, err
	}
	d.healed = time.Now()
	quiet := func(all map[at]state) bool { return len(all) == 0 }
	if err := d.until(ctx, mendWithin+d.scaled(15*time.Minute), quiet); err != nil {
		return nil, err
	}
	d.say("all is quiet")
	return &result{fault: f, drill: *d}, nil
}

// say tells what has just happened in this fault.
func (d *drill) say(format string, a ...any) {
	fmt.Fprintf(d.out, "%7.1f s  %s\n", time.Since(d.began).Seconds(), fmt.Sprintf(format, a...))
}

// prepare makes a line for every alert on every node that the fault raises.
func (d *drill) prepare(f fault) {
	d.lines, d.by, d.surprises = nil, make(map[at]*line), make(map[at]time.Time)
	for _, a := range f.raises {
		a.may = a.may || a.slow > 0 && d.factor > a.slow
		for _, n := range a.nodes {
			l := &line{alert: a, at: at{a.name, n}, promise: d.promised[a.name]}
			d.lines = append(d.lines, l)
			d.by[l.at] = l
		}
	}
}

const (
	showWithin = 15 * time.Second // a lease, a bucket that runs dry, a snapshot that fails
	mendWithin = 90 * time.Second // longest pause of a store that failed, and some
)

// patience is how long a fault is left as it is, if what is waited for never comes.
func (d *drill) patience() time.Duration {
	longest := time.Duration(0)
	for _, l := range d.lines {
		if !l.may {
			longest = max(longest, d.latest(l))
		}
	}
	return showWithin + 2*longest
}

// latest is the delay that an alert may have: a fifth more than promised, and two scrapes. For the
// same reasons it may be sooner by as much.
func (d *drill) latest(l *line) time.Duration  { return l.promise*6/5 + 2*d.scrape() }
func (d *drill) soonest(l *line) time.Duration { return l.promise*4/5 - 2*d.scrape() }

// raised tells whether all that has to fire does, and Alertmanager tells or silences it as it should.
func (d *drill) raised(map[at]state) bool {
	return !slices.ContainsFunc(d.lines, func(l *line) bool { return !l.may && (l.fired.IsZero() || !l.known) })
}

// until looks at everything, again and again, until done or the time is over: both end it well, as
// what is missing is the result's to tell.
func (d *drill) until(ctx context.Context, within time.Duration, done func(map[at]state) bool) error {
	for end := time.Now().Add(within); ; {
		all, err := d.active(ctx)
		if err != nil {
			return err
		}
		told, err := d.told(ctx)
		if err != nil {
			return err
		}
		d.note(all, told)
		if done(all) || time.Now().After(end) {
			return nil
		}
		if err := d.pass(ctx, d.poll()); err != nil {
			return err
		}
	}
}

// note writes down what has changed.
func (d *drill) note(all map[at]state, told map[at]string) {
	now := time.Now()
	for _, l := range d.lines {
		if l.showed.IsZero() && d.healed.IsZero() {
			if l.shows == nil {
				l.showed = d.began
			} else if l.shows(d.stage, d.net.State(l.node)) {
				l.showed = now
			}
		}
		switch firing := all[l.at] == firing; {
		case firing && l.fired.IsZero():
			l.fired = now
			d.say("%s fires for %s", l.at.alert, l.node)
		case !firing && !l.fired.IsZero() && l.ended.IsZero() && !d.healed.IsZero():
			l.ended = now
		}
		if by, known := told[l.at]; known && d.healed.IsZero() {
			l.by, l.known = by, by == "" && l.under == nil || slices.Contains(l.under, by)
		}
	}
	for k, is := range all {
		if _, seen := d.surprises[k]; is == firing && d.by[k] == nil && !seen {
			d.surprises[k] = now
			d.say("%s fires for %s, and nothing is wrong there", k.alert, k.node)
		}
	}
}
