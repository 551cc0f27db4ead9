package local_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/leak"
	"github.com/openclaw/edge/testnet/local"
	"github.com/openclaw/edge/testnet/memnet"
	"github.com/openclaw/edge/testnet/world"
)

var (
	eu = []string{"eu-1", "eu-2"}
	us = []string{"us-1", "us-2"}
	ap = []string{"ap-1", "ap-2"}
)

// open makes a testnet that ends with the test.
func open(t *testing.T, cfg local.Config) *local.Testnet {
	t.Helper()
	w, err := local.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shut(t, w) })
	return w
}

func shut(t *testing.T, w world.World) {
	t.Helper()
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until lets time pass under a load until something is so.
func until(t *testing.T, w world.World, within time.Duration, flows []*world.Flow, what string, so func() bool) time.Duration {
	t.Helper()
	began := w.Now()
	for w.Now()-began < within {
		if so() {
			return w.Now() - began
		}
		must(t, w.Run(100*time.Millisecond, flows))
	}
	for _, m := range w.Machines() {
		s := w.State(m.Name)
		t.Logf("%s: up %v, ready %v, reaches %d of %d, quorum at %.2f. %s", m.Name, s.Up, s.Ready, s.Cluster.ReachableMembers, s.Cluster.ExpectedMembers, s.Cluster.Policies["quorum"].Speed, s.Reason)
	}
	for _, m := range w.Machines() {
		s := w.State(m.Name)
		t.Logf("%s: up %v, ready %v, reaches %d of %d, quorum at %.2f. %s", m.Name, s.Up, s.Ready, s.Cluster.ReachableMembers, s.Cluster.ExpectedMembers, s.Cluster.Policies["quorum"].Speed, s.Reason)
	}
	t.Fatalf("not within %v: %s", within, what)
	return 0
}

// load is some 2,000 takes a second.
func load() []*world.Flow {
	return []*world.Flow{
		{Limit: "per-user", PerSecond: 1000, Keys: world.Keys{Name: "user-", N: 200, Zipf: 1.2}},
		{Limit: "global", PerSecond: 600, Pattern: world.Pattern{Even: true}, Keys: world.Keys{Name: "all"}},
		{Limit: "per-tenant", PerSecond: 400, Keys: world.Keys{Name: "tenant-", N: 3}},
	}
}

// speed is the share of the configured rate that a node offers, as its metric says.
func speed(w world.World, node, limit string) float64 {
	l := w.State(node).Limits[limit]
	return l.Refill / l.Configured
}

// Six nodes are up within three seconds, listen, keep up with 2,000 takes a second, and leave
// nothing behind.
func TestSixNodesComeUpAndGo(t *testing.T) {
	home := t.TempDir()
	t.Setenv("TMPDIR", home)
	before := goleak.IgnoreCurrent()
	began := time.Now()
	w, err := local.New(local.Config{Endless: true})
	must(t, err)
	took := time.Since(began)
	t.Logf("up after %v; %s", took.Round(time.Millisecond), w.Stores())
	if took > 3*time.Second {
		t.Errorf("up after %v, want 3 s", took)
	}
	flows := load()
	must(t, w.Run(5*time.Second, flows))
	offered := int64(0)
	for limit, s := range w.Observed().Recent.Total {
		offered += s.Offered
		t.Logf("%s: %+v, admitted/ideal %.4f", limit, s, s.Ratio())
		if r := s.Ratio(); r < 0.9 || r > 1.1 {
			t.Errorf("%s: admitted/ideal %.3f", limit, r)
		}
	}
	if offered < leastOffered || len(w.Observed().Takes) > 0 {
		t.Errorf("offered %d tokens in five seconds, %d buckets kept in full", offered, len(w.Observed().Takes))
	}
	for _, m := range w.Machines() {
		agrees(t, w, m)
	}
	must(t, w.Crash("us-2")) // what it leaves is cleared away, too
	must(t, w.Close())
	must(t, w.Close())
	if left, err := os.ReadDir(home); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	leak.None(t, before)
}

// agrees holds what a node serves against its State.
func agrees(t *testing.T, w world.World, m world.Machine) {
	t.Helper()
	if body, status := get(t, "http://"+m.HTTP+"/readyz"); status != http.StatusOK {
		t.Errorf("%s: %d %s", m.Name, status, body)
	}
	body, _ := get(t, "http://"+m.Metrics+"/metrics")
	state := w.State(m.Name)
	for limit, l := range state.Limits {
		for name, want := range map[string]float64{
			fmt.Sprintf(`openclaw_token_bucket_config_refill_rate{bucket="%s"}`, limit):            l.Configured,
			fmt.Sprintf(`openclaw_token_bucket_takes_total{bucket="%s",result="allowed"}`, limit):  float64(state.Takes[limit].Allowed),
			fmt.Sprintf(`openclaw_token_bucket_takes_total{bucket="%s",result="rejected"}`, limit): float64(state.Takes[limit].Rejected),
		} {
			found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(body)
			if found == nil {
				t.Fatalf("%s has no %s", m.Name, name)
			}
			if got, err := strconv.ParseFloat(found[1], 64); err != nil || got != want {
				t.Errorf("%s: %s is %v, State says %v", m.Name, name, got, want)
			}
		}
	}
}

func get(t *testing.T, url string) (body string, status int) {
	t.Helper()
	client := http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	resp, err := client.Get(url)
	must(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	must(t, err)
	return string(b), resp.StatusCode
}

// A region is cut off and healed, nodes stop, crash, and start again: in real time, on the same
// addresses.
func TestARegionIsCutOffInRealTime(t *testing.T) {
	w := open(t, local.Config{})
	flows := load()
	must(t, w.Run(time.Second, flows))
	must(t, w.Cut(eu, slices.Concat(us, ap)))
	must(t, w.Cut(slices.Concat(us, ap), eu))
	lease := 3 * time.Second
	fell := until(t, w, lease+2*time.Second, flows, "the refill of eu falls under 20 %, and it says so", func() bool {
		return speed(w, "eu-1", "per-user") < 0.2 && speed(w, "eu-2", "global") < 0.2 && !w.State("eu-1").Ready
	})
	if s := speed(w, "us-1", "per-user"); s < 0.2 {
		t.Errorf("us-1 runs at %.2f", s)
	}
	must(t, w.Heal(eu, slices.Concat(us, ap)))
	back := until(t, w, 10*time.Second, flows, "all is as before", func() bool {
		events := w.Observed().Events
		return speed(w, "eu-1", "per-user") > 0.95 && w.State("eu-2").Ready && events[len(events)-1].Agreed != judge.Never
	})
	t.Logf("fell after %v, back after %v, %+v", fell, back, w.Observed().Events)

	machines := w.Machines()
	must(t, w.Crash("ap-1"))
	must(t, w.Stop("us-2"))
	if s := w.State("ap-1"); s.Up || s.Reason == "" {
		t.Errorf("crashed: %+v", s)
	}
	must(t, w.Start("ap-1"))
	until(t, w, 10*time.Second, flows, "us-2 may start again", func() bool { return w.Start("us-2") == nil })
	until(t, w, 40*time.Second, flows, "all six are ready and see each other", func() bool {
		for _, m := range machines {
			if s := w.State(m.Name); !s.Ready || s.Cluster.ReachableMembers != 6 {
				return false
			}
		}
		return true
	})
	if again := w.Machines(); !slices.Equal(machines, again) {
		t.Errorf("on other addresses: %v, before %v", again, machines)
	}
	for _, m := range machines {
		agrees(t, w, m)
	}
}

// In virtual time a testnet does all but what needs sockets, and the laws hold.
func TestVirtualTime(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		w, err := local.New(local.Config{Virtual: true, Seed: 1})
		must(t, err)
		defer shut(t, w)
		for _, m := range w.Machines() {
			if m.HTTP != "" || m.Metrics != "" {
				t.Errorf("%+v listens", m)
			}
		}
		for _, store := range []string{"kv", "redis"} {
			if err := w.Fault(store, "down"); !errors.Is(err, world.ErrCannot) {
				t.Errorf("%s: %v", store, err)
			}
		}
		flows := load()
		for _, f := range flows {
			f.PerSecond /= 2
		}
		must(t, w.Run(10*time.Second, flows))
		rest := slices.Concat(us, ap)
		must(t, w.Cut(eu, rest))
		must(t, w.Cut(rest, eu))
		must(t, w.Run(10*time.Second, flows))
		if s := speed(w, "eu-1", "global"); s > 0.2 {
			t.Errorf("eu-1 offers %.2f of the rate, cut off", s)
		}
		must(t, w.Crash("us-1"))
		must(t, w.Heal(eu, rest))
		must(t, w.Run(10*time.Second, flows))
		must(t, w.Start("us-1"))
		must(t, w.Run(10*time.Second, flows))
		must(t, w.Run(20*time.Second, nil))
		w.Look()
		for _, b := range judge.Of(w.Observed(), judge.Laws{Nodes: 6, Delay: 400 * time.Millisecond, Ahead: 300 * time.Millisecond, Cuts: 1, Frozen: 10 * time.Second,
			Apart: 100 * time.Millisecond, Whole: true}).Breaches {
			t.Error(b)
		}
	})
}

// Whatever was done to a link, healing it makes it what it was; a link that is cut stays so when
// it is changed.
func TestLinksAreHealed(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		w, err := local.New(local.Config{Virtual: true, Regions: []world.Region{{Name: "eu", Nodes: 1}, {Name: "us", Nodes: 1}}})
		must(t, err)
		defer shut(t, w)
		one, other := []string{"eu-1"}, []string{"us-1"}
		rtt := func() float64 {
			must(t, w.Run(10*time.Second, nil))
			for _, m := range w.State("eu-1").Cluster.Members {
				if m.Node == "us-1" && m.State == "alive" {
					return m.RTTMS
				}
			}
			return 0
		}
		if ms := rtt(); ms < 76 || ms > 100 {
			t.Errorf("%.1f ms there and back, want some 80", ms)
		}
		must(t, w.Link(one, other, memnet.Link{Delay: 200 * time.Millisecond}))
		if ms := rtt(); ms < 230 || ms > 260 {
			t.Errorf("%.1f ms there and back, want some 240", ms)
		}
		must(t, w.Cut(other, one))
		must(t, w.Link(other, one, memnet.Link{}))
		if ms := rtt(); ms != 0 {
			t.Errorf("cut, and still %.1f ms away", ms)
		}
		must(t, w.Heal(one, other))
		if ms := rtt(); ms < 76 || ms > 100 {
			t.Errorf("%.1f ms there and back after the heal, want some 80", ms)
		}
	})
}

// A wall clock that is an hour ahead shows in the metric of the others, and no limit cares, not
// after a restart either.
func TestASkewedClockShowsAndChangesNothing(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		w, err := local.New(local.Config{Virtual: true, Regions: []world.Region{{Name: "eu", Nodes: 3}}})
		must(t, err)
		defer shut(t, w)
		flows := []*world.Flow{{Limit: "global", PerSecond: 900, Pattern: world.Pattern{Even: true}, Keys: world.Keys{Name: "all"}}}
		must(t, w.Run(5*time.Second, flows))
		for _, ahead := range []time.Duration{time.Hour, -time.Hour} {
			must(t, w.Skew("eu-2", ahead))
			must(t, w.Stop("eu-2"))
			until(t, w, 20*time.Second, flows, "eu-2 starts again", func() bool { return w.Start("eu-2") == nil })
			must(t, w.Run(10*time.Second, flows))
			for name, want := range map[string]time.Duration{"eu-1": ahead, "eu-3": ahead, "eu-2": -ahead} {
				for _, m := range w.State(name).Cluster.Members {
					if m.Node == "eu-2" != (name != "eu-2") {
						continue
					}
					if off := m.ClockSkewMS - float64(want.Milliseconds()); off < -50 || off > 50 {
						t.Errorf("%s shows %s %.0f ms ahead, want %v", name, m.Node, m.ClockSkewMS, want)
					}
				}
			}
		}
		must(t, w.Run(10*time.Second, nil))
		w.Look()
		for _, b := range judge.Of(w.Observed(), judge.Laws{Nodes: 3, Delay: 100 * time.Millisecond, Ahead: 100 * time.Millisecond, Apart: 50 * time.Millisecond, Whole: true}).Breaches {
			t.Error(b)
		}
	})
}

// Who asks for what there is not is told so, and nothing is done.
func TestRefusals(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		w, err := local.New(local.Config{Virtual: true, Regions: []world.Region{{Name: "eu", Nodes: 1}}})
		must(t, err)
		defer shut(t, w)
		must(t, w.Stop("eu-1"))
		events := len(w.Observed().Events)
		for what, err := range map[string]error{
			"stop": w.Stop("eu-1"), "crash": w.Crash("eu-1"), "pause": w.Pause("eu-1", true), "reload": w.Reload("eu-1", local.Limits()),
			"start": w.Start("eu-1"), // it is still stopping
		} {
			if err == nil {
				t.Errorf("%s of a node that does not run was not refused", what)
			}
		}
		until(t, w, 20*time.Second, nil, "eu-1 starts again", func() bool { return w.Start("eu-1") == nil })
		events++
		nobody := []string{"eu-9"}
		for what, err := range map[string]error{
			"start": w.Start("eu-9"), "stop": w.Stop("eu-9"), "crash": w.Crash("eu-9"), "pause": w.Pause("eu-9", true),
			"skew": w.Skew("eu-9", 1), "cut": w.Cut(eu[:1], nobody), "heal": w.Heal(nobody, nobody), "link": w.Link(nobody, nobody, memnet.Link{}),
			"reload": w.Reload("eu-9", local.Limits()), "start twice": w.Start("eu-1"), "no limits": w.Reload("eu-1", nil),
			"a flow of no limit": w.Run(time.Second, []*world.Flow{{Limit: "none", PerSecond: 1}}),
			"a flow to nobody":   w.Run(time.Second, []*world.Flow{{Limit: "global", PerSecond: 1, Nodes: nobody}}),
		} {
			if err == nil {
				t.Errorf("%s was not refused", what)
			}
		}
		if n := len(w.Observed().Events) - events; n != 0 {
			t.Errorf("%d events of what was refused", n)
		}
	})
}
