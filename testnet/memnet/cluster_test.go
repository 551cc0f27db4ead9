package memnet_test

import (
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/openclaw/edge/testnet/memnet"
)

// start runs a memberlist on address i of net, with the timing of the product.
func start(t *testing.T, network *memnet.Network, i int) *memberlist.Memberlist {
	t.Helper()
	transport, err := network.Listen(addr(i))
	if err != nil {
		t.Fatal(err)
	}
	cfg := memberlist.DefaultLANConfig()
	cfg.Name = fmt.Sprintf("node-%d", i)
	cfg.Label = "test"
	cfg.Transport = transport
	cfg.EnableCompression = false
	cfg.ProbeInterval, cfg.ProbeTimeout = 1500*time.Millisecond, 700*time.Millisecond
	cfg.LogOutput = io.Discard
	m, err := memberlist.Create(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func addr(i int) string { return fmt.Sprintf("10.0.%d.%d:7946", i/250, 1+i%250) }

// stop shuts all down and lets their goroutines end.
func stop(nodes []*memberlist.Memberlist) {
	for _, m := range nodes {
		m.Shutdown()
	}
	time.Sleep(5 * time.Minute)
}

func TestTenNodesFormAClusterWithinAVirtualMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(1)
		network.Default(memnet.Link{Delay: 40 * time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 0.02, Duplicate: 0.02, Reorder: 0.05})
		nodes := cluster(t, network, 10)
		defer stop(nodes)
		time.Sleep(time.Minute)
		for i, m := range nodes {
			if got := m.NumMembers(); got != len(nodes) {
				t.Errorf("node %d sees %d members", i, got)
			}
		}
	})
}

func TestThirtyNodesForFiveVirtualMinutes(t *testing.T) {
	began := time.Now()
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(2)
		network.Default(memnet.Link{Delay: 5 * time.Millisecond})
		nodes := cluster(t, network, 30)
		time.Sleep(5 * time.Minute)
		for i, m := range nodes {
			if got := m.NumMembers(); got != len(nodes) {
				t.Errorf("node %d sees %d members", i, got)
			}
		}
		s := network.Stats()
		t.Logf("%d packets, %d streams, dropped %v", s.Packets, s.Streams, s.Dropped)
		stop(nodes)
	})
	t.Logf("took %v of real time", time.Since(began).Round(time.Millisecond))
}

func cluster(t *testing.T, network *memnet.Network, count int) []*memberlist.Memberlist {
	t.Helper()
	var nodes []*memberlist.Memberlist
	for i := range count {
		m := start(t, network, i)
		nodes = append(nodes, m)
		if i > 0 {
			if _, err := m.Join([]string{addr(0)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	return nodes
}

func TestACrashedNodeIsFoundOutAndItsAddressIsFreeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(3)
		network.Default(memnet.Link{Delay: 20 * time.Millisecond})
		nodes := cluster(t, network, 4)
		time.Sleep(10 * time.Second)
		nodes[3].Shutdown()
		time.Sleep(30 * time.Second)
		if got := nodes[0].NumMembers(); got != 3 {
			t.Errorf("%d members after the crash, want 3", got)
		}
		if network.Stats().Dropped[memnet.DropNobody] == 0 {
			t.Error("no packet to the dead node was counted")
		}
		nodes[3] = start(t, network, 3)
		if _, err := nodes[3].Join([]string{addr(1)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second)
		for i, m := range nodes {
			if got := m.NumMembers(); got != 4 {
				t.Errorf("node %d sees %d members after the restart", i, got)
			}
		}
		stop(nodes)
	})
}
