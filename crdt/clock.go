package crdt

// Components are one node's parts of the refill clocks, one for each Policy. A node
// raises its own only.
type Components [Policies]Instant

// Clock is the refill clock of each policy: a grow-only counter with one component per
// node (not per writer: a restarted node goes on from the highest value that is known). R
// is the sum. The zero value must be made with make before the first Join.
type Clock map[string]Components

// Sum is R of policy p.
func (c Clock) Sum(p Policy) Instant {
	var r Instant
	for _, v := range c {
		r += v[p]
	}
	return r
}

// Join raises node's components to v where v is higher, and tells whether anything grew.
func (c Clock) Join(node string, v Components) (grew bool) {
	have, ok := c[node]
	for p := range v {
		if v[p] > have[p] {
			have[p] = v[p]
			grew = true
		}
	}
	if grew || !ok {
		c[node] = have
	}
	return grew
}
