package page

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/judge"
)

// How many buckets of a limit the page shows, and of how many it notes how far over they are.
const (
	keysShown   = 3
	keysWatched = 100
)

// publish hands out what is to be seen now.
func (h *hub) publish() {
	s := look(h.w, h.machines)
	for i := range s.regions {
		s.regions[i].cut = h.faults.regions[s.regions[i].name]
	}
	h.watch.see(s, h.saw)
	h.lookAtBuckets(s)
	h.seq++
	st := h.state(s)
	rates := make([][]*float64, len(st.Limits))
	for i := range st.Limits {
		rates[i] = st.Limits[i].Rates
	}
	h.points.add(point{Seq: h.seq, At: st.At, Rates: rates})
	f := &frame{points: h.points.newest(), log: h.log.newest()}
	var err error
	if f.hello, err = json.Marshal(h.hello()); err == nil {
		f.state, err = json.Marshal(st)
	}
	if err != nil { // a NaN, say: the next one may be better
		h.saw(fmt.Sprintf("the page could not be told: %v", err), bad)
		return
	}
	h.stream.publish(f)
}

func (h *hub) hello() hello {
	m := hello{Regions: h.faults.names, Stores: h.cfg.Stores, Loads: loads}
	if h.load.flood != nil {
		m.Flood = h.load.flood.PerSecond
	}
	for _, n := range h.machines {
		m.Nodes = append(m.Nodes, helloNode(n))
	}
	for _, p := range h.faults.pairs() {
		m.Links = append(m.Links, helloLink{p.from, p.to})
	}
	for _, d := range h.w.Limits() {
		m.Limits = append(m.Limits, helloLimit{d.Name, d.Policy.String(), float64(d.Capacity) / float64(crdt.Token), d.Rate.PerSecond(), d.Backup != nil})
	}
	return m
}

func (h *hub) state(s *sight) *state {
	st := &state{Seq: h.seq, At: s.at.Seconds(), Why: why(s), Slow: h.faults.slow, Flood: h.load.flooding, Load: h.load.times, Offered: h.load.perSecond()}
	for i := range s.regions {
		r := &s.regions[i]
		word, tone := r.word()
		st.Regions = append(st.Regions, regionState{r.name, r.cut.how, word, tone})
	}
	for _, n := range s.nodes() {
		st.Nodes = append(st.Nodes, h.node(n))
	}
	for _, p := range h.faults.pairs() {
		there, back := h.faults.told[p], h.faults.told[pair{p.to, p.from}]
		st.Links = append(st.Links, linkState{
			From: p.from, To: p.to, Mode: h.faults.links[p].how, There: there.cut, Back: back.cut, Slow: there.slow,
			Delay: milliseconds(h.faults.delay(p.from, p.to)), Lag: max(s.lag(p.from, p.to), s.lag(p.to, p.from)),
		})
	}
	st.Buckets = h.buckets
	st.Limits = h.limits(s)
	st.KV, st.Redis = h.storeStates(s)
	st.Status = status(st)
	return st
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// What a region says on the map when it is bad.
const (
	wordDown     = "down"
	wordMinority = "no majority"
)

// word is a region's state in one or two.
func (r *regionSight) word() (word, tone string) {
	reachable, members, ok := r.hears()
	switch {
	case len(r.up()) == 0:
		return wordDown, bad
	case !ok:
		return "starting", note
	case r.stopped(crdt.Quorum):
		return wordMinority, bad
	case reachable < members:
		return fmt.Sprintf("hears %d of %d", reachable, members), note
	case len(r.up()) < len(r.nodes):
		return "one is down", note
	}
	return "whole", good
}

func (h *hub) node(n *nodeSight) nodeState {
	st := nodeState{Name: n.Name, Word: "ready", Snapshot: -1, Reason: n.Reason,
		Reachable: n.Cluster.ReachableMembers, Members: n.Cluster.ExpectedMembers, Speed: n.Cluster.Policies[crdt.Quorum.String()].Speed}
	if at := n.Cluster.Store.LastSnapshot; at != nil {
		st.Snapshot = max(0, time.Since(*at).Seconds())
	}
	_, starting := h.starting[n.Name]
	switch {
	case starting || n.Up && !n.joined():
		st.Word = "starting"
	case !n.Up:
		st.Word = "down"
	case n.Cluster.RefillPaused:
		st.Word = "paused"
	case !n.Ready:
		st.Word = "not ready"
	}
	return st
}

func (h *hub) limits(s *sight) (list []limitState) {
	recent := h.w.Observed().Recent
	for _, d := range s.limits {
		total := recent.Total[d.Name]
		l := limitState{Admitted: total.Admitted, Ideal: total.Ideal, Offered: total.Offered, Backup: total.Backup, Overdraft: round(h.worst[d.Name], 10)}
		for _, second := range recent.Seconds(d.Name, s.at) {
			if second.At > s.at-time.Minute {
				l.MinuteTaken += second.Admitted
				l.MinuteIdeal += second.Ideal
			}
		}
		for i := range s.regions {
			var rate *float64
			if v, ok := s.regions[i].refill(d.Name); ok {
				v = round(v, 100)
				rate = &v
			}
			l.Rates = append(l.Rates, rate)
		}
		list = append(list, l)
	}
	return list
}

// round keeps so many parts of one: the page shows no more.
func round(x, parts float64) float64 { return math.Round(x*parts) / parts }

// rest is how many times as long as a look at the buckets took there is none: in a flood there are many.
const rest = 10

// lookAtBuckets asks every node for every bucket that the World remembers.
func (h *hub) lookAtBuckets(s *sight) {
	if s.at < h.lookAgain {
		return
	}
	began := time.Now()
	h.w.Look()
	h.buckets = h.busiest(s)
	h.lookAgain = s.at + rest*time.Since(began)
}

func (h *hub) busiest(s *sight) (list []bucketState) {
	o := h.w.Observed()
	for _, d := range s.limits {
		keys := o.Recent.Keys(d.Name, s.at, keysWatched)
		for _, k := range keys {
			h.worst[d.Name] = max(h.worst[d.Name], k.Overdraft)
		}
		keys = keys[:min(keysShown, len(keys))]
		slices.SortFunc(keys, func(a, b judge.KeySum) int { return cmp.Compare(a.Key, b.Key) }) // in their places as they heat up
		for _, k := range keys {
			b := bucketState{Limit: d.Name, Key: k.Key, Ideal: round(-k.Overdraft, 10)}
			for _, n := range s.nodes() {
				b.Levels = append(b.Levels, levelOn(n, o.Holdings[k.ID]))
			}
			list = append(list, b)
		}
	}
	return list
}

func levelOn(n *nodeSight, holdings []judge.Holding) *float64 {
	for _, x := range holdings {
		if x.Node == n.Name && n.Up {
			level := round(float64(x.Level)/float64(crdt.Token), 10)
			return &level
		}
	}
	return nil
}

// storeStates is how KV and Redis do, as the nodes show it: what is switched on alone proves nothing.
func (h *hub) storeStates(s *sight) (kv, redis storeState) {
	falling, up, pending, oldest := 0, 0, 0, -1.0
	for _, n := range s.nodes() {
		if !n.Up {
			continue
		}
		up++
		pending += n.Cluster.Store.PendingSegments
		if n.Cluster.Store.FallbackActive {
			falling++
		}
		if at := n.Cluster.Store.LastSnapshot; at != nil {
			oldest = max(oldest, time.Since(*at).Seconds())
		}
	}
	kv = storeState{Fault: h.stores["kv"], Word: "healthy", Tone: good, Active: falling < up}
	redis = storeState{Fault: h.stores["redis"], Word: "standing by", Tone: good, Active: falling > 0, Pending: pending}
	if oldest >= 0 {
		kv.Detail = fmt.Sprintf("newest snapshots: at most %.0f s old", oldest)
	}
	if kv.Fault != "" {
		kv.Word, kv.Tone = "told to fail: "+kv.Fault, note
	}
	switch {
	case falling > 0 && kv.Fault != "":
		kv.Word, kv.Tone = fmt.Sprintf("failing (%s) for %d of %d nodes", kv.Fault, falling, up), bad
	case falling > 0:
		kv.Word, kv.Tone = fmt.Sprintf("not trusted yet by %d of %d nodes", falling, up), note
	}
	if falling > 0 {
		redis.Word, redis.Tone = "fallback active", note
	}
	if redis.Fault != "" {
		redis.Word, redis.Tone = "told to fail: "+redis.Fault, note
		if falling > 0 {
			redis.Word, redis.Tone = "failing, too: "+redis.Fault, bad
		}
	}
	if pending > 0 {
		redis.Detail = fmt.Sprintf("%d segments wait there for KV", pending)
	}
	return kv, redis
}

// status is the one line on top.
func status(st *state) line {
	var lost, down []string
	for _, r := range st.Regions {
		switch r.Word {
		case wordMinority:
			lost = append(lost, r.Name)
		case wordDown:
			down = append(down, r.Name)
		}
	}
	switch {
	case len(lost) > 0:
		return line{bad, "no majority in " + enumerate(lost)}
	case len(down) > 0:
		return line{bad, "no node runs in " + enumerate(down)}
	case st.Redis.Active:
		return line{note, "KV fails: snapshots go to Redis"}
	}
	for _, r := range st.Regions {
		if r.Tone != good {
			return line{note, r.Name + ": " + r.Word}
		}
	}
	for _, n := range st.Nodes {
		if n.Word != "ready" {
			return line{note, n.Name + ": " + n.Word}
		}
	}
	return line{good, fmt.Sprintf("all %d nodes hear each other", len(st.Nodes))}
}
