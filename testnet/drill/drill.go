package drill

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Config is what to drill.
type Config struct {
	Factor float64   // by which everything goes faster; 1: in real time
	Only   []string  // names of faults; nil: all of Faults
	Out    io.Writer // what goes on, then the table
}

// MostFactor is where scrapes are 200 ms apart.
const MostFactor = 75

// Faults are the names of what can be broken, in order.
func Faults() (names []string) {
	for _, f := range faults() {
		names = append(names, f.name)
	}
	return names
}

// pick finds the faults that are asked for.
func (c *Config) pick() ([]fault, error) {
	if c.Factor < 1 || c.Factor > MostFactor {
		return nil, fmt.Errorf("drill: factor %g: write 1 to %d", c.Factor, MostFactor)
	}
	for _, name := range c.Only {
		if !slices.Contains(Faults(), name) {
			return nil, fmt.Errorf("drill: no fault is called %q: write one of %s", name, strings.Join(Faults(), ", "))
		}
	}
	return slices.DeleteFunc(faults(), func(f fault) bool { return len(c.Only) > 0 && !slices.Contains(c.Only, f.name) }), nil
}

// Run drills: it starts a cluster and what watches it, breaks one thing after the other, and tells of
// each. The error says what was not as promised, or why it could not be drilled. Nothing is left behind
// when it returns.
func Run(ctx context.Context, c Config) error {
	results, err := run(ctx, c)
	if err != nil {
		return err
	}
	return table(c.Out, results)
}

func run(ctx context.Context, c Config) (results []*result, err error) {
	picked, err := c.pick()
	if err != nil {
		return nil, err
	}
	s, err := open(c.Factor)
	defer func() { err = errors.Join(err, s.close()) }()
	if err != nil {
		return nil, err
	}
	d := &drill{stage: s, out: c.Out}
	d.greet()
	if err := d.settle(ctx); err != nil {
		return nil, err
	}
	for _, f := range picked {
		r, err := d.play(ctx, f)
		if err != nil {
			return nil, err
		}
		results = append(results, r)
	}
	slowest, err := d.slowest(ctx)
	if err == nil && slowest > d.scrape()/2 {
		fmt.Fprintf(c.Out, "This machine was too busy for a factor of %g: a scrape took %s. What is late by such times says nothing about the rules.\n", c.Factor, seconds(slowest))
	}
	return results, err
}

func (d *drill) greet() {
	if d.factor > 1 {
		fmt.Fprintf(d.out, "Everything goes %g times as fast: windows, for and ages of the rules are divided by it, and scrapes and evaluations are %v apart.\n", d.factor, d.scrape())
	} else {
		fmt.Fprintf(d.out, "The rules are as they are shipped; scrapes and evaluations are %v apart.\n", d.scrape())
	}
	fmt.Fprintf(d.out, "Alerts http://%[1]s/alerts, a picture http://%[1]s/consoles/openclaw.html, Alertmanager http://%[2]s\n", d.prometheus.Addr, d.alertmanager.Addr)
}

// startWithin is how long Prometheus has to find, scrape and judge the nodes; discovery alone takes 5 s.
const startWithin = 30 * time.Second

// settle waits until every node is scraped, every rule is evaluated well, and nothing fires.
func (d *drill) settle(ctx context.Context) error {
	for end := time.Now().Add(startWithin + d.scaled(5*time.Minute)); ; {
		up, err := d.scraped(ctx)
		if err == nil && up {
			if d.promised, err = d.promises(ctx); err == nil {
				var all map[at]state
				if all, err = d.active(ctx); err == nil && len(all) == 0 {
					return nil
				}
				err = errors.Join(err, fmt.Errorf("drill: something is wrong before anything is broken: %v", all))
			}
		}
		if time.Now().After(end) {
			return errors.Join(errors.New("drill: the nodes are not all scraped, judged and well"), err)
		}
		if err := d.pass(ctx, d.poll()); err != nil {
			return err
		}
	}
}

// poll is how often Prometheus is asked: far more often than it judges.
func (s *stage) poll() time.Duration { return min(s.scrape()/8, 500*time.Millisecond) }
