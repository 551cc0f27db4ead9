package process

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/openclaw/edge/testnet/relay"
)

// distant starts regions of each nodes, with a delay one way and loss between regions: a
// relay stands in front of every node.
func distant(t *testing.T, regions, each int, delay time.Duration, loss float64, config string) []*Node {
	t.Helper()
	region := make(map[netip.AddrPort]int) // of the gossip address of each node
	var real []string
	for i := range regions * each {
		addr := FreeAddr(t)
		region[netip.MustParseAddrPort(addr)] = i / each
		real = append(real, addr)
	}
	var nodes []*Node
	for i := range real {
		o := Options{Node: fmt.Sprintf("edge-%d", i+1), Region: fmt.Sprintf("region-%d", i/each+1), Gossip: real[i], Config: config}
		if delay > 0 {
			o.Advertise = front(t, relay.Config{
				Listen: "127.0.0.1:0", Target: real[i], TCPDelay: delay, Loss: loss, Seed: int64(i),
				Delay: func(from netip.AddrPort) time.Duration {
					if at, ok := region[from]; ok && at == i/each {
						return 0
					}
					return delay
				},
			})
		}
		if i > 0 {
			o.Join = []string{nodes[0].Addresses.Gossip}
			if delay > 0 {
				o.Join = []string{nodes[0].Advertise}
			}
		}
		nodes = append(nodes, Start(t, o))
	}
	whole(t, nodes)
	return nodes
}

// front runs a relay for the test's time and returns its address.
func front(t *testing.T, c relay.Config) string {
	t.Helper()
	r, err := relay.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-r.Started()
	return r.Addr()
}
