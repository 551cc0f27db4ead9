package main

import (
	"fmt"
	"net/url"
	"strings"
	"time"
)

type limitsCmd struct{}

func (*limitsCmd) Help() string {
	return `One line a limit: what a bucket holds, how fast it refills, where its key comes from when a proxy asks,
and what a network partition does to it. DRIFT marks a limit that this node's file says otherwise.`
}

func (*limitsCmd) Run(s *session) error {
	var body struct {
		Version uint64 `json:"version"`
		Limits  []struct {
			Name        string  `json:"name"`
			Capacity    float64 `json:"capacity"`
			Rate        float64 `json:"refill_rate"`
			OnPartition string  `json:"on_partition"`
			Key         string  `json:"key"`
			Backup      *struct {
				Capacity float64 `json:"capacity"`
				Rate     float64 `json:"refill_rate"`
			} `json:"backup"`
			MaxBuckets int64 `json:"max_buckets"`
			Drift      bool  `json:"drift"`
		} `json:"limits"`
	}
	if _, err := s.ask("GET", "/v1/limits", &body); err != nil || s.json {
		return err
	}
	var rows [][]string
	for _, l := range body.Limits {
		key, backup, drift := "-", "-", "-"
		if l.Key != "" {
			key = name(l.Key)
		}
		if b := l.Backup; b != nil {
			backup = number(b.Capacity) + ", " + rate(b.Rate)
		}
		if l.Drift {
			drift = "this node's file says otherwise"
		}
		rows = append(rows, []string{name(l.Name), number(l.Capacity), rate(l.Rate), key, l.OnPartition, backup, fmt.Sprint(l.MaxBuckets), drift})
	}
	table(s.out, "LIMIT|CAPACITY|REFILL|KEY|ON PARTITION|BACKUP|MAX BUCKETS|DRIFT", rows)
	s.say("version %d", body.Version)
	return nil
}

type membersCmd struct{}

func (*membersCmd) Help() string {
	return `The members by region, as the asked node sees them: lag is the age of the oldest change that a member
has not acknowledged, skew its clock less ours. Below, how fast the refill clock of each partition
policy runs here (0 %: frozen), and when the node last stored a snapshot.`
}

type clusterAnswer struct {
	Node    string `json:"node"`
	Region  string `json:"region"`
	Members []struct {
		Node   string  `json:"node"`
		Region string  `json:"region"`
		State  string  `json:"state"`
		Lag    float64 `json:"lag_ms"`
		RTT    float64 `json:"rtt_ms"`
		Skew   float64 `json:"clock_skew_ms"`
	} `json:"members"`
	Expected  int `json:"expected_members"`
	Reachable int `json:"reachable_members"`
	Policies  map[string]struct {
		Speed float64 `json:"speed"`
	} `json:"policies"`
	Paused bool        `json:"refill_paused"`
	Ready  bool        `json:"ready"`
	Store  storeAnswer `json:"store"`
}

type storeAnswer struct {
	Fallback bool       `json:"fallback_active"`
	Pending  int64      `json:"pending_segments"`
	Last     *time.Time `json:"last_snapshot"`
}

func (st *storeAnswer) String() string {
	text := "no snapshot yet"
	if st.Last != nil {
		text = "last snapshot " + st.Last.UTC().Format(time.RFC3339)
	}
	if st.Fallback {
		text += ", to the fallback (Redis)"
	}
	if st.Pending > 0 {
		text += ", " + plural(st.Pending, "segment") + " waiting there for KV"
	}
	return text
}

func (*membersCmd) Run(s *session) error {
	var c clusterAnswer
	if _, err := s.ask("GET", "/v1/cluster", &c); err != nil || s.json {
		return err
	}
	var rows [][]string
	for _, m := range c.Members {
		row := []string{name(m.Node), name(m.Region), m.State, span(m.Lag), span(m.RTT), span(m.Skew)}
		if m.Node == c.Node {
			row = []string{name(m.Node), name(m.Region), m.State, "-", "-", "-"} // that we asked
		}
		rows = append(rows, row)
	}
	table(s.out, "NODE|REGION|STATE|LAG|ROUND TRIP|CLOCK SKEW", rows)
	fit := "ready"
	if !c.Ready {
		fit = "not ready (GET /readyz says why)"
	}
	s.say("%s reaches %d of %d members, itself included; %s", name(c.Node), c.Reachable, c.Expected, fit)
	var speeds []string
	for _, p := range []string{"quorum", "share", "open"} {
		speeds = append(speeds, fmt.Sprintf("%s %.0f %%", p, 100*c.Policies[p].Speed))
	}
	refill := "refill: " + strings.Join(speeds, ", ")
	if c.Paused {
		refill += "; paused: \"openclawctl refill resume\" lets it go on"
	}
	s.say("%s", refill)
	s.say("store: %s", &c.Store)
	return nil
}

type refillCmd struct {
	Action string `arg:"" enum:"pause,resume" help:"pause or resume."`
}

func (*refillCmd) Help() string {
	return `The drill of the alerting guide: while paused, the buckets of this node alone do not refill, and its
critical alert fires after two minutes. Nothing of the others' refill is lost.

    openclawctl refill pause
    openclawctl refill resume`
}

func (c *refillCmd) Run(s *session) error {
	var body struct {
		Paused bool `json:"refill_paused"`
	}
	if _, err := s.ask("POST", fmt.Sprintf("/-/refill?paused=%v", c.Action == "pause"), &body); err != nil {
		return err
	}
	if body.Paused {
		s.say("paused: buckets of this node do not refill until \"openclawctl refill resume\"")
	} else {
		s.say("resumed")
	}
	return nil
}

type snapshotCmd struct{}

func (*snapshotCmd) Help() string {
	return `Returns when everything up to now is stored: before a risky change, or to see that the stores work.`
}

func (*snapshotCmd) Run(s *session) error {
	var body struct {
		Store storeAnswer `json:"store"`
	}
	if _, err := s.ask("POST", "/-/snapshot", &body); err != nil {
		return err
	}
	s.say("stored; %s", &body.Store)
	return nil
}

type reloadCmd struct{}

func (*reloadCmd) Help() string {
	return `Reads the limits of the node's config file again. A file with a mistake changes nothing, and the error
names line and column. A set of a higher version than the cluster's comes into force everywhere.`
}

func (*reloadCmd) Run(s *session) error {
	var body struct {
		Version uint64 `json:"version"`
	}
	if _, err := s.ask("POST", "/-/reload", &body); err != nil {
		return err
	}
	s.say("reloaded: the file's limits have version %d", body.Version)
	return nil
}

type forgetCmd struct {
	Node  string `arg:"" complete:"members" help:"Name of the member; \"openclawctl members\" lists them."`
	Force bool   `help:"Also where no majority of the members is reachable: only if the others are gone for good."`
}

func (*forgetCmd) Help() string {
	return `For a node that will not come back: until it is forgotten it counts as a member, and its part of the
refill clock may be missing. A forgotten node that does come back joins empty, as a new one.

    openclawctl forget edge-3`
}

func (c *forgetCmd) Run(s *session) error {
	var body struct {
		Forgotten string `json:"forgotten"`
	}
	if _, err := s.ask("POST", fmt.Sprintf("/-/forget/%s?force=%v", url.PathEscape(c.Node), c.Force), &body); err != nil {
		return s.meant(err, c.Node, "/v1/cluster", "members", "node")
	}
	s.say("forgotten: %s", name(body.Forgotten))
	return nil
}
