package judge_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/judge"
)

func limit(t *testing.T, name string, capacity int64, rate string) crdt.Definition {
	t.Helper()
	r, err := crdt.ParseRate(rate)
	if err != nil {
		t.Fatal(err)
	}
	return crdt.Definition{Name: name, Capacity: crdt.Milli(capacity) * crdt.Token, Rate: r}
}

const second = time.Second

func key(k string) judge.ID { return judge.ID{Limit: "l", Key: k} }

// note notes takes of one token, of which so many are admitted.
func note(o *judge.Observed, id judge.ID, at time.Duration, offered, admitted int) {
	for i := range offered {
		o.Note(id, judge.Take{At: at, Cost: 1, Admitted: i < admitted})
	}
}

// Ten tokens, one a second. At 1 s twenty are offered and sixteen admitted: six too many. At 2 s
// one token has come, and nothing is admitted; at 10 s eight have come, three are offered and two
// admitted.
func TestFiguresOfOneKey(t *testing.T) {
	o := judge.New([]crdt.Definition{limit(t, "l", 10, "1")})
	note(o, key("k"), 1*second, 20, 16)
	note(o, key("k"), 2*second, 2, 0)
	note(o, key("k"), 10*second, 3, 2)
	o.Note(key("k"), judge.Take{At: 10 * second, Cost: 4, Admitted: true, Backup: true}) // one bucket would have had six left
	got := judge.Measure(o, 10)
	want := judge.Tally{
		Sum:       judge.Sum{Offered: 29, Admitted: 18, Backup: 4, Ideal: 10 + 1 + 3 + 4},
		Overdraft: 6, OverdraftAt: 1 * second,
		Windows: []judge.Spell{
			{Length: 1 * second, Above: 6, AboveAt: 1 * second, Below: 5, BelowAt: 10 * second},
			{Length: 5 * second, Above: 6, AboveAt: 1 * second, Below: 5, BelowAt: 10 * second},
		},
	}
	if len(got.Keys) != 1 || !reflect.DeepEqual(got.Keys[0].Tally, want) {
		t.Errorf("got  %+v\nwant %+v", got.Keys, want)
	}
	if len(got.Limits) != 1 || !reflect.DeepEqual(got.Limits[0], judge.LimitFigures{Limit: "l", Tally: want, Worst: "k", Keys: 1}) {
		t.Errorf("the limit: %+v", got.Limits)
	}
	if r := want.Ratio(); r != 1 {
		t.Errorf("ratio %v", r)
	}
}

// Two keys: what one was over in a window, the other was under in the next; a window of five
// seconds sees both, one of a second does not.
func TestWindowsOfALimit(t *testing.T) {
	o := judge.New([]crdt.Definition{limit(t, "l", 10, "1")})
	note(o, key("over"), 10*second, 13, 13)            // three too many
	note(o, key("over"), 10500*time.Millisecond, 1, 1) // and one more
	note(o, key("under"), 13*second, 4, 0)             // four too few
	note(o, key("over"), 15600*time.Millisecond, 7, 6) // a bucket that took only its ten has 5.6: one too many
	note(o, key("quiet"), 16*second, 1, 1)
	got := judge.Measure(o, 2)
	if len(got.Keys) != 2 || got.Keys[0].Key != "over" || got.Keys[1].Key != "under" {
		t.Errorf("the busiest two: %+v", got.Keys)
	}
	l := got.Limits[0]
	want := []judge.Spell{
		{Length: 1 * second, Above: 4, AboveAt: 10500 * time.Millisecond, Below: 4, BelowAt: 13 * second},
		{Length: 5 * second, Above: 4, AboveAt: 10500 * time.Millisecond, Below: 4, BelowAt: 13 * second},
	}
	if !slices.Equal(l.Windows, want) || l.Keys != 3 || l.Worst != "over" {
		t.Errorf("got  %+v\nwant %+v", l, want)
	}
	// Overdrawn by 3 at 10 s and 3.5 at 10.5 s; at 15.6 s by 4.4.
	if l.Overdraft < 4.399 || l.Overdraft > 4.401 || l.OverdraftAt != 15600*time.Millisecond {
		t.Errorf("overdrawn by %v at %v, want 4.4 at 15.6 s", l.Overdraft, l.OverdraftAt)
	}
}

// The worst windows are the worst of all windows: the reference tries every one.
func TestWorstWindowsAgainstAllWindows(t *testing.T) {
	random := func(x *uint64) uint64 { *x = *x*6364136223846793005 + 1442695040888963407; return *x >> 33 }
	x := uint64(1)
	for range 200 {
		o := judge.New([]crdt.Definition{limit(t, "l", 3, "2")})
		var at time.Duration
		for range 40 {
			at += time.Duration(random(&x)%900) * time.Millisecond
			offered := int(random(&x) % 5)
			note(o, key("k"), at, offered, int(random(&x)%uint64(offered+1)))
		}
		f := judge.Measure(o, 1)
		if len(f.Keys) == 0 {
			continue
		}
		for _, w := range f.Keys[0].Windows {
			above, below := slowly(o, w.Length)
			if w.Above != above || w.Below != below {
				t.Fatalf("over %v: %d above and %d below, every window tried: %d and %d", w.Length, w.Above, w.Below, above, below)
			}
		}
	}
}

// slowly compares what was admitted with what a bucket of fractions of tokens admits, in every
// window.
func slowly(o *judge.Observed, length time.Duration) (above, below int64) {
	takes := o.Takes[key("k")]
	more := make([]int64, len(takes))
	left, last := 3.0, time.Duration(0)
	for i, t := range takes {
		left = min(3, left+2*(t.At-last).Seconds())
		last = t.At
		if t.Admitted {
			more[i]++
		}
		if left >= 1-1e-9 {
			left--
			more[i]--
		}
	}
	for i := range takes {
		sum := int64(0)
		for j := i; j < len(takes) && takes[j].At-takes[i].At <= length; j++ {
			sum += more[j]
			above, below = max(above, sum), max(below, -sum)
		}
	}
	return above, below
}

// A hundred thousand takes at a rate that no float holds exactly: not a token is lost.
func TestTheIdealBucketIsExact(t *testing.T) {
	for rate, want := range map[string]int64{"1": 100 + 999, "3": 100 + 2997, "20/m": 100 + 333, "360/h": 100 + 99, "7/m": 100 + 116} {
		o := judge.New([]crdt.Definition{limit(t, "l", 100, rate)})
		for i := range 99_901 {
			o.Note(key("k"), judge.Take{At: time.Duration(i) * 10 * time.Millisecond, Cost: 1})
		}
		if got := judge.Measure(o, 1).Keys[0].Ideal; got != want {
			t.Errorf("at %s: the ideal bucket admits %d in 999 s, want %d", rate, got, want)
		}
	}
}

// A new definition holds for the figures from its time on: 100 tokens, then 10.
func TestFiguresGoByTheNewestDefinition(t *testing.T) {
	o := judge.New([]crdt.Definition{limit(t, "l", 100, "10")})
	note(o, key("k"), 1*second, 50, 50)
	o.Redefine([]crdt.Definition{limit(t, "l", 10, "1")}, 2*second) // sixty left become ten
	note(o, key("k"), 2*second, 30, 12)
	note(o, key("k"), 5*second, 30, 3)
	got := judge.Measure(o, 1).Keys[0]
	if got.Ideal != 50+10+3 || got.Admitted != 65 || got.Overdraft != 2 {
		t.Errorf("%+v, want 63 ideal, overdrawn by 2", got)
	}
}

// shows samples two nodes' refill metrics.
func shows(o *judge.Observed, at time.Duration, a, b float64) {
	s := judge.Sample{At: at, By: map[string]judge.Shown{}}
	for name, speed := range map[string]float64{"a": a, "b": b} {
		s.By[name] = judge.Shown{Speed: [crdt.Policies]float64{speed, speed, 1}, Up: speed >= 0}
	}
	o.Sampled(s)
}

// a falls under a fifth 3 s after the first cut, and is back 1.5 s after its heal. The second cut
// shows nowhere: a's daemon is paused, and b restarts.
func TestWhenACutShows(t *testing.T) {
	o := judge.New(nil)
	happen := func(at time.Duration, k judge.Kind, node string) {
		o.Happened(judge.Event{At: at, Kind: k, From: []string{node}})
	}
	const ms = time.Millisecond
	shows(o, 9*second, 1, 1)
	happen(10*second, judge.Cut, "a")
	happen(10*second+50*ms, judge.Cut, "b") // the other direction
	shows(o, 11*second, 1, 1)
	shows(o, 12*second, 0.5, 0.7)
	shows(o, 13*second, 0.19, 1)
	shows(o, 14*second, 0, 1)
	happen(20*second, judge.Heal, "a")
	shows(o, 21*second, 0.79, 1)
	shows(o, 21500*ms, 0.81, 1)
	happen(26*second, judge.Crash, "b")
	shows(o, 26500*ms, 1, -1)
	happen(30*second, judge.Cut, "a")
	happen(30500*ms, judge.Pause, "a")
	happen(31*second, judge.Start, "b")
	shows(o, 32*second, 0, 0)
	shows(o, 33*second, 0, 1)
	f := judge.Measure(o, 0)
	wantCuts := []judge.CutFigures{{At: 10 * second, Nodes: []string{"a"}, First: 3 * second, All: 3 * second}, {At: 30 * second, First: judge.Never, All: judge.Never}}
	if !reflect.DeepEqual(f.Cuts, wantCuts) {
		t.Errorf("cuts %+v\nwant %+v", f.Cuts, wantCuts)
	}
	wantHeals := []judge.HealFigures{{At: 20 * second, Agreed: judge.Never, Back: 1500 * ms}}
	if !reflect.DeepEqual(f.Heals, wantHeals) {
		t.Errorf("heals %+v\nwant %+v", f.Heals, wantHeals)
	}
}

// Two nodes agree once both show what either had taken at the heal, whatever was taken since.
func TestWhenNodesAgreeAfterAHeal(t *testing.T) {
	o := judge.New([]crdt.Definition{limit(t, "l", 10, "1")})
	note(o, key("k"), second, 1, 1)
	look := func(at time.Duration, a, b map[string]int64) {
		o.Seen(at, map[judge.ID][]judge.Holding{key("k"): {{Node: "a", Taken: a}, {Node: "b", Taken: b}}})
	}
	if ids := o.Watched(); ids != nil {
		t.Errorf("watched before any heal: %v", ids)
	}
	o.Happened(judge.Event{At: 10 * second, Kind: judge.Heal})
	if ids := o.Watched(); !slices.Equal(ids, []judge.ID{key("k")}) {
		t.Errorf("watched: %v", ids)
	}
	look(10*second, map[string]int64{"a": 5000}, map[string]int64{"a": 1000, "b": 3000, "gone": 1000})
	look(11*second, map[string]int64{"a": 9000, "b": 3000}, map[string]int64{"a": 4000, "b": 7000})
	if got := o.Events[0].Agreed; got != judge.Never {
		t.Errorf("agreed after %v, and b lacks a token of a", got)
	}
	look(12*second, map[string]int64{"a": 9000, "b": 3000}, map[string]int64{"a": 5000, "b": 7000})
	if got := o.Events[0].Agreed; got != 2*second || o.Watched() != nil {
		t.Errorf("agreed after %v, want 2 s; watched %v", got, o.Watched())
	}
	o.Happened(judge.Event{At: 20 * second, Kind: judge.Heal})
	look(20*second, map[string]int64{"a": 1}, nil)
	o.Happened(judge.Event{At: 21 * second, Kind: judge.Cut})
	look(22*second, nil, nil)
	if got := judge.Measure(o, 0).Heals; got[0].Agreed != 2*second || got[1].Agreed != judge.Never {
		t.Errorf("%+v: the second heal was undone before anybody agreed", got)
	}
}

// All clocks together grew by 6 s in the five before 9 s.
func TestGrowth(t *testing.T) {
	o := judge.New(nil)
	own := time.Duration(0)
	for at := time.Duration(0); at <= 12*second; at += judge.SampleEvery {
		if at > 4*second && at <= 9*second {
			own += judge.SampleEvery / 5
		}
		own += judge.SampleEvery
		o.Sampled(judge.Sample{At: at, Own: [crdt.Policies]time.Duration{own, 0, 0}})
	}
	if g := judge.Measure(o, 0).Growth; g != (judge.Growth{Policy: crdt.Quorum, Share: 1.2, Until: 9 * second}) {
		t.Errorf("%+v", g)
	}
}
