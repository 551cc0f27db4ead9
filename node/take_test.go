package node

import (
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
)

// Whoever asks for more than is left is told when what they asked for will be there.
func TestTheWaitIsForTheWholeCost(t *testing.T) {
	n := quietNode(t, 100, "10", 1000)
	n.refill.state.Store(&authority{single: true})
	for _, c := range []struct {
		cost    int64
		allowed bool
		retry   time.Duration
		reset   time.Duration
	}{
		{30, true, 0, 0},               // 70 left
		{50, true, 0, 3 * time.Second}, // 20 left
		{21, false, 100 * time.Millisecond, 100 * time.Millisecond},
		{100, false, 8 * time.Second, 8 * time.Second},
		{20, true, 0, 2 * time.Second}, // none left
		{1, false, 100 * time.Millisecond, 100 * time.Millisecond},
	} {
		d, err := n.Take("bench", "alice", c.cost)
		if err != nil || d.Allowed != c.allowed || d.RetryAfter != c.retry || d.ResetAfter != c.reset {
			t.Errorf("cost %d: %+v, %v; want %+v", c.cost, d, err, c)
		}
	}
	n.SetRefillPaused(true)
	if d, _ := n.Take("bench", "alice", 1); d.RetryAfter != n.cfg.Lease || d.ResetAfter != n.cfg.Lease {
		t.Errorf("nobody knows when a frozen bucket refills: not before the lease, %v, %v", d.RetryAfter, d.ResetAfter)
	}
	if d, _ := n.Take("bench", "bob", 1); d.RetryAfter != 0 || d.ResetAfter != 0 {
		t.Errorf("bob has 99 left: %+v", d)
	}
}

// An atomic batch takes everything or nothing, also when takes share a bucket.
func TestAnAtomicBatchTakesAllOrNothing(t *testing.T) {
	n := quietNode(t, 100, "10", 1000)
	n.refill.state.Store(&authority{single: true})
	level := func(key string) crdt.Milli {
		b, err := n.Look("bench", key)
		if err != nil {
			t.Fatal(err)
		}
		return b.Level / crdt.Token
	}
	alice := func(cost int64) Request { return Request{"bench", "alice", cost} }
	bob := func(cost int64) Request { return Request{"bench", "bob", cost} }

	ds, err := n.TakeAll([]Request{alice(40), bob(10), alice(40)}, true)
	if err != nil || !ds[0].Allowed || !ds[2].Allowed || level("alice") != 20 || level("bob") != 90 {
		t.Errorf("%+v, %v: alice %d, bob %d", ds, err, level("alice"), level("bob"))
	}
	if ds[2].RetryAfter != 0 || ds[2].ResetAfter != 2*time.Second {
		t.Errorf("alice has 20 left, and in two seconds another 40: %v, %v", ds[2].RetryAfter, ds[2].ResetAfter)
	}
	ds, err = n.TakeAll([]Request{bob(10), alice(15), alice(15)}, true)
	if err != nil || ds[0].Allowed || ds[1].Allowed || ds[2].Allowed || level("alice") != 20 || level("bob") != 90 {
		t.Errorf("%+v, %v: alice %d, bob %d", ds, err, level("alice"), level("bob"))
	}
	if ds[1].RetryAfter != time.Second || ds[0].RetryAfter != 0 {
		t.Errorf("30 of alice's tokens are there in a second: %v, %v", ds[1].RetryAfter, ds[0].RetryAfter)
	}
}

// Keys for which there is no memory share a bucket, and are told how long it takes to refill.
func TestStrangersShareTheOverflowBucket(t *testing.T) {
	n := quietNode(t, 100, "10", 1)
	n.refill.state.Store(&authority{single: true})
	for _, c := range []struct {
		key  string
		want Decision
	}{
		{"alice", Decision{Allowed: true, Level: 40, ResetAfter: 2 * time.Second}},
		{"bob", Decision{Allowed: true, shared: true, Level: 40, ResetAfter: 2 * time.Second}},
		{"carol", Decision{shared: true, Level: 40, RetryAfter: 2 * time.Second, ResetAfter: 2 * time.Second}},
	} {
		c.want.Limit, c.want.Cost, c.want.Level = n.force.Load().byName["bench"], 60, c.want.Level*crdt.Token
		if d, err := n.Take("bench", c.key, 60); d != c.want || err != nil {
			t.Errorf("%s: %+v, %v; want %+v", c.key, d, err, c.want)
		}
	}
}

// A batch of more keys than there is memory for shares the overflow bucket, and still takes
// all or nothing.
func TestAnAtomicBatchBeyondMemory(t *testing.T) {
	n := quietNode(t, 100, "10", 8)
	keys := benchKeys(40)
	var reqs []Request
	for _, k := range keys {
		reqs = append(reqs, Request{"bench", k, 2})
	}
	taken := crdt.Milli(0)
	for range 3 {
		ds, err := n.TakeAll(reqs, true)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range ds {
			if d.Allowed != ds[0].Allowed {
				t.Fatal("some were taken and some not")
			}
		}
		if ds[0].Allowed {
			taken += 2 * crdt.Milli(len(keys)) * crdt.Token
		}
	}
	have := crdt.Milli(0)
	for i := range n.table.shards {
		n.table.shards[i].each(func(e *entry, _ uint32) { have -= crdt.Milli(e.Value()) })
	}
	if have != taken {
		t.Errorf("allowed %d, taken %d", taken, have)
	}
}
