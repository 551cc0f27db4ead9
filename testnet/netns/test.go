package netns

import (
	"errors"
	"testing"
)

// InTest is a Network whose cuts fail the test when they fail. Call them from its goroutine.
type InTest struct {
	*Network
	t testing.TB
}

// Start builds a network that ends with the test. It skips the test where that cannot be done,
// and says why.
func Start(t testing.TB, nodes int) *InTest {
	t.Helper()
	n, err := New(nodes)
	if errors.Is(err, ErrUnavailable) {
		t.Skip(err)
	}
	in := &InTest{n, t}
	in.must(err)
	t.Cleanup(func() { in.must(n.Close()) })
	return in
}

// Cut drops all traffic between nodes a and b, both ways.
func (n *InTest) Cut(a, b int) { n.t.Helper(); n.must(n.Network.Cut(a, b)) }

// CutOneWay drops all traffic from one node to another.
func (n *InTest) CutOneWay(from, to int) { n.t.Helper(); n.must(n.Network.CutOneWay(from, to)) }

// Heal repairs every cut.
func (n *InTest) Heal() { n.t.Helper(); n.must(n.Network.Heal()) }

func (n *InTest) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}
