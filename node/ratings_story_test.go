package node

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openclaw/edge/testnet/memnet"
)

// poll is the parties of a story, and the dumb count of what was said.
type poll struct {
	t       *testing.T
	votes   map[string]map[string]int // subject, rater: the last vote
	unnamed map[string][2]int64       // up, down of requests without a key
}

func newPoll(t *testing.T) *poll {
	return &poll{t, map[string]map[string]int{}, map[string][2]int64{}}
}

// send sends a request twice, to one node or to two.
func (p *poll) send(b Ballot, to ...*life) {
	p.t.Helper()
	b.Payer = fmt.Sprint("payer-", len(p.votes), b.Rater, b.Once)
	for i := range 2 {
		n := to[i%len(to)].Node
		out, err := n.Rate(b)
		if err != nil || !out.Take.Allowed {
			p.t.Fatalf("%+v at %s: %+v, %v", b, n.cfg.Node, out, err)
		}
		if len(to) == 1 && out.Changed != (i == 0) {
			p.t.Errorf("%+v, try %d: changed %v", b, i, out.Changed)
		}
	}
	if p.votes[b.Subject] == nil {
		p.votes[b.Subject] = map[string]int{}
	}
	p.votes[b.Subject][b.Rater+"|"+b.Once] = b.Vote
}

// once sends a request that has neither a rater nor a key: it counts as often as it is sent.
func (p *poll) once(subject string, vote int, to *life) {
	p.t.Helper()
	if out, err := to.Rate(Ballot{Subject: subject, Vote: vote, Payer: "address"}); err != nil || !out.Changed {
		p.t.Fatalf("%+v, %v", out, err)
	}
	n := p.unnamed[subject]
	p.unnamed[subject] = [2]int64{n[0] + int64(max(0, vote)), n[1] + int64(max(0, -vote))}
}

func (p *poll) want(subject string) (up, down int64) {
	for _, v := range p.votes[subject] {
		up, down = up+int64(max(0, v)), down+int64(max(0, -v))
	}
	return up + p.unnamed[subject][0], down + p.unnamed[subject][1]
}

// agreed tells whether a node has counted exactly what was said.
func (p *poll) agreed(m *life) error {
	for subject := range p.votes {
		up, down := p.want(subject)
		if r := m.LookRating(subject); r.Up != up || r.Down != down {
			return fmt.Errorf("%s: %s has %d up and %d down, want %d and %d", m.cfg.Node, subject, r.Up, r.Down, up, down)
		}
	}
	return nil
}

// settled waits until nodes have counted exactly what was said.
func (p *poll) settled(within time.Duration, nodes ...*life) {
	p.t.Helper()
	var err error
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		err = nil
		for _, m := range nodes {
			if why := p.agreed(m); why != nil {
				err = why
			}
		}
		if err == nil {
			return
		}
	}
	p.t.Fatalf("after %v: %v", within, err)
}

// Three nodes behind a cut, votes on both sides, every request sent twice: with the heal all
// three count each vote once, a vote changed or withdrawn on the other side included. Then all
// stop, and start again from what they stored, one of them without its disk.
func TestVotesOfBothSidesOfACutAreCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := memnet.New(7)
		kv := newMemStore("kv")
		var ms []*life
		for i := range 3 {
			m := newLife(t, net, i, t.TempDir())
			if i > 0 {
				m.cfg.Join = []string{ms[0].addr}
			}
			m.cfg.RatingsLimit, m.cfg.Limits[0].Capacity = "slow", 1e9
			m.cfg.stores = &stores{primary: kv, shared: true}
			ms = append(ms, m)
		}
		for _, m := range ms {
			m.start()
		}
		p := newPoll(t)
		all := func(vote func(rater, once string, i int)) {
			for i := range 120 { // several pages
				vote(fmt.Sprint("rater-", i), "", i)
				vote("", fmt.Sprint("key-", i), i)
			}
		}
		all(func(rater, once string, i int) {
			p.send(Ballot{Subject: "latte", Vote: 1, Rater: rater, Once: once}, ms[i%3])
		})
		p.settled(5*time.Second, ms...)

		net.Cut(ms[0].addr, ms[2].addr)
		net.Cut(ms[1].addr, ms[2].addr)
		time.Sleep(5 * time.Second)
		all(func(rater, once string, i int) { // a third changes its mind on one side, a third withdraws on the other
			switch i % 3 {
			case 0:
				p.send(Ballot{Subject: "latte", Vote: -1, Rater: rater, Once: once}, ms[i%2])
			case 1:
				p.send(Ballot{Subject: "latte", Vote: 0, Rater: rater, Once: once}, ms[2])
			}
			p.send(Ballot{Subject: fmt.Sprint("new-", i%5), Vote: 1 - i%3, Rater: rater, Once: once}, ms[i%3], ms[(i+1)%3]) // a retry reaches the other side
			p.once("latte", 1-2*(i%2), ms[i%3])
		})
		time.Sleep(2 * time.Second)
		if p.agreed(ms[2]) == nil || p.agreed(ms[0]) == nil {
			t.Fatal("there was no cut")
		}
		net.Heal(ms[0].addr, ms[2].addr)
		net.Heal(ms[1].addr, ms[2].addr)
		p.settled(20*time.Second, ms...)
		for _, m := range ms {
			if s := m.Stats(); s.Repairs > 0 {
				t.Errorf("%s: %d repairs", m.cfg.Node, s.Repairs)
			}
			m.ratings.early(t)
		}
		top := fmt.Sprint(ms[0].TopRatings(10, ""))
		for _, m := range ms[1:] {
			if other := fmt.Sprint(m.TopRatings(10, "")); other != top || len(m.TopRatings(10, "new-")) != 5 {
				t.Errorf("%s ranks %s\nand %s %s", ms[0].cfg.Node, top, m.cfg.Node, other)
			}
		}

		for _, m := range ms {
			m.stop()
		}
		for key, v := range kv.values {
			if v.TTL != 0 && key[:len(votesPrefix)] == votesPrefix {
				t.Errorf("%s expires after %v", key, v.TTL)
			}
		}
		ms[1].cfg.DataDir = t.TempDir()
		for _, m := range ms {
			m.cfg.stores = &stores{primary: kv, shared: true}
			m.run()
		}
		for _, m := range ms {
			m.ready()
		}
		p.settled(20*time.Second, ms...)
		p.send(Ballot{Subject: "latte", Vote: 1, Rater: "rater-0"}, ms[1])
		p.settled(20*time.Second, ms...)
		for _, m := range ms {
			m.stop()
		}
		time.Sleep(15 * time.Second) // memberlist's last probes
	})
}

// A node on its own keeps its votes on its disk alone.
func TestVotesOutliveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newLife(t, memnet.New(1), 0, t.TempDir())
		m.cfg.RatingsLimit, m.cfg.Limits[0].Capacity = "slow", 1e9
		m.start()
		for i := range 100 {
			m.vote(t, fmt.Sprint("subject-", i%10), fmt.Sprint("rater-", i), 1)
			m.vote(t, "tea", "", -1)
		}
		m.stop()
		m.start()
		for i := range 10 {
			wantCounts(t, m.Node, fmt.Sprint("subject-", i), 10, 0)
		}
		wantCounts(t, m.Node, "tea", 0, 100)
		if out := m.vote(t, "subject-7", "rater-7", 1); out.Changed {
			t.Error("a vote repeated after the restart counted again")
		}
		m.stop()
	})
}
