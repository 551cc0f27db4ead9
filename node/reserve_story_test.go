package node

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/openclaw/edge/testnet/memnet"
)

// reservers are nodes that share a limit of a million tokens, of which next to none come back by
// themselves.
func reservers(t *testing.T, net *memnet.Network, count int) (ms []*life) {
	for i := range count {
		m := newLife(t, net, i, t.TempDir())
		m.cfg.Limits = append(m.cfg.Limits, definition(t, "llm", 1_000_000, "1/h"))
		m.cfg.RoundRegion, m.cfg.RoundWAN, m.cfg.Tick = 500*time.Millisecond, 500*time.Millisecond, 200*time.Millisecond
		if i > 0 {
			m.cfg.Join = []string{ms[0].addr}
		}
		ms = append(ms, m)
	}
	for _, m := range ms {
		m.run()
	}
	for _, m := range ms {
		m.ready()
	}
	time.Sleep(2 * time.Second)
	return ms
}

func (m *life) reserve(key string, cost int64, ttl time.Duration) string {
	m.t.Helper()
	return mustReserve(m.t, m.Node, key, cost, ttl).ID
}

func (m *life) settle(id string, used int64) Settled {
	m.t.Helper()
	return mustSettle(m.t, m.Node, id, used)
}

// bears waits until all nodes agree on what a key's bucket bears.
func bears(t *testing.T, what, key string, want float64, within time.Duration, ms ...*life) {
	t.Helper()
	var got []float64
	for end := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		got = got[:0]
		for _, m := range ms {
			got = append(got, 1_000_000-m.level("llm", key))
		}
		if !slices.ContainsFunc(got, func(g float64) bool { return math.Abs(g-want) > 1 }) {
			return
		}
		if time.Now().After(end) {
			t.Errorf("%s: after %v the buckets of %s bear %v, want %v", what, within, key, got, want)
			return
		}
	}
}

func part(net *memnet.Network, cut bool, one *life, others ...*life) {
	for _, o := range others {
		if cut {
			net.Cut(one.addr, o.addr)
		} else {
			net.Heal(one.addr, o.addr)
		}
	}
}

func stopAll(ms ...*life) {
	for _, m := range ms {
		m.stop()
	}
}

// Reserved on one node and settled on another, twice and thrice; abandoned; settled too late.
func TestAReservationIsSettledOnAnyNode(t *testing.T) {
	bubble(t, func(t *testing.T, net *memnet.Network) {
		ms := reservers(t, net, 3)
		less, more, late := ms[0].reserve("alice", 500, time.Minute), ms[1].reserve("bob", 500, time.Minute), ms[0].reserve("dave", 500, time.Second)
		expires := mustReserve(t, ms[0].Node, "carol", 500, 20*time.Second).Expires
		bears(t, "reserved", "alice", 500, 3*time.Second, ms...)
		time.Sleep(2 * time.Second)
		if out := ms[1].settle(less, 120); !out.Known || out.Applied || out.Again || out.Estimate.Cost != 500 {
			t.Errorf("at another node: %+v", out)
		}
		ms[2].settle(more, 900)
		bears(t, "less was used", "alice", 120, 3*time.Second, ms...)
		bears(t, "more was used", "bob", 900, 3*time.Second, ms...)
		for i, m := range ms {
			if out := m.settle(less, 120); !out.Applied || !out.Again {
				t.Errorf("again, at edge-%d: %+v", i, out)
			}
			_, err := m.Settle(less, 121)
			wantRefusal(t, err, 409, "120 tokens were used")
		}
		bears(t, "abandoned after a second", "dave", 0, 3*time.Second, ms...)
		ms[2].settle(late, 70)
		bears(t, "settled after that", "dave", 70, 3*time.Second, ms...)
		bears(t, "not abandoned yet", "carol", 500, 0, ms...)
		time.Sleep(time.Until(expires.Add(time.Second)))
		bears(t, "abandoned", "carol", 0, 3*time.Second, ms...)
		time.Sleep(5 * time.Second)
		freed := uint64(0)
		for _, m := range ms {
			freed += m.reservations.counts.freed.Load()
		}
		if freed != 2 {
			t.Errorf("%d were freed", freed)
		}
		for key, want := range map[string]float64{"alice": 120, "bob": 900, "carol": 0, "dave": 70} {
			bears(t, "in the end", key, want, 0, ms...)
		}
		stopAll(ms...)
	})
}

// Behind a cut a settlement counts when the one who answers for the reservation hears of it; two of
// them end as the larger; what is abandoned is freed by its node alone.
func TestSettlementsOnBothSidesOfACut(t *testing.T) {
	bubble(t, func(t *testing.T, net *memnet.Network) {
		ms := reservers(t, net, 3)
		both, far, none := ms[0].reserve("alice", 500, 2*time.Minute), ms[0].reserve("bob", 500, 2*time.Minute), ms[0].reserve("carol", 500, 10*time.Second)
		time.Sleep(2 * time.Second)
		part(net, true, ms[0], ms[1:]...)
		time.Sleep(5 * time.Second)
		ms[0].settle(both, 100)
		ms[1].settle(both, 300)
		ms[2].settle(far, 200)
		hidden := ms[0].reserve("dave", 500, 2*time.Minute)
		if out := ms[1].settle(hidden, 50); out.Known {
			t.Errorf("known through a cut: %+v", out)
		}
		time.Sleep(10 * time.Second)
		bears(t, "its own side", "alice", 100, 0, ms[0])
		bears(t, "the far side", "alice", 500, 0, ms[1:]...)
		bears(t, "the estimate stays, on the safe side", "bob", 500, 0, ms...)
		bears(t, "abandoned, at its node", "carol", 0, 0, ms[0])
		bears(t, "abandoned, beyond the cut", "carol", 500, 0, ms[1:]...)
		_, err := ms[1].Settle(none, 0)
		if err != nil {
			t.Error(err)
		}
		part(net, false, ms[0], ms[1:]...)
		for key, want := range map[string]float64{"alice": 300, "bob": 200, "carol": 0, "dave": 50} {
			bears(t, "healed", key, want, 15*time.Second, ms...)
		}
		stopAll(ms...)
	})
}

// However its node stops and starts, before the settlement or after it: it counts once.
func TestAReservationOutlivesItsNodesRestart(t *testing.T) {
	for _, clean := range []bool{true, false} {
		t.Run(fmt.Sprint("clean=", clean), func(t *testing.T) {
			bubble(t, func(t *testing.T, net *memnet.Network) {
				ms := reservers(t, net, 3)
				down := func() {
					time.Sleep(2 * time.Second) // a round: what was not told is lost with a crash
					if clean {
						ms[0].stop()
					} else {
						kill(ms[0])
					}
					time.Sleep(5 * time.Second)
				}
				before, meanwhile, after, never := ms[0].reserve("alice", 500, time.Hour), ms[0].reserve("bob", 500, time.Hour), ms[0].reserve("carol", 500, time.Hour), ms[0].reserve("dave", 500, 10*time.Second)
				ms[1].settle(before, 100)
				down()
				ms[1].settle(meanwhile, 900)
				if _, err := ms[1].Settle(never, 1); err != nil {
					t.Error(err)
				}
				if want := map[bool]float64{true: 900, false: 500}[clean]; true {
					bears(t, "while its node is down", "bob", want, 5*time.Second, ms[1:]...) // one that left has an heir
				}
				ms[0].start()
				bears(t, "settled before", "alice", 100, 15*time.Second, ms...)
				bears(t, "settled meanwhile", "bob", 900, 15*time.Second, ms...)
				bears(t, "settled meanwhile", "dave", 1, 15*time.Second, ms...)
				down()
				ms[0].start()
				ms[2].settle(after, 2000)
				bears(t, "settled after", "carol", 2000, 15*time.Second, ms...)
				for _, id := range []string{before, meanwhile, after} {
					for _, m := range ms {
						m.Settle(id, map[string]int64{before: 100, meanwhile: 900, after: 2000}[id])
					}
				}
				time.Sleep(5 * time.Second)
				for key, want := range map[string]float64{"alice": 100, "bob": 900, "carol": 2000, "dave": 1} {
					bears(t, "in the end", key, want, 0, ms...)
				}
				stopAll(ms...)
			})
		})
	}
}

// A node alone has its disk, and it is enough.
func TestALoneNodeKeepsReservationsOnItsDisk(t *testing.T) {
	for _, clean := range []bool{true, false} {
		t.Run(fmt.Sprint("clean=", clean), func(t *testing.T) {
			bubble(t, func(t *testing.T, net *memnet.Network) {
				m := reservers(t, net, 1)[0]
				restart := func() {
					if clean {
						m.stop()
					} else {
						time.Sleep(m.cfg.Persist.SnapshotEvery * 5 / 4)
						kill(m)
					}
					time.Sleep(5 * time.Second)
					m.start()
				}
				settled, open, never := m.reserve("alice", 500, time.Hour), m.reserve("bob", 500, time.Hour), m.reserve("carol", 500, time.Minute)
				m.settle(settled, 100)
				restart()
				bears(t, "settled", "alice", 100, 5*time.Second, m)
				if out := m.settle(settled, 100); !out.Again || !out.Applied {
					t.Errorf("%+v", out)
				}
				bears(t, "open", "bob", 500, 0, m)
				m.settle(open, 800)
				bears(t, "settled by the next start", "bob", 800, 5*time.Second, m)
				restart()
				bears(t, "open", "carol", 500, 0, m)
				time.Sleep(time.Minute)
				for key, want := range map[string]float64{"alice": 100, "bob": 800, "carol": 0} {
					bears(t, "in the end", key, want, 0, m)
				}
				if _, err := m.Settle(never, 10); err != nil {
					t.Error(err)
				}
				bears(t, "late", "carol", 10, 5*time.Second, m)
				m.stop()
			})
		})
	}
}

// When its node has left for good, or was forgotten, an heir answers for a reservation: one.
func TestAnHeirAnswersForWhoIsGone(t *testing.T) {
	for _, forgotten := range []bool{false, true} {
		t.Run(fmt.Sprint("forgotten=", forgotten), func(t *testing.T) {
			bubble(t, func(t *testing.T, net *memnet.Network) {
				ms := reservers(t, net, 3)
				var ids []string
				for i := range 6 {
					ids = append(ids, ms[0].reserve(fmt.Sprint("key-", i), 500, 50*time.Second))
				}
				time.Sleep(2 * time.Second)
				ms[1].settle(ids[0], 100) // before it goes
				time.Sleep(3 * time.Second)
				if forgotten {
					kill(ms[0])
					time.Sleep(5 * time.Second)
					ms[1].settle(ids[1], 900) // while it is dead, and a member
					time.Sleep(5 * time.Second)
					bears(t, "dead, and a member", "key-1", 500, 0, ms[1:]...)
					if err := ms[2].Forget("edge-0", false); err != nil {
						t.Fatal(err)
					}
				} else {
					ms[0].stop()
					ms[1].settle(ids[1], 900)
				}
				time.Sleep(time.Second)
				part(net, true, ms[1], ms[2])
				time.Sleep(5 * time.Second)
				ms[1].settle(ids[2], 100)
				ms[2].settle(ids[2], 100)
				ms[1].settle(ids[3], 700)
				ms[2].settle(ids[3], 600)
				time.Sleep(10 * time.Second)
				part(net, false, ms[1], ms[2])
				for i, want := range []float64{100, 900, 100, 700, 500, 500} {
					bears(t, "", fmt.Sprint("key-", i), want, 15*time.Second, ms[1:]...)
				}
				time.Sleep(30 * time.Second)
				for i, want := range []float64{100, 900, 100, 700, 0, 0} {
					bears(t, "in the end", fmt.Sprint("key-", i), want, 0, ms[1:]...)
				}
				for _, rec := range ms[1].reservations.byID {
					if len(rec.Account()) > 2 {
						t.Errorf("%s was borne by more than its node and one heir: %v", rec.Key, rec.Account())
					}
				}
				stopAll(ms[1:]...)
			})
		})
	}
}
