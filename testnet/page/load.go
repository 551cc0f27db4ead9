package page

import "github.com/openclaw/edge/testnet/world"

// load is the takes that are asked of the cluster. It belongs to the hub.
type load struct {
	flows    []*world.Flow
	normal   []float64 // takes a second of each flow
	flood    *world.Flow
	times    float64
	flooding bool
}

func newLoad(flows []*world.Flow, flood *world.Flow) *load {
	l := &load{flows: flows, flood: flood, times: 1}
	for _, f := range flows {
		l.normal = append(l.normal, f.PerSecond)
	}
	return l
}

// now is the flows of the next step.
func (l *load) now() (flows []*world.Flow) {
	if l.times > 0 {
		for i, f := range l.flows {
			f.PerSecond = l.normal[i] * l.times
			flows = append(flows, f)
		}
	}
	if l.flooding && l.flood != nil {
		flows = append(flows, l.flood)
	}
	return flows
}

// perSecond is the takes offered in the mean.
func (l *load) perSecond() (sum float64) {
	for _, f := range l.now() {
		sum += f.PerSecond
	}
	return sum
}
