package stores

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openclaw/edge/testnet/kv"
)

var (
	chaos     = flag.Duration("chaos", 20*time.Second, "how long TestChaos lasts, but for its checkpoints")
	chaosSeed = flag.Uint64("seed", 0, "of TestChaos; 0: a new one")
)

// What TestChaos promises of a loss, by what happened to those who knew.
const (
	chaosEvery = 2 * time.Second // snapshot_every
	// A node that is killed takes with it what it had not gossiped: a round, and what a busy
	// machine makes of it.
	lostByOne = time.Second
	// When nobody is left the disks know: one interval, with its jitter, and the round itself,
	// which stores that fail make longer.
	lostByAll = chaosEvery*11/10 + 6*time.Second
	// A round that waits for a KV that does not answer is that much longer.
	lostWaiting = 14 * time.Second
	// Who is cut off, or whose peer died, goes by the old owners of segments for a lease.
	settles = 4 * time.Second
)

// Random outages of both stores, kills, restarts and cuts, under load. Whenever all nodes were
// down, and at the end, what they hold is compared with what they had answered to: what is lost
// must have been admitted less than a snapshot interval before. The end itself loses nothing: all
// are asked for a snapshot, killed, their disks wiped, and restored from the stores alone.
func TestChaos(t *testing.T) {
	seed := *chaosSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-chaos %v -seed %d", *chaos, seed)
	r := &riot{t: t, began: time.Now(), rng: rand.New(rand.NewPCG(seed, 0)), did: map[string]int{}}
	r.town = newTown(t, 4)
	r.ledger = newLedger(r.town)
	r.ledger.begin()
	end := time.Now().Add(*chaos)
	for now := time.Now(); now.Before(end); now = time.Now() {
		r.step()
		time.Sleep(time.Duration(200+r.rng.IntN(2800)) * time.Millisecond)
		if *chaos > time.Minute && r.rng.IntN(30) == 0 || *chaos <= time.Minute && r.did["step"]%8 == 0 {
			began := time.Now()
			r.massacre()
			end = end.Add(time.Since(began))
		}
	}
	r.checkpoint("the end of the chaos")
	r.everythingIsStored()
	r.ledger.stop()
	r.tell()
}

// riot does the damage. One goroutine, the test's.
type riot struct {
	t      *testing.T
	rng    *rand.Rand
	town   *town
	began  time.Time
	ledger *ledger
	did    map[string]int
	events []string
	// emptied: Redis came back empty, and what it alone held may not be anywhere else but in memory.
	emptied bool
	moved   time.Time // a node ended or began: its segments change hands
}

func (r *riot) note(what string) {
	r.did[strings.SplitN(what, ":", 2)[0]]++
	r.events = append(r.events, time.Now().Format("15:04:05.000 ")+what)
}

// step begins an outage or ends one.
func (r *riot) step() {
	r.did["step"]++
	switch r.rng.IntN(10) {
	case 0, 1, 2:
		r.breakKV()
	case 3, 4:
		r.breakRedis()
	case 5, 6:
		r.kill()
	case 7:
		r.cut()
	default:
		r.mend()
	}
}

func (r *riot) breakKV() {
	d := func(least, most int) kv.Duration {
		return kv.Duration(time.Duration(least+r.rng.IntN(most-least+1)) * time.Second)
	}
	f := []kv.Fault{
		{Kind: kv.Failure}, {Kind: kv.Failure, Status: 429, Code: 971, RetryAfter: "4"}, {Kind: kv.Failure, Status: 429, Code: 10022},
		{Kind: kv.HTML}, {Kind: kv.False}, {Kind: kv.Hang}, {Kind: kv.Reset}, {Kind: kv.Lost}, {Kind: kv.Late, Delay: d(1, 30)},
		{Kind: kv.Partial, Share: 0.3}, {Kind: kv.Down}, {Kind: kv.Slow, Delay: d(1, 5)},
		{Op: "delete", Kind: kv.Late, Delay: d(1, 30)}, {Op: "put", Kind: kv.Lost},
	}[r.rng.IntN(14)]
	if r.rng.IntN(3) == 0 {
		f.Rate = 0.5
	}
	f.For = d(1, 15)
	r.town.kv.Fault(f)
	if f.Kind == kv.Hang || f.Kind == kv.Late || f.Kind == kv.Slow {
		r.ledger.slowUntil(time.Now().Add(time.Duration(f.For)))
	}
	r.note(fmt.Sprintf("kv %s: %+v", f.Kind, f))
}

func (r *riot) breakRedis() {
	redis := r.town.redis
	switch {
	case r.town.redisStopped:
		redis.Cont()
		r.town.redisStopped = false
		r.note("redis goes on")
	case r.rng.IntN(2) == 0:
		redis.Stop()
		r.town.redisStopped = true
		r.note("redis stopped")
	default:
		empty := r.rng.IntN(2) == 0
		if err := redis.Restart(empty); err != nil {
			r.t.Fatal(err)
		}
		r.emptied = r.emptied || empty
		r.note(fmt.Sprintf("redis killed and restarted: empty %v", empty))
	}
}

// kill ends some nodes, but never the last that runs; or starts one again.
func (r *riot) kill() {
	up, down := r.town.split()
	switch {
	case len(down) > 0 && (len(up) == 1 || r.rng.IntN(2) == 0):
		n := down[r.rng.IntN(len(down))]
		n.restart()
		r.note("restart: " + n.name())
		r.moved = time.Now()
		return
	case len(up) == 1:
		return
	}
	r.rng.Shuffle(len(up), func(i, j int) { up[i], up[j] = up[j], up[i] })
	for _, n := range up[:1+r.rng.IntN(len(up)-1)] {
		if r.rng.IntN(4) == 0 {
			r.note("stop: " + n.name())
			n.stop()
			r.ledger.ended(n, 0)
			continue
		}
		r.note("kill: " + n.name())
		n.kill()
		window := lostByOne
		if len(r.town.cuts) > 0 || time.Since(r.town.healed) < 5*time.Second {
			window = lostByAll // its own disk brings back the rest
		}
		r.ledger.ended(n, window)
	}
	r.moved = time.Now()
}

func (r *riot) cut() {
	if r.town.net == nil {
		return
	}
	a, b := r.rng.IntN(len(r.town.nodes)), r.rng.IntN(len(r.town.nodes))
	switch {
	case a == b: // one from all
		for i := range r.town.nodes {
			if i != a {
				r.town.cut(a, i)
				r.town.cut(i, a)
			}
		}
	case r.rng.IntN(2) == 0:
		r.town.cut(a, b)
	default:
		r.town.cut(a, b)
		r.town.cut(b, a)
	}
	r.note(fmt.Sprintf("cut: %v", r.town.cuts))
}

func (r *riot) mend() {
	switch r.rng.IntN(3) {
	case 0:
		r.town.kv.Heal()
		r.note("kv healed")
	case 1:
		r.town.heal()
		r.note("links healed")
	default:
		_, down := r.town.split()
		for _, n := range down {
			n.restart()
			r.note("restart: " + n.name())
			r.moved = time.Now()
		}
	}
}

// massacre kills all nodes at once, under load, in one of three ways.
func (r *riot) massacre() {
	switch way := r.rng.IntN(3); {
	case way == 1:
		r.massacreHealed()
	case way == 2 && !r.emptied:
		r.massacreWiped()
	default: // what the disks hold comes back, whatever the stores do
		for _, n := range r.up() {
			n.kill()
			r.ledger.ended(n, lostByAll)
		}
		r.note("massacre: disks kept")
		r.checkpoint("all were killed, disks kept")
	}
}

// massacreHealed leaves the stores alone, which have had the time to become whole.
func (r *riot) massacreHealed() {
	r.healAll()
	since := time.Now()
	for _, n := range r.town.nodes {
		n.Eventually(90*time.Second, "has stored all", func() bool { return n.storedSince(since) })
	}
	r.ledger.swift()
	for _, n := range r.up() {
		n.kill()
		r.ledger.ended(n, lostByAll+r.town.lag) // a reader sees as much less
	}
	for _, n := range r.town.nodes {
		n.wipe()
	}
	r.note("massacre: healed, wiped")
	r.checkpoint("all were killed, healed before, disks wiped")
}

// massacreWiped goes by what the nodes say of their stores in the midst of it: what was admitted
// before the newest snapshots of all of them is in one of them, as each stores the segments it owns
// only; but for those of a node that is not there any more, or restores still. Nodes that have made
// none yet, or are down, keep their disks.
func (r *riot) massacreWiped() {
	up, wiped := r.up(), 0
	restoring, oldest := false, time.Now()
	for _, n := range up {
		if packed := n.packed(); packed.IsZero() {
			restoring = true
		} else if packed.Before(oldest) {
			oldest = packed
		}
	}
	for _, n := range up {
		packed := n.packed()
		n.kill()
		if packed.IsZero() {
			r.ledger.ended(n, lostByAll)
			continue
		}
		n.wipe()
		wiped++
		window := time.Since(oldest) + lostByOne
		if restoring {
			window = max(window, time.Since(r.moved)+lostByOne)
		}
		if len(r.town.cuts) > 0 || time.Since(r.town.healed) < settles || time.Since(r.moved) < settles {
			window += settles
		}
		r.ledger.endedWiped(n, window)
	}
	r.note(fmt.Sprintf("massacre: wiped %d of %d", wiped, len(up)))
	r.checkpoint(fmt.Sprintf("all were killed, %d of %d disks wiped", wiped, len(r.town.nodes)))
}

func (r *riot) up() []*citizen { up, _ := r.town.split(); return up }

func (r *riot) healAll() {
	r.town.kv.Heal()
	if r.town.redisStopped {
		r.town.redis.Cont()
		r.town.redisStopped = false
	}
	r.town.heal()
	_, down := r.town.split()
	for _, n := range down {
		n.restart()
	}
}

// checkpoint heals all, waits until all nodes hold the same, and compares that with the ledger.
func (r *riot) checkpoint(what string) {
	r.t.Helper()
	r.ledger.pause(true)
	defer r.ledger.pause(false)
	r.healAll()
	began := time.Now()
	r.town.whole(r.t)
	r.ledger.compare(r.t, what, began)
	r.note("checkpoint: " + what)
	for _, n := range r.town.nodes {
		n.Eventually(90*time.Second, "has all it owns in KV", n.nothingWaits)
	}
	r.emptied = false
}

// everythingIsStored: after a snapshot that every node acknowledged the stores alone bring
// everything back.
func (r *riot) everythingIsStored() {
	t := r.t
	r.ledger.pause(true)
	for _, n := range r.town.nodes {
		n.Eventually(90*time.Second, "stores a snapshot", n.snapshot)
	}
	before := r.town.whole(t)
	for _, n := range r.town.nodes {
		n.kill()
		n.wipe()
	}
	for _, n := range r.town.nodes {
		n.restart()
	}
	var after map[string]float64
	deadline := time.Now().Add(60 * time.Second)
	for {
		after = r.town.whole(t)
		if lost, _ := difference(before, after); lost == 0 || time.Now().After(deadline) {
			break
		}
		time.Sleep(time.Second)
	}
	lost, more := difference(before, after)
	t.Logf("restored from the stores alone: %d keys, %.0f tokens taken; lost %.0f, more %.0f", len(after), sum(after), lost, more)
	if lost > 0 || more > 0 {
		t.Errorf("what was acknowledged as stored is not what was restored: %.0f tokens lost, %.0f more", lost, more)
	}
	for _, n := range r.town.nodes {
		if aside, _ := filepath.Glob(filepath.Join(n.Dir, "aside", "*")); len(aside) > 0 {
			t.Errorf("%s set aside %v", n.name(), aside)
		}
	}
}

func difference(before, after map[string]float64) (lost, more float64) {
	for key, v := range before {
		switch d := v - after[key]; {
		case d > 1: // a token is refilled in an hour
			lost += d
		case d < -1:
			more -= d
		}
	}
	return lost, more
}

func sum(m map[string]float64) (s float64) {
	for _, v := range m {
		s += v
	}
	return s
}

// tell logs what was done, and checks that KV was not called more than the budget says.
func (r *riot) tell() {
	var kinds []string
	for what, n := range r.did {
		kinds = append(kinds, fmt.Sprintf("%s %d", what, n))
	}
	slices.Sort(kinds)
	r.t.Logf("done: %s", strings.Join(kinds, ", "))
	s := r.town.kv.Stats()
	fullest, allowed := s.Fullest(5*time.Minute), 200+3*(1+min(300, time.Since(r.began).Seconds()))
	r.t.Logf("KV: calls %v, %d in the fullest five minutes; faults %v", s.Calls, fullest, s.Faults)
	if float64(fullest) > allowed {
		r.t.Errorf("%d calls of KV in five minutes: the budget is %.0f, whoever started how often", fullest, allowed)
	}
	if r.t.Failed() {
		r.t.Logf("events:\n%s", strings.Join(r.events, "\n"))
		if dir := os.Getenv("CHAOS_LOGS"); dir != "" {
			for _, n := range r.town.nodes {
				os.WriteFile(filepath.Join(dir, n.name()+".log"), []byte(n.Logs()), 0o600)
			}
		}
	}
}
