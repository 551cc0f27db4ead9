package node

import (
	"net/http"
	"time"
)

// Cluster is the body of GET /v1/cluster: the cluster as this node sees it.
type Cluster struct {
	Node             string                 `json:"node"`
	Region           string                 `json:"region"`
	TimeMS           float64                `json:"time_ms"` // wall clock, Unix, of the refill daemon's last step
	Members          []Member               `json:"members"`
	ExpectedMembers  int                    `json:"expected_members"`
	ReachableMembers int                    `json:"reachable_members"` // this node included
	LeaseMS          int64                  `json:"lease_ms"`
	Policies         map[string]PolicyState `json:"policies"`
	RefillPaused     bool                   `json:"refill_paused"`
	Ready            bool                   `json:"ready"`
	Store            StoreState             `json:"store"`
}

// Member is one node of the roster; lag, rtt and skew are 0 for this node itself.
type Member struct {
	Node        string  `json:"node"`
	Region      string  `json:"region"`
	State       string  `json:"state"` // alive or unreachable
	LagMS       float64 `json:"lag_ms"`
	RTTMS       float64 `json:"rtt_ms"`
	ClockSkewMS float64 `json:"clock_skew_ms"`
}

// PolicyState is how fast a policy's refill clock runs: 1 is real time, 0 frozen.
type PolicyState struct {
	Speed   float64 `json:"speed"`
	ClockMS float64 `json:"clock_ms"` // its reading on this node
	OwnMS   float64 `json:"own_ms"`   // what this node ever added to it
}

// StoreState is the zero value where nothing is persisted.
type StoreState struct {
	FallbackActive  bool       `json:"fallback_active"`
	PendingSegments int        `json:"pending_segments"` // stored in the fallback only
	LastSnapshot    *time.Time `json:"last_snapshot"`    // what changed before is stored; null before the first
}

func (s *server) cluster(w http.ResponseWriter, _ *http.Request, _ string) int {
	return reply(w, http.StatusOK, s.node.Cluster())
}

type limitBody struct {
	Name        string      `json:"name"`
	Capacity    milli       `json:"capacity"`
	RefillRate  perSecond   `json:"refill_rate"`
	Rate        string      `json:"rate"` // exact, as the config takes it
	OnPartition string      `json:"on_partition"`
	Key         string      `json:"key,omitempty"`
	Backup      *backupBody `json:"backup,omitempty"`
	MaxBuckets  uint32      `json:"max_buckets"`
	TTLSeconds  float64     `json:"ttl_seconds"`
	Drift       bool        `json:"drift"` // this node's file says otherwise
}

type backupBody struct {
	Capacity   milli     `json:"capacity"`
	RefillRate perSecond `json:"refill_rate"`
}

func (s *server) limits(w http.ResponseWriter, _ *http.Request, _ string) int {
	limits, version := s.node.Limits()
	list := make([]limitBody, len(limits))
	for i, l := range limits {
		list[i] = limitBody{
			Name: l.Name, Capacity: milli(l.Capacity), RefillRate: perSecond{l.Rate}, Rate: l.Rate.String(),
			OnPartition: l.Policy.String(), Key: l.Key, MaxBuckets: l.MaxBuckets,
			TTLSeconds: time.Duration(l.IdleTTL()).Seconds(), Drift: s.node.Drift(l.Name),
		}
		if b := l.Backup; b != nil {
			list[i].Backup = &backupBody{milli(b.Capacity), perSecond{b.Rate}}
		}
	}
	return reply(w, http.StatusOK, struct {
		Version uint64      `json:"version"`
		Limits  []limitBody `json:"limits"`
	}{version, list})
}

func (s *server) healthz(w http.ResponseWriter, _ *http.Request, _ string) int {
	return reply(w, http.StatusOK, map[string]string{"status": "alive"})
}

func (s *server) readyz(w http.ResponseWriter, _ *http.Request, _ string) int {
	if ready, why := s.node.Ready(); !ready {
		return problem(w, http.StatusServiceUnavailable, why)
	}
	return reply(w, http.StatusOK, map[string]string{"status": "ready"})
}
