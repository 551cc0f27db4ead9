package page

import (
	"fmt"
	"slices"
	"strings"

	"github.com/openclaw/edge/crdt"
)

// Tones of a line: how it looks, besides what it says.
const (
	good = "good"
	note = "note"
	bad  = "bad"
)

// line is one sentence or two for people.
type line struct {
	Tone string `json:"tone"`
	Text string `json:"text"`
}

// why says in words why the refill rates are what they are; worst first.
func why(s *sight) (lines []line) {
	say := func(tone, format string, args ...any) {
		lines = append(lines, line{tone, fmt.Sprintf(format, args...)})
	}
	var majority, minority []string // regions that hear not all, and enough or too few
	hear, members, few := 0, 0, 0
	for i := range s.regions {
		r := &s.regions[i]
		reachable, n, ok := r.hears()
		switch {
		case len(r.up()) == 0:
			say(bad, "%s: no node runs, so nothing is offered there. The others take its part of the refill over after %v.", r.name, s.lease*3/2)
		case !ok:
			say(note, "%s: its nodes start and do not know the cluster yet.", r.name)
		case reachable == n && r.cut.how == both && s.at-r.cut.since < s.lease+s.lease/2:
			say(note, "%s has just been cut off. Its nodes notice when nobody has answered for the lease, %v.", r.name, s.lease)
		case reachable < n && r.stopped(crdt.Quorum):
			minority, few, members = append(minority, r.name), max(few, reachable), n
		case reachable < n:
			if len(majority) == 0 || reachable < hear {
				hear, members = reachable, n
			}
			majority = append(majority, r.name)
		}
	}
	if len(minority) > 0 {
		say(bad, "%s: no majority. %s", hears(minority, few, members), s.minority(minority, few, members))
	}
	if len(majority) > 0 {
		say(note, "%s: still a majority. %s", hears(majority, hear, members), s.carries(majority[0]))
	}
	for _, n := range s.nodes() {
		switch {
		case !n.Up && len(s.region(n.Region).up()) > 0:
			say(bad, "%s is down. Its part of the refill goes to the others after %v, so a crash costs the limits nothing.", n.Name, s.lease*3/2)
		case n.Up && n.Cluster.RefillPaused:
			say(bad, "%s's refill daemon is paused: the refill clock that its takes see stands still, and its own alert fires. Its part of the clock goes on for the others.", n.Name)
		case n.joined() && !n.Ready && !s.region(n.Region).stopped(crdt.Quorum) && n.Reason != "":
			say(note, "%s is not ready: %s.", n.Name, n.Reason)
		}
	}
	if len(lines) == 0 {
		say(good, "Every node hears every other, so the refill clock runs at one second a second and each region offers every limit's full rate.")
	}
	return lines
}

// hears says what regions hear.
func hears(regions []string, reachable, members int) string {
	verb := "each hear"
	if len(regions) == 1 {
		verb = "hears"
	}
	return fmt.Sprintf("%s %s %d of %d members", enumerate(regions), verb, reachable, members)
}

// minority says what it means to be without a majority.
func (s *sight) minority(regions []string, reachable, members int) string {
	var b strings.Builder
	if names, backup := s.limitsOf(crdt.Quorum); names != "" {
		serves := slices.ContainsFunc(regions, func(name string) bool { return s.region(name).backup })
		fmt.Fprintf(&b, "Refill stopped under quorum (%s)", names)
		switch {
		case backup && serves:
			b.WriteString("; the backup bucket serves")
		case backup:
			b.WriteString("; the backup bucket stands by")
		}
		b.WriteString(". ")
	}
	if names, _ := s.limitsOf(crdt.Share); names != "" {
		fmt.Fprintf(&b, "Under share (%s) it goes on at %d/%d. ", names, reachable, members)
	}
	if names, _ := s.limitsOf(crdt.Open); names != "" {
		fmt.Fprintf(&b, "Under open (%s) it goes on in full, so each side admits the whole limit. ", names)
	}
	b.WriteString("The nodes say 503 on /readyz, so that load balancers send traffic elsewhere.")
	return b.String()
}

// carries says what becomes of the part of those that a side with a majority does not hear.
func (s *sight) carries(region string) string {
	quorum, _ := s.limitsOf(crdt.Quorum)
	share, _ := s.limitsOf(crdt.Share)
	var b strings.Builder
	if quorum != "" {
		full := true
		for _, d := range s.limits {
			if rate, ok := s.region(region).refill(d.Name); ok && d.Policy == crdt.Quorum && rate < recovered*d.Rate.PerSecond() {
				full = false
			}
		}
		if full {
			b.WriteString("Quorum limits refill in full: nothing is lost, or the part of the lost is carried here. ")
		} else {
			fmt.Fprintf(&b, "They take the part of the lost over %v after they were last heard. ", s.lease*3/2)
		}
	}
	if share != "" {
		b.WriteString("Share limits run at the part of those that are heard.")
	}
	return strings.TrimSpace(b.String())
}

// limitsOf names the limits of a policy, and says whether one has a backup bucket.
func (s *sight) limitsOf(p crdt.Policy) (names string, backup bool) {
	var list []string
	for _, d := range s.limits {
		if d.Policy == p {
			list = append(list, d.Name)
			backup = backup || d.Backup != nil
		}
	}
	return enumerate(list), backup
}

// enumerate joins names as people do.
func enumerate(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
