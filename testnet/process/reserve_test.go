package process

import (
	"encoding/json"
	"testing"
	"time"
)

// An estimate of a node that is killed is settled on another, and counts when the first is back:
// once, also if both are told again.
func TestAReservationOutlivesAKill(t *testing.T) {
	t.Parallel()
	nodes := cluster(t, 3, limits(1_000_000, 1, ""))
	status, body, err := nodes[0].Do("POST", "/v1/reserve/g/alice?cost=90000&ttl=5m", "")
	var reserved struct{ ID string }
	if err != nil || status != 200 || json.Unmarshal(body, &reserved) != nil || reserved.ID == "" {
		t.Fatalf("%d %s %v", status, body, err)
	}
	level := func(n *Node, low, high float64) func() bool {
		return func() bool {
			var b bucketBody
			return n.Get("/v1/buckets/g/alice", &b) && b.Tokens >= low && b.Tokens <= high
		}
	}
	began := time.Now()
	nodes[1].Eventually(5*time.Second, "hears of the estimate", level(nodes[1], 910_000, 910_100))
	time.Sleep(200 * time.Millisecond) // rounds, in which a crash would lose it
	nodes[0].Kill()
	if got := nodes[1].Post("/v1/settle/" + reserved.ID + "?used=30000"); got != 200 {
		t.Errorf("settled on another node: %d", got)
	}
	nodes[2].Eventually(5*time.Second, "knows the settlement", func() bool { return nodes[2].Metric(`openclaw_reservations_held{state="settled"}`) == 1 })
	nodes[0].Restart()
	for i, n := range nodes {
		n.Eventually(30*time.Second, "has the rest back", level(n, 970_000, 970_400))
		if got := n.Post("/v1/settle/" + reserved.ID + "?used=30000"); got != 200 {
			t.Errorf("again, on node %d: %d", i, got)
		}
	}
	time.Sleep(time.Second) // rounds, in which a second credit would show
	for i, n := range nodes {
		if !level(n, 970_000, 970_400)() {
			t.Errorf("node %d gave back more than once", i)
		}
	}
	same(t, nodes, "alice", 5*time.Second)
	t.Logf("right again %v after the reservation", time.Since(began).Round(10*time.Millisecond))
}
