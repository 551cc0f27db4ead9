package page

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// watch notices what changed between two sights, and says it once. It belongs to the hub.
type watch struct {
	deaf     map[pair]bool          // region that does not reach a node, as it was said
	since    map[pair]time.Duration // of those for which it is otherwise now
	low      map[pair]bool          // region and limit
	up       map[string]bool
	ready    map[string]bool
	fallback bool
	backup   map[string]uint64 // takes served by the backup buckets of a region
	served   map[string]time.Duration
	began    bool
}

func newWatch() *watch {
	return &watch{deaf: map[pair]bool{}, since: map[pair]time.Duration{}, low: map[pair]bool{}, up: map[string]bool{}, ready: map[string]bool{},
		backup: map[string]uint64{}, served: map[string]time.Duration{}}
}

// servedLately is for how long a backup bucket that served a take counts as serving.
const servedLately = 3 * time.Second

// see compares s with what was seen before and says what is new; s learns of backup buckets.
func (w *watch) see(s *sight, say func(text, tone string)) {
	w.backups(s)
	w.nodes(s, say)
	for i := range s.regions {
		w.hearing(s, &s.regions[i], say)
		w.refill(s, &s.regions[i], say)
	}
	w.stores(s, say)
	w.began = true
}

func (w *watch) backups(s *sight) {
	for i := range s.regions {
		r := &s.regions[i]
		sum := uint64(0)
		for _, n := range r.up() {
			for _, c := range n.Takes {
				sum += c.Backup
			}
		}
		if sum > w.backup[r.name] {
			w.served[r.name] = s.at
		}
		w.backup[r.name] = sum
		at, ever := w.served[r.name]
		r.backup = ever && s.at-at < servedLately
	}
}

func (w *watch) nodes(s *sight, say func(text, tone string)) {
	for _, n := range s.nodes() {
		if w.began && n.Up != w.up[n.Name] {
			if n.Up {
				say(n.Name+" runs again", good)
			} else {
				say(n.Name+" is down", bad)
			}
		}
		if w.began && n.Up && n.Ready != w.ready[n.Name] {
			if n.Ready {
				say(n.Name+" is ready for traffic", good)
			} else {
				reason, _, _ := strings.Cut(n.Reason, ":")
				say(fmt.Sprintf("%s is not ready: %s", n.Name, reason), bad)
			}
		}
		w.up[n.Name], w.ready[n.Name] = n.Up, n.Up && n.Ready
	}
}

// gather is how long one who is lost or found is not spoken of: others follow, and make one line.
const gather = 700 * time.Millisecond

// hearing says whom a region lost or found, by region where it is all of one.
func (w *watch) hearing(s *sight, r *regionSight, say func(text, tone string)) {
	var changed []*nodeSight
	due := false
	for _, n := range s.nodes() {
		key := pair{r.name, n.Name}
		deaf, known := r.unreachable(n.Name)
		if n.Region == r.name || !known || deaf == w.deaf[key] {
			delete(w.since, key)
			continue
		}
		if _, waits := w.since[key]; !waits {
			w.since[key] = s.at
		}
		changed = append(changed, n)
		due = due || s.at-w.since[key] >= gather
	}
	if !due {
		return
	}
	lost, found := map[string][]string{}, map[string][]string{}
	for _, n := range changed {
		key := pair{r.name, n.Name}
		delete(w.since, key)
		if w.deaf[key] = !w.deaf[key]; w.deaf[key] {
			lost[n.Region] = append(lost[n.Region], n.Name)
		} else {
			found[n.Region] = append(found[n.Region], n.Name)
		}
	}
	if names := s.collect(lost); names != "" {
		say(fmt.Sprintf("%s does not reach %s", r.name, names), bad)
	}
	if names := s.collect(found); names != "" {
		say(fmt.Sprintf("%s reaches %s again", r.name, names), good)
	}
}

// unreachable tells whether every node of the region that knows a member finds it unreachable.
func (r *regionSight) unreachable(node string) (deaf, known bool) {
	deaf = true
	for _, n := range r.up() {
		for _, m := range n.Cluster.Members {
			if m.Node == node {
				known = true
				deaf = deaf && m.State != "alive"
			}
		}
	}
	return deaf && known, known
}

// collect names nodes, and where it is all of a region, the region.
func (s *sight) collect(byRegion map[string][]string) string {
	var names []string
	for i := range s.regions {
		r := &s.regions[i]
		if nodes := byRegion[r.name]; len(nodes) == len(r.nodes) {
			names = append(names, r.name)
		} else {
			names = append(names, nodes...)
		}
	}
	return enumerate(names)
}

// refill says which limits of a region have fallen, or are back.
func (w *watch) refill(s *sight, r *regionSight, say func(text, tone string)) {
	var fell, back []string
	for _, d := range s.limits {
		rate, ok := r.refill(d.Name)
		key := pair{r.name, d.Name}
		switch share := rate / d.Rate.PerSecond(); {
		case !ok || !w.began:
		case share < fallen && !w.low[key]:
			w.low[key] = true
			fell = append(fell, d.Name)
		case share >= recovered && w.low[key]:
			w.low[key] = false
			back = append(back, d.Name)
		}
	}
	if len(fell) > 0 {
		say(fmt.Sprintf("refill in %s fell below 20 %%: %s", r.name, enumerate(fell)), bad)
	}
	if len(back) > 0 {
		say(fmt.Sprintf("refill in %s is back: %s", r.name, enumerate(back)), good)
	}
}

// stores says when snapshots begin to go to Redis, and when they no longer do.
func (w *watch) stores(s *sight, say func(text, tone string)) {
	var falling []string
	for _, n := range s.nodes() {
		if n.Up && n.Cluster.Store.FallbackActive {
			falling = append(falling, n.Name)
		}
	}
	active := len(falling) > 0
	if active && !w.fallback {
		slices.Sort(falling)
		say("fallback began: snapshots go to Redis on "+strings.Join(falling, ", "), bad)
	} else if !active && w.fallback {
		say("fallback ended: snapshots go to KV again", good)
	}
	w.fallback = active
}
