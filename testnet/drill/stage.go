package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/openclaw/edge/alerts"
	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/node"
	"github.com/openclaw/edge/testnet/local"
	"github.com/openclaw/edge/testnet/program"
	"github.com/openclaw/edge/testnet/world"
)

// The limits: one of each policy. Buckets are small, so that they run dry soon; those of the flood's are
// full again a second after a take, and then make room.
const (
	userLimit, tenantLimit, floodLimit = "per-user", "per-tenant", "per-ip"
	mostBuckets                        = 200 // of the flood's limit
)

func limits() []crdt.Definition {
	limit := func(name string, capacity int64, rate string, p crdt.Policy, most uint32) crdt.Definition {
		r, err := crdt.ParseRate(rate)
		if err != nil {
			panic(err) // a constant of this function
		}
		return crdt.Definition{Name: name, Capacity: crdt.Milli(capacity) * crdt.Token, Rate: r, Policy: p, MaxBuckets: most}
	}
	return []crdt.Definition{limit(userLimit, 20, "10", crdt.Quorum, 1000), limit(tenantLimit, 100, "50", crdt.Share, 1000), limit(floodLimit, 10, "1", crdt.Open, mostBuckets)}
}

// What Prometheus does by default here: the rules are made for it.
const scrapeEvery = 15 * time.Second

// What does not go faster with the factor: less, and a busy machine would look like a cut, or the nodes
// would use up the calls that Cloudflare allows.
const (
	leastLease    = 1500 * time.Millisecond
	leastDoubt    = 300 * time.Millisecond
	leastSnapshot = 2 * time.Second
)

// stage is the cluster, what watches it, and the load.
type stage struct {
	factor       float64
	dir          string
	net          *local.Testnet
	load         *load
	prometheus   *program.Program
	alertmanager *program.Program
}

// scaled is a span of the real world in the drill's.
func (s *stage) scaled(d time.Duration) time.Duration {
	return (time.Duration(float64(d) / s.factor)).Round(time.Millisecond)
}

func (s *stage) scrape() time.Duration { return s.scaled(scrapeEvery) }

// find finds the programs that a drill needs, or says what to install.
func find() (prometheus, alertmanager string, err error) {
	prometheus, err = exec.LookPath("prometheus")
	if err != nil {
		return "", "", errors.New("drill: prometheus is not installed; Debian: apt-get install prometheus, or put it into PATH")
	}
	for _, name := range []string{"alertmanager", "prometheus-alertmanager"} { // upstream's name and Debian's
		if alertmanager, err = exec.LookPath(name); err == nil {
			return prometheus, alertmanager, nil
		}
	}
	return "", "", errors.New("drill: alertmanager is not installed; Debian: apt-get install prometheus-alertmanager, or put it into PATH")
}

// open starts everything. What it returns is to be closed, even with an error.
func open(factor float64) (*stage, error) {
	s := &stage{factor: factor}
	prometheus, alertmanager, err := find()
	if err != nil {
		return s, err
	}
	if s.dir, err = os.MkdirTemp("", "openclaw-drill-*"); err != nil {
		return s, fmt.Errorf("drill: %w", err)
	}
	near := make(map[[2]string]time.Duration)
	for _, pair := range [][2]string{{"eu", "us"}, {"us", "ap"}, {"eu", "ap"}} {
		near[pair] = 5 * time.Millisecond // less than a lease by far, however short that is
	}
	s.net, err = local.New(local.Config{
		Regions: []world.Region{{Name: "eu", Nodes: 1}, {Name: "us", Nodes: 1}, {Name: "ap", Nodes: 1}},
		Limits:  limits(), Delay: near, Seed: 1, Endless: true, Tune: s.tune,
	})
	if err != nil {
		return s, err
	}
	s.load = newLoad(s.net.Machines())
	if err := s.writeFiles(); err != nil {
		return s, err
	}
	if s.alertmanager, err = program.Start(alertmanager, "--config.file="+s.file("alertmanager.yml"), "--storage.path="+s.file("alertmanager"),
		"--web.listen-address=127.0.0.1:0", "--cluster.listen-address="); err != nil {
		return s, err
	}
	if err := s.writePrometheus(); err != nil {
		return s, err
	}
	s.prometheus, err = program.Start(prometheus, "--config.file="+s.file("prometheus.yml"), "--storage.tsdb.path="+s.file("data"),
		"--web.listen-address=127.0.0.1:0", "--web.console.templates="+s.dir, "--web.console.libraries="+s.dir,
		"--rules.alert.resend-delay="+min(s.scrape(), time.Second).String())
	return s, err
}

// tune makes a node as fast as its rules, as far as that goes.
func (s *stage) tune(c *node.Config) {
	c.Lease = max(s.scaled(c.Lease), leastLease)
	c.Doubt = max(s.scaled(c.Doubt), leastDoubt)
	c.RoundWAN = c.RoundRegion // as near as the links are
	usual := node.DefaultConfig().Persist
	c.Persist.SnapshotEvery = max(s.scaled(usual.SnapshotEvery), leastSnapshot)
	c.Persist.ReconcileEvery = max(s.scaled(usual.ReconcileEvery), 10*leastSnapshot)
}

func (s *stage) file(name string) string { return filepath.Join(s.dir, name) }

func (s *stage) write(name, text string) error {
	if err := os.WriteFile(s.file(name), []byte(text), 0o600); err != nil {
		return fmt.Errorf("drill: %w", err)
	}
	return nil
}

// writeFiles writes the rules, the console, and Alertmanager's routes and inhibitions with receivers
// that tell nobody.
func (s *stage) writeFiles() error {
	rules, err := alerts.Scaled(s.factor)
	if err != nil {
		return err
	}
	for name, text := range rules {
		if err := s.write("rules-"+name, text); err != nil {
			return err
		}
	}
	var routing struct {
		Route        any `yaml:"route"`
		InhibitRules any `yaml:"inhibit_rules"`
		Receivers    []struct {
			Name string `yaml:"name"`
		} `yaml:"receivers"`
	}
	if err := yaml.Unmarshal(alerts.Routing, &routing); err != nil {
		return fmt.Errorf("drill: alertmanager.yml: %w", err)
	}
	text, err := yaml.Marshal(routing)
	if err != nil {
		return fmt.Errorf("drill: alertmanager.yml: %w", err)
	}
	return errors.Join(s.write("alertmanager.yml", string(text)), s.write("openclaw.html", string(alerts.Console)))
}

func (s *stage) writePrometheus() error {
	var targets []string
	for _, m := range s.net.Machines() {
		targets = append(targets, m.Metrics)
	}
	every := fmt.Sprintf("%dms", s.scrape().Milliseconds())
	return s.write("prometheus.yml", fmt.Sprintf(`global: {scrape_interval: %s, scrape_timeout: %s, evaluation_interval: %s}
rule_files: [%q]
alerting: {alertmanagers: [{static_configs: [{targets: [%q]}]}]}
scrape_configs: [{job_name: edge, static_configs: [{targets: ["%s"]}]}]
`, every, s.scrapeTimeout(), every, s.file("rules-*.yml"), s.alertmanager.Addr, strings.Join(targets, `", "`)))
}

// scrapeTimeout is Prometheus' default, or all there is.
func (s *stage) scrapeTimeout() string {
	return fmt.Sprintf("%dms", min(s.scrape(), 10*time.Second).Milliseconds())
}

func (s *stage) cut(on bool) error {
	rest := []string{paused, crashed}
	if !on {
		return s.net.Heal([]string{cutOff}, rest)
	}
	return errors.Join(s.net.Cut([]string{cutOff}, rest), s.net.Cut(rest, []string{cutOff}))
}

// restart starts the crashed node again, at the same address, as soon as what is left of it allows.
func (s *stage) restart() error { return s.net.Start(crashed) }

// close ends everything, and leaves nothing behind.
func (s *stage) close() error {
	for _, p := range []*program.Program{s.prometheus, s.alertmanager} {
		if p != nil {
			p.Stop()
		}
	}
	if s.load != nil {
		s.load.close()
	}
	var err error
	if s.net != nil {
		err = s.net.Close()
	}
	if s.dir != "" {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	return err
}

var errStopped = errors.New("drill: stopped")

// pass lets time pass, until d is over, the drill is to end, or something fails that nobody asked for.
func (s *stage) pass(ctx context.Context, d time.Duration) error {
	for _, p := range []*program.Program{s.prometheus, s.alertmanager} {
		select {
		case <-ctx.Done():
			return errStopped
		case <-p.Ended():
			return fmt.Errorf("drill: a program has ended that should not:\n%s", p.Log())
		default:
		}
	}
	return s.net.Run(d, nil)
}
