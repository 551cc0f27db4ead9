package node

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
)

// redefine puts the definitions in force at once, as a reload does after the doubt.
func redefine(t *testing.T, n *Node, version uint64, defs ...crdt.Definition) {
	t.Helper()
	n.limitsMu.Lock()
	defer n.limitsMu.Unlock()
	set, err := crdt.NewSet(version, defs, n.force.Load().set, n.refill.readings())
	if err != nil {
		t.Fatal(err)
	}
	n.activate(set)
}

// A take that read the limits just before a reload, and got the bucket's lock just after
// others had used it under the new ones, must not undo what they did.
func TestATakeThatComesLateObeysTheNewDefinition(t *testing.T) {
	n := quietNode(t, 100, "10", 1000)
	old := n.force.Load().byName["bench"]
	n.Take("bench", "alice", 10)
	def := old.Definition
	def.Capacity = 50 * crdt.Token
	redefine(t, n, 2, def)
	for range 3 {
		n.Take("bench", "alice", 10)
	}
	n.take(&Decision{Limit: old, Cost: 10}, "alice")
	b, err := n.Look("bench", "alice")
	if err != nil || b.Level != 10*crdt.Token || len(b.Slots) != 1 || b.Slots[0].Taken != 40*crdt.Token {
		t.Errorf("50 tokens after the reload, 4 takes of 10: %+v, %v", b, err)
	}
}

// A file that is read again while a draft holds makes another draft, at once.
func TestAReloadUnderADraftMakesAnother(t *testing.T) {
	n := draftNode(t, 100, "10", 1000)
	n.settled.Store(true)
	n.Take("bench", "alice", 70)
	def := n.force.Load().byName["bench"].Definition
	for version, capacity := range []crdt.Milli{50, 20, 80} {
		def.Capacity = capacity * crdt.Token
		if err := n.Replace([]crdt.Definition{def}, uint64(version+1)); err != nil {
			t.Fatal(err)
		}
		if f := n.force.Load(); !f.set.IsDraft() || f.byName["bench"].Capacity != def.Capacity {
			t.Errorf("file %d is not in force as a draft: %+v", version+1, f.set)
		}
	}
	if b, err := n.Look("bench", "alice"); err != nil || b.Level != 20*crdt.Token || len(b.Slots) != 1 || b.Slots[0].Taken != 70*crdt.Token {
		t.Errorf("70 of 100 taken, then 20 at most: %+v, %v", b, err)
	}
}

// A draft is left at once: the next set finds none of its buckets, whose terms it does not know.
func TestADraftIsLeftBeforeTheNextSetComes(t *testing.T) {
	n := draftNode(t, 50, "10", 1000)
	n.Take("bench", "alice", 25)
	def := n.force.Load().byName["bench"].Definition
	def.Capacity = 100 * crdt.Token
	set, err := crdt.NewSet(2, []crdt.Definition{def}, nil, crdt.Components{})
	if err != nil {
		t.Fatal(err)
	}
	n.adopt(set)
	def.Capacity = 50 * crdt.Token
	redefine(t, n, 3, def)
	b, err := n.Look("bench", "alice")
	if err != nil || b.Level != 25*crdt.Token {
		t.Errorf("25 of 50 taken: %+v, %v", b, err)
	}
}

// A membership change renews what depends on it while takes convert buckets by the
// definition before: they must not share memory. (The race detector is the judge.)
func TestMembersComeWhileBucketsAreConverted(t *testing.T) {
	n := quietNode(t, 100, "10", 100_000)
	keys := benchKeys(2000)
	for _, k := range keys {
		n.Take("bench", k, 1)
	}
	def := n.force.Load().byName["bench"].Definition
	def.Capacity = 50 * crdt.Token
	redefine(t, n, 2, def)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, k := range keys {
			n.refill.shown[crdt.Quorum].Add(1000)
			n.Take("bench", k, 1)
		}
	}()
	for i := range 200 {
		n.limitsMu.Lock()
		n.members.count = 1 + i%5
		n.remake(n.bound)
		n.limitsMu.Unlock()
	}
	<-done
}

// Names of limits come from files: a process gives so many of them an index, and no more.
func TestNamesOfLimitsAreBounded(t *testing.T) {
	n := quietNode(t, 100, "10", 1000)
	n.settled.Store(true)
	for i := len(n.indices); i < maxNames-1; i++ { // those of earlier reloads
		n.indexOf(fmt.Sprint("gone-", i))
	}
	def := n.force.Load().byName["bench"].Definition
	other := def
	other.Name = "last"
	if err := n.Replace([]crdt.Definition{def, other}, 2); err != nil {
		t.Errorf("there is room for one more name: %v", err)
	}
	n.refill.shown[crdt.Open].Add(int64(time.Second))
	n.mature()
	other.Name = "one too many"
	if err := n.Replace([]crdt.Definition{def, other}, 3); !errors.Is(err, errNames) || n.pending != nil {
		t.Errorf("a name beyond the bound: %v", err)
	}
}

// Who joins an old cluster counts what refill offers from then on, not the cluster's past.
func TestANewcomerHasOfferedNothingYet(t *testing.T) {
	n := quietNode(t, 100, "10", 1000)
	for p := range n.refill.shown {
		n.refill.shown[p].Store(int64(1000 * time.Hour)) // as the first frames tell
	}
	if got := n.Stats().Limits[0].Refilled; got != 0 {
		t.Errorf("%v tokens before the first sync", got)
	}
	n.settle()
	if got := n.Stats().Limits[0].Refilled; got != 0 {
		t.Errorf("%v tokens at the first sync", got)
	}
	n.refill.shown[crdt.Quorum].Add(int64(time.Second))
	if got := n.Stats().Limits[0].Refilled; got != 10 {
		t.Errorf("%v tokens after a second of 10/s", got)
	}
}
