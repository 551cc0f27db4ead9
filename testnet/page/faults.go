package page

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/openclaw/edge/testnet/memnet"
	"github.com/openclaw/edge/testnet/world"
)

// How a region or a link is cut. Directions of a link are named by its regions' order.
const (
	whole = ""
	both  = "both"
	in    = "in"    // a region: it hears nobody
	out   = "out"   // a region: nobody hears it
	there = "there" // a link: from its first region to its second
	back  = "back"
	flap  = "flap" // cut for flapDown, whole for flapUp, and so on
)

// A flap is down for longer than the lease, so that it shows, and up for long enough to begin anew.
const (
	flapDown = 4 * time.Second
	flapUp   = 4 * time.Second
)

// A slow and lossy WAN: every link between regions is so many times slower, and loses packets.
const (
	slowTimes = 3
	slowLoss  = 0.1
)

var (
	regionModes = []string{whole, both, in, out, flap}
	linkModes   = []string{whole, both, there, back, flap}
)

// faults is which switches of the network are on, and what the World was told of them. It
// belongs to the hub.
type faults struct {
	names   []string            // of the regions, in order
	nodes   map[string][]string // by region
	normal  func(from, to string) memnet.Link
	regions map[string]mode
	links   map[pair]mode // the regions in order
	slow    bool

	told map[pair]condition // by direction
}

// mode is how something is cut, and since when.
type mode struct {
	how   string
	since time.Duration
}

type pair struct{ from, to string }

// condition is what holds for one direction between two regions.
type condition struct{ cut, slow bool }

func newFaults(machines []world.Machine, normal func(from, to string) memnet.Link) *faults {
	f := &faults{nodes: map[string][]string{}, normal: normal,
		regions: map[string]mode{}, links: map[pair]mode{}, told: map[pair]condition{}}
	for _, m := range machines {
		if f.nodes[m.Region] == nil {
			f.names = append(f.names, m.Region)
		}
		f.nodes[m.Region] = append(f.nodes[m.Region], m.Name)
	}
	return f
}

// pairs are the links, each once.
func (f *faults) pairs() (ps []pair) {
	for i, a := range f.names {
		for _, b := range f.names[i+1:] {
			ps = append(ps, pair{a, b})
		}
	}
	return ps
}

// link is the pair of two regions in order, and whether they came the other way round.
func (f *faults) link(a, b string) (p pair, turned, ok bool) {
	i, j := slices.Index(f.names, a), slices.Index(f.names, b)
	if i < 0 || j < 0 || i == j {
		return pair{}, false, false
	}
	if i > j {
		return pair{b, a}, true, true
	}
	return pair{a, b}, false, true
}

func (m mode) down(now time.Duration) bool {
	return m.how == flap && (now-m.since)%(flapDown+flapUp) < flapDown
}

// wanted is what the switches say of one direction at a time.
func (f *faults) wanted(from, to string, now time.Duration) condition {
	a, b := f.regions[from], f.regions[to]
	p, turned, _ := f.link(from, to)
	l := f.links[p]
	cut := a.how == both || a.how == out || a.down(now) ||
		b.how == both || b.how == in || b.down(now) ||
		l.how == both || l.how == there && !turned || l.how == back && turned || l.down(now)
	return condition{cut: cut, slow: f.slow}
}

// apply tells the World what changed, and whether anything was mended. World.Heal mends both
// directions and the link's settings at once, so what is to stay is laid on again.
func (f *faults) apply(w world.World, now time.Duration) (mended bool, err error) {
	for _, p := range f.pairs() {
		ways := []pair{p, {p.to, p.from}}
		changed, lifted := false, false
		for _, way := range ways {
			want, told := f.wanted(way.from, way.to, now), f.told[way]
			changed = changed || want != told
			lifted = lifted || told.cut && !want.cut || told.slow && !want.slow
		}
		if !changed {
			continue
		}
		if lifted {
			mended = true
			if err := w.Heal(f.nodes[p.from], f.nodes[p.to]); err != nil {
				return mended, err
			}
			f.told[ways[0]], f.told[ways[1]] = condition{}, condition{}
		}
		for _, way := range ways {
			if err := f.lay(w, way, f.wanted(way.from, way.to, now)); err != nil {
				return mended, err
			}
		}
	}
	return mended, nil
}

// lay puts on one direction what is not on it yet. The link comes first: it undoes a cut.
func (f *faults) lay(w world.World, way pair, want condition) error {
	from, to := f.nodes[way.from], f.nodes[way.to]
	told := f.told[way]
	if want.slow && !told.slow {
		link := f.normal(way.from, way.to)
		link.Delay, link.Jitter, link.Loss = slowTimes*link.Delay, slowTimes*link.Jitter+link.Delay/2, slowLoss
		if err := w.Link(from, to, link); err != nil {
			return err
		}
		told = condition{slow: true}
	}
	if want.cut && !told.cut {
		if err := w.Cut(from, to); err != nil {
			return err
		}
		told.cut = true
	}
	f.told[way] = told
	return nil
}

// delay is what one direction's healthy link, or its slow one, makes a packet wait in the mean.
func (f *faults) delay(from, to string) time.Duration {
	link := f.normal(from, to)
	d := link.Delay + link.Jitter/2
	if f.told[pair{from, to}].slow {
		d *= slowTimes
	}
	return d
}

// try changes the switches and the World with them. If the World cannot, everything is as before.
func (f *faults) try(w world.World, now time.Duration, change func(*faults)) (mended bool, err error) {
	regions, links, slow := maps.Clone(f.regions), maps.Clone(f.links), f.slow
	change(f)
	mended, err = f.apply(w, now)
	if err != nil {
		f.regions, f.links, f.slow = regions, links, slow
		if _, again := f.apply(w, now); again != nil {
			err = fmt.Errorf("%w (and putting back what was before failed, too: %v)", err, again)
		}
		return false, err
	}
	return mended, nil
}

// clear turns everything off.
func (f *faults) clear() {
	clear(f.regions)
	clear(f.links)
	f.slow = false
}
