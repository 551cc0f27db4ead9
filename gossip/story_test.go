package gossip_test

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestThreeNodesHoldTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.stopAll()
		ns := c.grow(3)
		for i, n := range ns {
			n.set(uint32(i), 7)
		}
		if took := c.equal(time.Second); took > 200*time.Millisecond {
			t.Errorf("took %v, want two rounds", took)
		}
		if got := len(ns[0].all()); got != 3 {
			t.Errorf("%d items, want 3", got)
		}
	})
}
