package process

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// ballot is who votes on what. Named or by an Idempotency-Key it is counted once, however often it
// is sent; with neither, as often as it is sent.
type ballot struct{ subject, rater, key string }

// poll sends votes, each twice, and keeps the dumb count of what was said.
type poll struct {
	t     *testing.T
	votes map[ballot]int // the last one
	plain map[string]int // ups by subject of those that nothing is known of
}

// send sends a vote to one node, and again to another, as a client does that got no answer.
func (p *poll) send(b ballot, vote int, first, again *Node) {
	p.t.Helper()
	p.post(b, vote, first)
	if changed := p.post(b, vote, again); changed && first == again && b.rater+b.key != "" {
		p.t.Errorf("%+v: sent to %s again, and counted again", b, first.Node)
	}
	if b.rater+b.key == "" {
		p.plain[b.subject] += 2
		return
	}
	p.votes[b] = vote
}

func (p *poll) post(b ballot, vote int, to *Node) (changed bool) {
	p.t.Helper()
	said, err := json.Marshal(map[string]any{"vote": vote, "rater": b.rater})
	if err != nil {
		p.t.Fatal(err)
	}
	r, err := http.NewRequest("POST", "http://"+to.HTTP+"/v1/ratings/"+b.subject, strings.NewReader(string(said)))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Idempotency-Key", b.key)
	resp, err := to.client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	var answer struct{ Changed bool }
	if err != nil || resp.StatusCode != http.StatusOK || json.Unmarshal(body, &answer) != nil {
		p.t.Fatalf("%+v at %s: %s %s %v", b, to.Node, resp.Status, body, err)
	}
	return answer.Changed
}

// round makes every kind of voter vote on each pair of nodes: the first try goes to one, the second
// to the other.
func (p *poll) round(name string, pairs ...[2]*Node) {
	p.t.Helper()
	for i, pair := range pairs {
		for k := range 12 {
			voter := fmt.Sprintf("%s-%d-%d", name, i, k)
			subject := []string{"latte", "mocha", "chai-" + name}[k%3]
			p.send(ballot{subject, voter, ""}, 1-2*(k%2), pair[0], pair[1])
			p.send(ballot{subject, "", voter}, 1-2*(k/2%2), pair[0], pair[1])
		}
		p.send(ballot{subject: "espresso"}, 1, pair[0], pair[1])
	}
}

type ratingTotals struct{ Up, Down int }

func (p *poll) totals() map[string]ratingTotals {
	sums := map[string]ratingTotals{}
	for b, vote := range p.votes {
		s := sums[b.subject]
		sums[b.subject] = ratingTotals{s.Up + max(0, vote), s.Down + max(0, -vote)}
	}
	for subject, ups := range p.plain {
		s := sums[subject]
		sums[subject] = ratingTotals{s.Up + ups, s.Down}
	}
	return sums
}

// differs says what a node has not counted as it was said; "" if nothing.
func (p *poll) differs(n *Node) string {
	for subject, want := range p.totals() {
		var got ratingTotals
		if !n.Get("/v1/ratings/"+subject, &got) || got != want {
			return fmt.Sprintf("%s has %+v of %s, want %+v", n.Node, got, subject, want)
		}
	}
	return ""
}

// counted waits until the nodes have counted what was said, no vote less and none more, and rank it
// in the same way.
func (p *poll) counted(when string, nodes ...*Node) {
	p.t.Helper()
	var wrong string
	for began := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		wrong = ""
		rankings := map[string]bool{}
		for _, n := range nodes {
			if why := p.differs(n); why != "" {
				wrong = why
				break
			}
			_, ranking, _ := n.Do("GET", "/v1/ratings?top=10", "")
			rankings[string(ranking)] = true
		}
		if wrong == "" && len(rankings) == 1 {
			p.t.Logf("%s: the same totals everywhere after %v", when, time.Since(began).Round(time.Millisecond))
			return
		}
		if time.Since(began) > 10*time.Second {
			p.t.Fatalf("%s: %s; %d rankings", when, wrong, len(rankings))
		}
	}
}

// Both sides of a cut rate, and every request is sent twice, sometimes to the other side: after
// the heal all three nodes have each vote once. So it stays when one is killed, another stopped,
// and all three, and start again from their disks.
func TestVotesAreCountedOnceThroughCutsAndRestarts(t *testing.T) {
	t.Parallel()
	// A lease of one second, so that a short cut is one that both sides have noticed.
	is := islands(t, 3, limits(100_000, 1, "")+"gossip: {lease: 1s}\nratings: {limit: g}\n")
	a, b, lone := is.nodes[0], is.nodes[1], is.nodes[2]
	p := &poll{t, map[ballot]int{}, map[string]int{}}
	p.round("before", [2]*Node{a, b}, [2]*Node{b, lone}, [2]*Node{lone, lone})
	p.counted("whole", is.nodes...)

	is.Cut(0, 2)
	is.Cut(1, 2)
	p.round("cut", [2]*Node{a, b}, [2]*Node{b, b}, [2]*Node{lone, lone}, [2]*Node{a, lone}, [2]*Node{lone, b})
	for k := range 12 { // some change their minds on one side, others withdraw on the other
		voter := fmt.Sprint("before-1-", k)
		subject := []string{"latte", "mocha", "chai-before"}[k%3]
		p.send(ballot{subject, voter, ""}, k%2, a, b)
		p.send(ballot{subject, "", voter}, 0, lone, lone)
	}
	for n, reached := range map[*Node]int{a: 2, b: 2, lone: 1} {
		n.Eventually(5*time.Second, "notices the cut", func() bool {
			var c clusterBody
			return n.Get("/v1/cluster", &c) && c.ReachableMembers == reached
		})
	}
	if p.differs(a) == "" || p.differs(lone) == "" {
		t.Fatal("there was no cut")
	}
	is.Heal()
	p.counted("healed", is.nodes...)

	b.Kill()
	p.round("killed", [2]*Node{a, lone}, [2]*Node{lone, a})
	b.Restart()
	p.counted("one killed and restarted", is.nodes...)

	if err := lone.Stop(); err != nil {
		t.Fatal(err)
	}
	p.round("stopped", [2]*Node{a, b}, [2]*Node{b, a})
	lone.Restart()
	p.counted("another stopped and restarted", is.nodes...)

	for _, n := range is.nodes {
		n.Term()
	}
	for _, n := range is.nodes {
		if err := n.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range is.nodes {
		n.must(n.Process.Start())
	}
	for _, n := range is.nodes {
		n.must(n.Listening(20 * time.Second))
	}
	p.counted("all stopped and restarted", is.nodes...)
	for vote, said := range p.votes { // the last tries of those that never had an answer
		if p.post(vote, said, b) {
			t.Errorf("%+v was counted again after all", vote)
		}
	}
	p.counted("sent a third time", is.nodes...)
}
