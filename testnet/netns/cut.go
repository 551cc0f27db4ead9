package netns

import (
	"fmt"
	"os/exec"
	"strings"
)

// rules cut links: what is in a set is dropped on its way through the bridge. ARP passes, so a
// cut and its repair take effect at once. Where a relay on the host stands in front of a node,
// the link to that node is the way to the relay's port (asks), and the way of its answers on the
// connections that others have opened (answers).
const rules = `table bridge edge {
	set cuts { type ipv4_addr . ipv4_addr; }
	set asks { type ipv4_addr . inet_service; }
	set answers { type inet_service . ipv4_addr; }
	chain forward {
		type filter hook forward priority 0; policy accept;
		ip saddr . ip daddr @cuts drop
		ip saddr . th dport @asks drop
		th sport . ip daddr @answers drop
	}
}
`

// Front says that node i is reached by its peers at a port of the host, where a relay listens:
// cuts from now on hold for that way, too. One node's port is no other's.
func (n *Network) Front(i, port int) { n.fronts[i] = port }

// Way is one direction between two nodes.
type Way struct{ From, To int }

// Sever drops all traffic on these ways; one that is cut already stays so.
func (n *Network) Sever(ways ...Way) error { return n.change(ways, "add") }

// Repair ends cuts of these ways, where there are any.
func (n *Network) Repair(ways ...Way) error {
	// Not every nft knows destroy, and delete refuses what is not there: so it is added first.
	return n.change(ways, "add", "delete")
}

// Cut drops all traffic between nodes a and b, both ways.
func (n *Network) Cut(a, b int) error { return n.Sever(Way{a, b}, Way{b, a}) }

// CutOneWay drops all traffic from one node to another.
func (n *Network) CutOneWay(from, to int) error { return n.Sever(Way{from, to}) }

// Heal repairs every cut.
func (n *Network) Heal() error {
	return n.nft("flush set bridge edge cuts\nflush set bridge edge asks\nflush set bridge edge answers\n")
}

// change applies verbs, in one transaction, to all that the ways consist of.
func (n *Network) change(ways []Way, verbs ...string) error {
	var script strings.Builder
	for _, w := range ways {
		for _, element := range n.elements(w) {
			for _, verb := range verbs {
				fmt.Fprintf(&script, "%s element bridge edge %s\n", verb, element)
			}
		}
	}
	return n.nft(script.String())
}

func (n *Network) elements(w Way) []string {
	all := []string{fmt.Sprintf("cuts { %s . %s }", n.Addr(w.From), n.Addr(w.To))}
	if port, ok := n.fronts[w.To]; ok {
		all = append(all, fmt.Sprintf("asks { %s . %d }", n.Addr(w.From), port))
	}
	if port, ok := n.fronts[w.From]; ok {
		all = append(all, fmt.Sprintf("answers { %d . %s }", port, n.Addr(w.To)))
	}
	return all
}

// nft applies a script on the router, as one transaction.
func (n *Network) nft(script string) error {
	cmd := exec.Command("ip", "netns", "exec", n.router(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if err := output(cmd); err != nil {
		return fmt.Errorf("netns: %w", err)
	}
	return nil
}
