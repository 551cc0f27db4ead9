package node

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/kv"
	"github.com/openclaw/edge/testnet/memnet"
)

var (
	lagSeed  = flag.Uint64("lag.seed", 0, "play this seed of TestWhatALaggingKVHoldsIsNeverLost alone")
	lagSeeds = flag.Uint64("lag.seeds", 4, "play so many seeds of it")
)

const (
	kvShows = 60 * time.Second // how old a state the KV of these tests shows, of absent keys too
	// reads is when, after a start, KV has shown what was there before and has been read again.
	reads = kvShows + 15*time.Second + 10*time.Second
)

// lagging is a life whose snapshots go to a KV that lags, and to a disk if it has one.
type lagging struct {
	*life
	kv   *kv.Server
	link *link
	up   bool
}

// link is a node's way to KV, which ends with it.
type link struct {
	to  http.RoundTripper
	cut atomic.Bool
}

var errDead = errors.New("the process is dead")

func (l *link) RoundTrip(r *http.Request) (*http.Response, error) {
	if l.cut.Load() {
		return nil, errDead
	}
	return l.to.RoundTrip(r)
}

func newLagging(t *testing.T, net *memnet.Network, i int, server *kv.Server) *lagging {
	m := &lagging{life: newLife(t, net, i, t.TempDir()), kv: server}
	t.Setenv("LAG_TOKEN", "token")
	p := &m.cfg.Persist
	p.Backend, p.AccountID, p.NamespaceID, p.TokenEnv, p.BaseURL = BackendCloudflare, "account", "namespace", "LAG_TOKEN", "http://kv"+kv.BasePath
	return m
}

// begin starts the node; it need not be ready yet.
func (m *lagging) begin() {
	m.t.Helper()
	m.link = &link{to: m.kv.RoundTripper()}
	m.cfg.kvClient = &http.Client{Transport: m.link}
	m.up = true
	m.run()
}

// crash ends the node without a last word, and maybe its disk with it.
func (m *lagging) crash(wiped bool) {
	m.t.Helper()
	m.link.cut.Store(true)
	left := m.t.TempDir()
	for try := 0; !wiped; try++ {
		err := os.CopyFS(left, os.DirFS(m.cfg.DataDir))
		if err == nil {
			break
		}
		if try == 9 { // a file was just being replaced
			m.t.Fatal(err)
		}
		left = m.t.TempDir()
	}
	m.stop()
	m.cfg.DataDir, m.up = left, false
}

// taken is what a key's slots say.
func (m *lagging) taken(key string) (sum int64) {
	m.t.Helper()
	b, err := m.Look("hourly", key)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, s := range b.Slots {
		sum += int64((s.Taken - s.Credited) / crdt.Token)
	}
	return sum
}

// A node is killed right after a snapshot, so that KV shows its next run what was there a minute
// before, and nothing at first. With its disk it knows everything when it is ready; without, as
// soon as KV shows it. What is taken meanwhile counts as well.
func TestARestartWithinTheLagOfKV(t *testing.T) {
	for _, wiped := range []bool{false, true} {
		for _, lives := range []int{1, 3} {
			t.Run(fmt.Sprintf("wiped=%v, restarts=%d", wiped, lives), func(t *testing.T) {
				bubble(t, func(t *testing.T, net *memnet.Network) {
					server := kv.New(kv.Config{Lag: kvShows})
					m := newLagging(t, net, 0, server)
					m.begin()
					m.ready()
					total := int64(0)
					for range lives {
						for range 3 {
							m.take("hourly", "alice", 40)
							total += 40
							if err := m.Snapshot(t.Context()); err != nil {
								t.Fatal(err)
							}
							time.Sleep(7 * time.Second)
						}
						m.crash(wiped)
						m.begin()
						m.ready()
						if got := m.taken("alice"); !wiped && got != total {
							t.Errorf("ready with %d taken, %d were stored on the disk", got, total)
						}
					}
					time.Sleep(reads)
					if got := m.taken("alice"); got != total {
						t.Errorf("%d taken, %d were stored", got, total)
					}
					time.Sleep(20 * time.Minute) // reconciles delete what the dead have left
					m.crash(true)
					m.begin()
					m.ready()
					if got := m.taken("alice"); got != total {
						t.Errorf("%d taken after the reconciles, %d were stored", got, total)
					}
					if keys := len(server.Dump()); keys > 2*3 { // limits and a segment, of this run and the one before
						t.Errorf("%d keys in KV", keys)
					}
					m.stop()
				})
			})
		}
	}
}

// Nodes that share a lagging KV take, store, crash and come back, in any order and at any time,
// with their disks or without. What all of them had stored at one time is there ever after, as
// soon as KV has had the time to show it.
func TestWhatALaggingKVHoldsIsNeverLost(t *testing.T) {
	for seed := uint64(1); seed <= *lagSeeds; seed++ {
		if *lagSeed != 0 {
			seed = *lagSeed
		}
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			bubble(t, func(t *testing.T, net *memnet.Network) { lagStory(t, net, seed) })
		})
		if *lagSeed != 0 {
			break
		}
	}
}

func lagStory(t *testing.T, net *memnet.Network, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	server := kv.New(kv.Config{Lag: kvShows, Stale: 0.3 + 0.7*rng.Float64(), Seed: seed, EmptyPages: true})
	var ms []*lagging
	for i := range 1 + rng.IntN(3) {
		m := newLagging(t, net, i, server)
		if i > 0 {
			m.cfg.Join = []string{ms[0].addr}
		}
		m.begin()
		ms = append(ms, m)
	}
	keys := []string{"alice", "bob", "carol", "dave", "erin", "frank"}
	floor, given := map[string]int64{}, map[string]int64{}
	check := func(what string) {
		t.Helper()
		server.Heal()
		for _, m := range ms {
			if !m.up {
				m.begin()
			}
		}
		for _, m := range ms {
			m.ready()
		}
		time.Sleep(reads)
		for _, m := range ms {
			for _, key := range keys {
				if got := m.taken(key); got < floor[key] || got > given[key] {
					t.Errorf("%s: %s of %d: %d taken of %s, stored were %d, given %d", what, m.cfg.Node, len(ms), got, key, floor[key], given[key])
				}
			}
		}
	}
	for step := range 40 {
		time.Sleep(time.Duration(rng.IntN(25)) * time.Second)
		m := ms[rng.IntN(len(ms))]
		switch do := rng.IntN(13); {
		case do < 3:
			if !m.up {
				continue
			}
			if ready, _ := m.Ready(); ready {
				key, cost := keys[rng.IntN(len(keys))], int64(1+rng.IntN(5))
				m.take("hourly", key, cost)
				given[key] += cost
			}
		case do < 7:
			storeAll(ms, keys, floor)
		case do < 9 && m.up:
			m.crash(rng.IntN(2) == 0)
		case do < 10: // all at once
			wiped := rng.IntN(2) == 0
			for _, m := range ms {
				if m.up {
					m.crash(wiped)
				}
			}
		case do < 11:
			if !m.up {
				m.begin()
			}
		case do < 12:
			ops := []string{"put", "put", "delete", "get", "list", ""}
			server.Fault(kv.Fault{Op: ops[rng.IntN(len(ops))], Kind: kv.Failure, For: kv.Duration(time.Duration(rng.IntN(200)) * time.Second)})
		default:
			if rng.IntN(3) == 0 {
				check(fmt.Sprint("step ", step))
			}
		}
	}
	check("the end")
	if n := server.Stats().Total(); n > 3*40*25+200 {
		t.Errorf("%d calls of KV", n)
	}
	for _, m := range ms {
		m.stop()
	}
}

// storeAll asks all nodes that run for a snapshot, when nothing is under way. If everything is
// stored, what they hold is the floor.
func storeAll(ms []*lagging, keys []string, floor map[string]int64) {
	time.Sleep(2 * time.Second) // gossip
	var up []*lagging
	for _, m := range ms {
		if !m.up {
			continue
		}
		if ok, _ := m.Ready(); !ok || m.Snapshot(m.t.Context()) != nil {
			return
		}
		up = append(up, m)
	}
	for _, m := range up {
		if m.Stats().AliveMembers < len(up) { // then each owns what it takes for its own
			return
		}
		for _, key := range keys {
			floor[key] = max(floor[key], m.taken(key))
		}
	}
}
