package scenario

import "time"

// Series is what a report draws: values over the scenario's time, one an entry of At.
type Series struct {
	At     []float64 `json:"at"` // seconds
	Limits []Curves  `json:"limits"`
	// Of each region's node that is worst off: members that it reaches, and whether its snapshots go
	// to Redis.
	Reachable map[string][]int `json:"reachable"`
	Fallback  map[string][]int `json:"fallback"`
}

// Curves is a limit's.
type Curves struct {
	Limit      string               `json:"limit"`
	Configured []float64            `json:"configured"` // tokens a second
	Refill     map[string][]float64 `json:"refill"`     // by region: of the node that offers least
	Admitted   []int64              `json:"admitted"`   // tokens since the beginning
	Ideal      []int64              `json:"ideal"`      // one bucket a key would have
}

// series draws the load and the quiet after it.
func (r *Result) series() Series {
	s := r.Scenario
	out := Series{Reachable: make(map[string][]int), Fallback: make(map[string][]int)}
	var times []time.Duration
	for i := range r.Samples {
		times = append(times, r.Began+r.Samples[i].At)
		out.At = append(out.At, r.Samples[i].At.Seconds())
		for _, region := range s.Regions {
			out.look(&r.Samples[i], region, s.nodesOf(region))
		}
	}
	for _, d := range s.Limits {
		c := Curves{Limit: d.Name, Refill: make(map[string][]float64)}
		for i := range r.Samples {
			c.look(&r.Samples[i], s)
		}
		c.Admitted, c.Ideal = r.Observed.Course(d.Name, times)
		out.Limits = append(out.Limits, c)
	}
	return out
}

func (out *Series) look(s *Sample, region string, nodes []string) {
	reach, fallback := 0, 0
	for i, n := range nodes {
		c := s.Nodes[n].Cluster
		if i == 0 || c.ReachableMembers < reach {
			reach = c.ReachableMembers
		}
		if c.Store.FallbackActive {
			fallback = 1
		}
	}
	out.Reachable[region] = append(out.Reachable[region], reach)
	out.Fallback[region] = append(out.Fallback[region], fallback)
}

func (c *Curves) look(s *Sample, sc *Scenario) {
	configured := 0.0
	for _, region := range sc.Regions {
		nodes := sc.nodesOf(region)
		least := s.Nodes[nodes[0]].Limits[c.Limit].Refill
		for _, n := range nodes {
			l := s.Nodes[n].Limits[c.Limit]
			least, configured = min(least, l.Refill), max(configured, l.Configured)
		}
		c.Refill[region] = append(c.Refill[region], least)
	}
	c.Configured = append(c.Configured, configured)
}
