package page

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/openclaw/edge/testnet/world"
)

func newTestHub(t *toy) *hub {
	return newHub(Config{World: t, Link: toyLink, Stores: "toys",
		Flows: []*world.Flow{{Limit: "q", PerSecond: 200, Keys: world.Keys{Name: "k", N: 5}}},
		Flood: &world.Flow{Limit: "o", PerSecond: 100, Keys: world.Keys{Name: "n", New: true}}})
}

// turnOnce lets the hub do what it does in one turn, under these commands.
func turnOnce(t *testing.T, h *hub, commands ...command) {
	t.Helper()
	if err := h.w.Run(turn, h.load.now()); err != nil {
		t.Fatal(err)
	}
	for _, c := range commands {
		if _, err := h.do(c); err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
	}
	h.start()
	if _, err := h.faults.apply(h.w, h.w.Now()); err != nil {
		t.Fatal(err)
	}
	h.converged()
	h.publish()
}

func logged(h *hub, text string) bool {
	for _, e := range h.log.newest() {
		if strings.Contains(e.Text, text) {
			return true
		}
	}
	return false
}

// Whatever is switched on and off in whatever order, the World's links are what the switches
// say: a heal of one thing leaves no other healed.
func TestTheLinksAreWhatTheSwitchesSay(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	toy := newToy()
	h := newTestHub(toy)
	regions := h.faults.names
	for step := range 400 {
		var c command
		switch random.IntN(8) {
		case 0, 1, 2:
			c = command{Do: "region", Name: regions[random.IntN(3)], Mode: regionModes[random.IntN(len(regionModes))]}
		case 3, 4, 5:
			i := random.IntN(3)
			c = command{Do: "link", From: regions[i], To: regions[(i+1+random.IntN(2))%3], Mode: linkModes[random.IntN(len(linkModes))]}
		case 6:
			c = command{Do: "slow", On: random.IntN(2) == 0}
		case 7:
			c = command{Do: "heal"}
			if random.IntN(3) > 0 {
				continue
			}
		}
		toy.now += time.Duration(random.IntN(5)) * time.Second
		turnOnce(t, h, c)
		cuts := toy.cuts()
		for _, a := range regions {
			for _, b := range regions {
				if a == b {
					continue
				}
				want := h.faults.wanted(a, b, toy.now)
				link, slow := toy.links[pair{a + "-1", b + "-2"}]
				if cuts[pair{a, b}] != want.cut || slow != want.slow {
					t.Fatalf("step %d, after %+v: %s→%s is cut %v, slow %v; the switches say %+v", step, c, a, b, cuts[pair{a, b}], slow, want)
				}
				if slow && (link.Delay != 120*time.Millisecond || link.Loss != slowLoss) {
					t.Fatalf("a slow link is %+v", link)
				}
			}
		}
	}
}

// Each switch cuts the directions that its name says.
func TestEachCutIsTheOneAskedFor(t *testing.T) {
	for _, x := range []struct {
		c    command
		cuts string
	}{
		{command{Do: "region", Name: "eu", Mode: both}, "ap→eu eu→ap eu→us us→eu"},
		{command{Do: "region", Name: "eu", Mode: in}, "ap→eu us→eu"},
		{command{Do: "region", Name: "eu", Mode: out}, "eu→ap eu→us"},
		{command{Do: "region", Name: "eu", Mode: flap}, "ap→eu eu→ap eu→us us→eu"},
		{command{Do: "link", From: "us", To: "ap", Mode: both}, "ap→us us→ap"},
		{command{Do: "link", From: "us", To: "ap", Mode: there}, "us→ap"},
		{command{Do: "link", From: "us", To: "ap", Mode: back}, "ap→us"},
		{command{Do: "link", From: "ap", To: "us", Mode: there}, "ap→us"},
		{command{Do: "link", From: "ap", To: "us", Mode: back}, "us→ap"},
	} {
		toy := newToy()
		turnOnce(t, newTestHub(toy), x.c)
		var cuts []string
		for _, a := range []string{"ap", "eu", "us"} {
			for _, b := range []string{"ap", "eu", "us"} {
				if toy.cuts()[pair{a, b}] {
					cuts = append(cuts, a+"→"+b)
				}
			}
		}
		if got := strings.Join(cuts, " "); got != x.cuts {
			t.Errorf("%+v cuts %s, want %s", x.c, got, x.cuts)
		}
	}
}

func TestAFlapCutsAndHealsByItself(t *testing.T) {
	toy := newToy()
	h := newTestHub(toy)
	turnOnce(t, h, command{Do: "region", Name: "eu", Mode: flap})
	changes, before := 0, true
	for range 190 { // 19 s: down at 0, 8 and 16, up at 4 and 12
		turnOnce(t, h)
		if cut := toy.cuts()[pair{"eu", "us"}]; cut != before {
			changes, before = changes+1, cut
		}
	}
	if changes != 4 {
		t.Errorf("the link changed %d times in 19 s, want 4", changes)
	}
}

// A switch that the World refuses stays where it was, and so do the links.
func TestARefusedSwitchChangesNothing(t *testing.T) {
	toy := newToy()
	h := newTestHub(toy)
	turnOnce(t, h, command{Do: "link", From: "us", To: "ap", Mode: both})
	before := maps.Clone(toy.cut)
	toy.cannot = true
	for _, c := range []command{{Do: "region", Name: "eu", Mode: both}, {Do: "slow", On: true}, {Do: "store", Name: "kv", Fault: "429"}} {
		if _, err := h.do(c); !errors.Is(err, world.ErrCannot) {
			t.Errorf("%+v: %v, want %v", c, err, world.ErrCannot)
		}
	}
	if h.faults.regions["eu"].how != whole || h.faults.slow || h.stores["kv"] != "" {
		t.Errorf("a switch moved: %+v, slow %v, stores %v", h.faults.regions, h.faults.slow, h.stores)
	}
	if !maps.Equal(toy.cut, before) {
		t.Errorf("the links changed: %v, were %v", toy.cut, before)
	}
}

// A restart waits until the node has wound up, and then starts it.
func TestARestartWaitsForTheOldOne(t *testing.T) {
	toy := newToy()
	h := newTestHub(toy)
	turnOnce(t, h, command{Do: "node", Name: "us-1", Act: "restart"})
	if !toy.down["us-1"] {
		t.Fatal("us-1 was not stopped")
	}
	for range 12 {
		turnOnce(t, h)
	}
	if toy.down["us-1"] || len(h.starting) > 0 {
		t.Errorf("us-1 is down: %v; still to start: %v", toy.down["us-1"], h.starting)
	}
}

func TestHealEverythingHealsEverything(t *testing.T) {
	toy := newToy()
	h := newTestHub(toy)
	turnOnce(t, h, command{Do: "region", Name: "eu", Mode: both}, command{Do: "link", From: "us", To: "ap", Mode: flap}, command{Do: "slow", On: true},
		command{Do: "node", Name: "ap-1", Act: "crash"}, command{Do: "node", Name: "ap-2", Act: "pause"},
		command{Do: "store", Name: "kv", Fault: "500"}, command{Do: "store", Name: "redis", Fault: "down"}, command{Do: "flood", On: true})
	if len(toy.flowing) != 1 || len(h.load.now()) != 2 {
		t.Errorf("%d flows ran before the flood, %d are to run with it", len(toy.flowing), len(h.load.now()))
	}
	turnOnce(t, h, command{Do: "heal"})
	if len(toy.cut) > 0 || len(toy.links) > 0 || toy.down["ap-1"] || toy.paused["ap-2"] || toy.faults["kv"] != "" || toy.faults["redis"] != "" || h.load.flooding {
		t.Errorf("not healed: %+v", toy)
	}
	if !logged(h, "converged 0 ms after the heal") {
		t.Errorf("nobody says that the nodes agree: %+v", h.log.newest())
	}
}

func TestLoadFollowsItsSwitch(t *testing.T) {
	h := newTestHub(newToy())
	for times, want := range map[float64]float64{0: 0, 0.5: 100, 4: 800, 1: 200} {
		if _, err := h.do(command{Do: "load", Times: times}); err != nil {
			t.Fatal(err)
		}
		if got := h.load.perSecond(); got != want {
			t.Errorf("at %g times %g takes a second are offered, want %g", times, got, want)
		}
	}
}

// What is kept of the past is bounded, and what was handed out does not change.
func TestThePastIsBounded(t *testing.T) {
	p := past[int]{most: 10}
	var handed [][]int
	for i := range 100 {
		p.add(i)
		handed = append(handed, p.newest())
	}
	for last, list := range handed {
		if len(list) > 10 || list[len(list)-1] != last {
			t.Fatalf("after %d: %v", last, list)
		}
		for i := range list {
			if list[i] != last-len(list)+1+i {
				t.Fatalf("what was handed out after %d has changed: %v", last, list)
			}
		}
	}
	if cap(p.items) > 64 {
		t.Errorf("room for %d is kept", cap(p.items))
	}
}

func TestTheLogDoesNotRepeatWhatIsSeen(t *testing.T) {
	toy := newToy()
	h := newTestHub(toy)
	for range 50 {
		h.saw("the same", bad)
		toy.now += 100 * time.Millisecond
	}
	if n := len(h.log.newest()); n != 1 {
		t.Errorf("%d lines in five seconds, want 1", n)
	}
	toy.now += again
	h.saw("the same", bad)
	if n := len(h.log.newest()); n != 2 {
		t.Errorf("%d lines after another ten seconds, want 2", n)
	}
	for i := range 1000 {
		h.did(fmt.Sprint(i), good)
	}
	if n := len(h.log.newest()); n != maxEntries {
		t.Errorf("%d lines are kept, want %d", n, maxEntries)
	}
}
