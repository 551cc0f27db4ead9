// Package netns gives real processes machines of their own: Linux network namespaces, joined by
// a bridge whose links can be cut.
//
//	host ── 10.77.x.254 ──┐
//	                      │        nft on the bridge drops what goes from one
//	node 0 ─ 10.77.x.1 ───┤ br0    node's address to another's, packet by packet:
//	node 1 ─ 10.77.x.2 ───┤        UDP and TCP, new and established, silently
//	node 2 ─ 10.77.x.3 ───┘
//	   each in its own namespace, br0 in one more, the router
//
// The host is whoever called New. Its own link to the nodes is never cut, so their HTTP and
// metrics can be read by plain clients at all times. A relay on the host that stands in front of
// a node (Front) is cut with that node's links.
//
// Needs Linux, root, and the tools of `apt-get install iproute2 nftables`; where one is missing
// New says which. Namespaces and directories are named after the process that made them. Close
// removes them, and what a killed process left behind is removed by the next New, in whatever
// process.
//
//	New(nodes) ─▶ *Network: Command, Cut, Heal, …, Close
//	Start(t, nodes) ─▶ the same for a test, which it fails, and ends with
package netns

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
)

const (
	maxNodes = 250 // of one network: one byte of the address
	networks = 250 // on one machine at a time: another byte
)

// ErrUnavailable is what New answers, wrapped with what is missing, where namespaces cannot be made.
var ErrUnavailable = errors.New("netns: no network namespaces here")

// Network is a set of namespaces on one bridge. Addr, Host, Name and Command may be called from
// any goroutine, all else from one.
type Network struct {
	prefix string // of the namespaces' names
	subnet int    // x of 10.77.x
	nodes  int
	fronts map[int]int // port on the host, by node
}

// made counts this process' networks, for their names.
var made atomic.Int64

// New builds a network of so many nodes; Close is the caller's.
func New(nodes int) (*Network, error) {
	if lacks := missing(); lacks != "" {
		return nil, fmt.Errorf("%w: %s", ErrUnavailable, lacks)
	}
	if nodes < 1 || nodes > maxNodes {
		return nil, fmt.Errorf("netns: %d nodes, want 1 to %d", nodes, maxNodes)
	}
	sweep()
	n := &Network{nodes: nodes, prefix: fmt.Sprintf("%s%d-", ownPrefix(), made.Add(1)), fronts: make(map[int]int)}
	err := n.claim()
	if err == nil {
		err = n.build()
	}
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// Close ends all processes on the nodes, and removes the network and its directory. It may be
// called again.
func (n *Network) Close() error {
	// The link would go with the router, but later: until then its subnet is taken.
	if _, err := os.Stat("/sys/class/net/" + n.hostLink()); err == nil && n.subnet > 0 {
		run("ip", "link", "delete", n.hostLink())
	}
	n.subnet = 0 // from now on it may be another's
	return remove(n.prefix)
}

// missing says what this machine lacks, or nothing.
func missing() string {
	switch {
	case runtime.GOOS != "linux":
		return "they are Linux's"
	case os.Geteuid() != 0:
		return "they need root"
	}
	for tool, in := range map[string]string{"ip": "iproute2", "nft": "nftables"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Sprintf("they need %s: apt-get install %s", tool, in)
		}
	}
	return ""
}

// claim takes a subnet that nobody else has: the kernel refuses a second link of the same name.
func (n *Network) claim() error {
	err := run("ip", "netns", "add", n.router())
	if err != nil && strings.Contains(err.Error(), "not permitted") {
		return fmt.Errorf("%w: root may not make them: %w", ErrUnavailable, err)
	}
	for i := 0; i < networks && err == nil; i++ {
		n.subnet = 1 + (os.Getpid()+i)%networks
		if run("ip", "link", "add", n.hostLink(), "type", "veth", "peer", "name", "host", "netns", n.router()) == nil {
			return nil
		}
	}
	n.subnet = 0
	return errors.Join(err, errors.New("netns: no free subnet under 10.77; ip link shows who has them: ocedge1 has 10.77.1"))
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
			return fmt.Errorf("netns: %w", err)
		}
	}
	return n.nft(rules)
}

// Addr is the IP address of node i.
func (n *Network) Addr(i int) string { return fmt.Sprintf("10.77.%d.%d", n.subnet, i+1) }

// Host is the IP address of the caller's own end of the bridge.
func (n *Network) Host() string { return fmt.Sprintf("10.77.%d.254", n.subnet) }

// Name is the name of node i's namespace, for ip netns.
func (n *Network) Name(i int) string { return fmt.Sprint(n.prefix, i) }

func (n *Network) router() string   { return n.prefix + "router" }
func (n *Network) hostLink() string { return fmt.Sprint("ocedge", n.subnet) }

// Command is exec.Command on node i. The process is the command itself, not a
// wrapper: signals reach it.
func (n *Network) Command(i int, name string, args ...string) *exec.Cmd {
	words := append(n.Wrap(i), append([]string{name}, args...)...)
	return exec.Command(words[0], words[1:]...)
}

// Wrap is the words before a command that make it run on node i.
func (n *Network) Wrap(i int) []string { return []string{"ip", "netns", "exec", n.Name(i)} }

// Dir makes a directory for the nodes' files, which goes with the network.
func (n *Network) Dir() (string, error) {
	dir := n.dir()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("netns: %w", err)
	}
	return dir, nil
}

func run(args ...string) error { return output(exec.Command(args[0], args[1:]...)) }

// output runs cmd; its error has what the command printed.
func output(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
