package node

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/memnet"
)

var (
	reserveSeed  = flag.Uint64("reserve.seed", 0, "play this seed of TestWhatIsBorneIsWhatWasUsed alone")
	reserveSeeds = flag.Uint64("reserve.seeds", 4, "play so many seeds of it")
)

// Reservations and settlements at random nodes, repeated and contradicted, through cuts and clean
// restarts: when all is healed, what every node's buckets bear is to the token what was used, and
// the estimates of those that are still open.
func TestWhatIsBorneIsWhatWasUsed(t *testing.T) {
	for seed := uint64(1); seed <= *reserveSeeds; seed++ {
		if *reserveSeed > 0 {
			seed = *reserveSeed
		}
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			bubble(t, func(t *testing.T, net *memnet.Network) { reserveStory(t, net, seed) })
		})
		if *reserveSeed > 0 {
			return
		}
	}
}

// promise is what a test knows of a reservation.
type promise struct {
	id, key    string
	cost, used int64 // used: the largest that was accepted, -1 before
	until      time.Time
}

// ledger plays a schedule and keeps the books.
type ledger struct {
	t        *testing.T
	rng      *rand.Rand
	net      *memnet.Network
	ms       []*life
	up       []bool
	promises []*promise
	done     map[string]int // by what
}

const (
	ledgerKeys = 3
	ledgerBase = 300_000 // taken of each key at first, so that no credit is ever clipped
)

func reserveStory(t *testing.T, net *memnet.Network, seed uint64) {
	l := &ledger{t: t, rng: rand.New(rand.NewPCG(seed, 6)), net: net, ms: reservers(t, net, 4), up: []bool{true, true, true, true}, done: map[string]int{}}
	for k := range ledgerKeys {
		l.ms[0].take("llm", fmt.Sprint("key-", k), ledgerBase)
	}
	time.Sleep(2 * time.Second)
	for range 150 {
		l.step()
		time.Sleep(time.Duration(l.rng.IntN(1000)) * time.Millisecond)
	}
	l.net.HealAll()
	for i, m := range l.ms {
		if !l.up[i] {
			m.run()
		}
	}
	for _, m := range l.ms {
		m.ready()
	}
	time.Sleep(40 * time.Second) // longer than any short ttl
	t.Log(l.done)
	l.check()
	stopAll(l.ms...)
}

func (l *ledger) step() {
	i := l.rng.IntN(len(l.ms))
	m, what := l.ms[i], l.rng.IntN(100)
	switch {
	case what < 12:
		l.restart(i)
	case what < 20:
		l.net.Cut(m.addr, l.ms[l.rng.IntN(len(l.ms))].addr)
		l.done["cut"]++
	case what < 24:
		for _, o := range l.ms { // from everybody
			if o != m {
				l.net.Cut(m.addr, o.addr)
			}
		}
		l.done["cut off"]++
	case what < 29:
		l.net.HealAll()
	case !l.up[i] || !m.standing().ripe: // who has not finished its start gets no traffic
	case what < 58 || len(l.promises) == 0:
		p := &promise{key: fmt.Sprint("key-", l.rng.IntN(ledgerKeys)), cost: 1 + l.rng.Int64N(1000), used: -1}
		ttl := time.Hour
		if l.rng.IntN(2) == 0 {
			ttl = time.Duration(1+l.rng.IntN(20)) * time.Second
		}
		out := mustReserve(l.t, m.Node, p.key, p.cost, ttl)
		p.id, p.until = out.ID, out.Expires
		l.promises = append(l.promises, p)
		l.done["reserved"]++
	default:
		l.settle(m, l.promises[l.rng.IntN(len(l.promises))])
	}
}

func (l *ledger) settle(m *life, p *promise) {
	used := l.rng.Int64N(2000)
	if l.rng.IntN(2) == 0 && p.used >= 0 {
		used = p.used
	}
	out, err := m.Settle(p.id, used)
	var r *Refusal
	switch {
	case errors.As(err, &r) && r.Status == 409:
		l.done["contradicted"]++
		return
	case err != nil:
		l.t.Fatal(err)
	case out.Again:
		l.done["repeated"]++
	case !out.Known:
		l.done["overtaken"]++
	case out.Applied:
		l.done["applied at once"]++
	case p.used >= 0 && p.used != used:
		l.done["two figures"]++
	default:
		l.done["applied later"]++
	}
	if time.Now().After(p.until) {
		l.done["late"]++
	}
	p.used = max(p.used, used)
}

// restart stops a node or starts it again; most of them are up.
func (l *ledger) restart(i int) {
	if !l.up[i] {
		l.ms[i].run()
		l.up[i] = true
		return
	}
	for j, up := range l.up {
		if !up && j != i {
			return
		}
	}
	time.Sleep(time.Duration(l.rng.IntN(2000)) * time.Millisecond)
	l.ms[i].stop()
	l.up[i] = false
	l.done["stopped"]++
}

func (l *ledger) check() {
	want := map[string]int64{}
	for _, p := range l.promises {
		switch {
		case p.used >= 0:
			want[p.key] += p.used
		case time.Now().Before(p.until):
			want[p.key] += p.cost
		}
	}
	for k := range ledgerKeys {
		key := fmt.Sprint("key-", k)
		for _, m := range l.ms {
			b, err := m.Look("llm", key)
			if err != nil {
				l.t.Fatal(err)
			}
			var sum crdt.Milli
			for _, s := range b.Slots {
				sum += s.Taken - s.Credited
			}
			if got := int64(sum/crdt.Token) - ledgerBase; got != want[key] || sum%crdt.Token != 0 {
				l.t.Errorf("%s: %s bears %d, want %d", m.cfg.Node, key, got, want[key])
				l.blame(m, key)
			}
		}
	}
}

// blame names the reservations that a node has another idea of.
func (l *ledger) blame(m *life, key string) {
	now := time.Now().Unix()
	for _, p := range l.promises {
		id, err := m.reservationID(p.id, now)
		if p.key != key || err != nil {
			continue
		}
		m.reservations.mu.Lock()
		if rec := m.reservations.byID[id]; rec == nil {
			l.t.Logf("  unknown: %+v", *p)
		} else if used, settled := rec.Used(); settled && used != p.used || rec.Net() != rec.Target(now) {
			l.t.Logf("  %+v: net %d, target %d, %v", *p, rec.Net(), rec.Target(now), rec.Account())
		}
		m.reservations.mu.Unlock()
	}
}
