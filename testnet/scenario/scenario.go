package scenario

import (
	"strings"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/memnet"
	"github.com/openclaw/edge/testnet/world"
)

// Scenario is a story, and what is expected of it.
type Scenario struct {
	Name    string
	About   string   // the comment on top
	Regions []string // each with Nodes nodes, named REGION-1, REGION-2, …
	Nodes   int
	Delays  []Delay // between regions
	Limits  []crdt.Definition
	Loads   []Load
	Lasts   time.Duration // under load
	Steps   []Step        // in order of time
	Expects []*Expect     // in order of the file
}

// Delay is of both directions between two regions.
type Delay struct {
	A, B   string
	OneWay time.Duration
}

// Load is a flow between two times of the scenario.
type Load struct {
	Flow     world.Flow
	From, To time.Duration
}

// Step is something that is done to the testnet.
type Step struct {
	At   time.Duration
	Text string // as written, without the time
	Line int

	do   func(*stage) error
	link *memnet.Link // that it sets
}

// Expect is one expectation: of a moment, or of the run.
type Expect struct {
	Text string // as written
	Line int

	when   when
	moment moment // of samples; nil: run is set
	run    func(*Result) Finding
}

// moment judges one sample.
type moment func(*Sample) Finding

// Finding is what was measured, and whether that is as expected.
type Finding struct {
	OK       bool
	Measured string
	margin   float64 // how well the figure fits; below 0 it does not
}

// when is the samples that an expectation is about: one at a time, one of several within some
// time of each of its steps, or all of them between two times.
type when struct {
	kind     whenKind
	from, to time.Duration
	within   time.Duration
	steps    []int // of Scenario.Steps; for within
}

type whenKind uint8

const (
	wholeRun whenKind = iota
	atTime
	withinTime
	allTheTime
)

// Names is the nodes, region by region.
func (s *Scenario) Names() (names []string) {
	for _, r := range s.Regions {
		names = append(names, s.nodesOf(r)...)
	}
	return names
}

// Stores tells whether the scenario needs the shared stores, and so real time: their clients
// and servers talk through sockets, on which virtual time does not wait.
func (s *Scenario) Stores() bool {
	for _, step := range s.Steps {
		if verb, _, _ := strings.Cut(step.Text, " "); verb == "kv" || verb == "redis" {
			return true
		}
	}
	return false
}

// Title is the first sentence of what the scenario is about.
func (s *Scenario) Title() string {
	text := strings.Join(strings.Fields(s.About), " ")
	if i := strings.Index(text, ". "); i >= 0 {
		return text[:i+1]
	}
	return text
}
