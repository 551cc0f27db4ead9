// Package netns gives tests machines of their own to run real processes on:
// Linux network namespaces, joined by a bridge whose links can be cut.
//
//	test ── 10.77.x.254 ──┐
//	                      │        nft on the bridge drops what goes from one
//	node 0 ─ 10.77.x.1 ───┤ br0    node's address to another's, packet by packet:
//	node 1 ─ 10.77.x.2 ───┤        UDP and TCP, new and established, silently
//	node 2 ─ 10.77.x.3 ───┘
//	   each in its own namespace, br0 in one more, the router
//
// The test's own link to the nodes is never cut, so their HTTP and metrics can
// be read by plain clients at all times.
//
// Needs Linux, root, and the tools of `apt-get install iproute2 nftables`;
// where one is missing New skips the test and says which. Namespaces are named
// after the test process, and what a killed process left behind is removed by
// the next New.
package netns

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
)

const (
	maxNodes = 250 // of one network: one byte of the address
	networks = 250 // on one machine at a time: another byte
)

// rules cut links: a pair (from, to) in the set is dropped on its way through
// the bridge. ARP passes, so a cut and its repair take effect at once.
const rules = `table bridge edge {
	set cuts { type ipv4_addr . ipv4_addr; }
	chain forward {
		type filter hook forward priority 0; policy accept;
		ip saddr . ip daddr @cuts drop
	}
}
`

// Network is a set of namespaces on one bridge. Its methods fail the test when
// a tool fails, so call them from the test's goroutine; Command may be called
// from any.
type Network struct {
	t      testing.TB
	prefix string // of the namespaces' names
	subnet int    // x of 10.77.x
	nodes  int
}

// made counts this process' networks, for their names.
var made atomic.Int64

// New builds a network of so many nodes, and removes it with all processes in
// it when the test ends.
func New(t testing.TB, nodes int) *Network {
	t.Helper()
	if reason := missing(); reason != "" {
		t.Skipf("netns: %s", reason)
	}
	if nodes < 1 || nodes > maxNodes {
		t.Fatalf("netns: %d nodes, want 1 to %d", nodes, maxNodes)
	}
	sweep()
	n := &Network{t: t, nodes: nodes, prefix: fmt.Sprintf("%s%d-", ownPrefix(), made.Add(1))}
	t.Cleanup(func() { remove(n.prefix) })
	n.claim()
	t.Cleanup(func() { run("ip", "link", "delete", n.hostLink()) }) // it would go with the router, but later
	if err := n.build(); err != nil {
		t.Fatalf("netns: %v", err)
	}
	return n
}

// missing says what this machine lacks, or nothing.
func missing() string {
	switch {
	case runtime.GOOS != "linux":
		return "network namespaces are Linux's"
	case os.Geteuid() != 0:
		return "needs root"
	}
	for tool, in := range map[string]string{"ip": "iproute2", "nft": "nftables"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Sprintf("needs %s: apt-get install %s", tool, in)
		}
	}
	return ""
}

// claim takes a subnet that no other test has: the kernel refuses a second
// link of the same name.
func (n *Network) claim() {
	n.t.Helper()
	err := run("ip", "netns", "add", n.router())
	if err != nil && strings.Contains(err.Error(), "not permitted") {
		n.t.Skipf("netns: root may not make namespaces here: %v", err)
	}
	n.must(err)
	for i := range networks {
		n.subnet = (os.Getpid() + i) % networks
		err = run("ip", "link", "add", n.hostLink(), "type", "veth", "peer", "name", "host", "netns", n.router())
		if err == nil {
			return
		}
	}
	n.t.Fatalf("netns: no free subnet under 10.77: %v", err)
}

// build wires host and nodes to the bridge.
func (n *Network) build() error {
	steps := [][]string{
		{"ip", "-n", n.router(), "link", "add", "br0", "type", "bridge"},
		{"ip", "-n", n.router(), "link", "set", "br0", "up"},
		{"ip", "-n", n.router(), "link", "set", "host", "master", "br0", "up"},
		{"ip", "addr", "add", n.Host() + "/24", "dev", n.hostLink()},
		{"ip", "link", "set", n.hostLink(), "up"},
	}
	for i := range n.nodes {
		port := fmt.Sprint("node", i)
		steps = append(steps,
			[]string{"ip", "netns", "add", n.Name(i)},
			[]string{"ip", "link", "add", port, "netns", n.router(), "type", "veth", "peer", "name", "eth0", "netns", n.Name(i)},
			[]string{"ip", "-n", n.router(), "link", "set", port, "master", "br0", "up"},
			[]string{"ip", "-n", n.Name(i), "addr", "add", n.Addr(i) + "/24", "dev", "eth0"},
			[]string{"ip", "-n", n.Name(i), "link", "set", "lo", "up"},
			[]string{"ip", "-n", n.Name(i), "link", "set", "eth0", "up"},
		)
	}
	for _, step := range steps {
		if err := run(step...); err != nil {
			return err
		}
	}
	return n.nft(rules)
}

// Addr is the IP address of node i.
func (n *Network) Addr(i int) string { return fmt.Sprintf("10.77.%d.%d", n.subnet, i+1) }

// Host is the IP address of the test's own end of the bridge.
func (n *Network) Host() string { return fmt.Sprintf("10.77.%d.254", n.subnet) }

// Name is the name of node i's namespace, for ip netns.
func (n *Network) Name(i int) string { return fmt.Sprint(n.prefix, i) }

func (n *Network) router() string   { return n.prefix + "router" }
func (n *Network) hostLink() string { return fmt.Sprint("ocedge", n.subnet) }

// Command is exec.Command on node i. The process is the command itself, not a
// wrapper: signals reach it.
func (n *Network) Command(i int, name string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", n.Name(i), name}, args...)...)
}

// Cut drops all traffic between nodes a and b, both ways.
func (n *Network) Cut(a, b int) {
	n.t.Helper()
	n.CutOneWay(a, b)
	n.CutOneWay(b, a)
}

// CutOneWay drops all traffic from one node to another.
func (n *Network) CutOneWay(from, to int) {
	n.t.Helper()
	n.must(n.nft(fmt.Sprintf("add element bridge edge cuts { %s . %s }\n", n.Addr(from), n.Addr(to))))
}

// Heal repairs every cut.
func (n *Network) Heal() {
	n.t.Helper()
	n.must(n.nft("flush set bridge edge cuts\n"))
}

func (n *Network) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatalf("netns: %v", err)
	}
}

// nft applies a script on the router, as one transaction.
func (n *Network) nft(script string) error {
	cmd := exec.Command("ip", "netns", "exec", n.router(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	return output(cmd)
}

func run(args ...string) error { return output(exec.Command(args[0], args[1:]...)) }

// output runs cmd; its error has what the command printed.
func output(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
