package judge_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/judge"
)

// endless is a history that keeps running figures, of a limit of ten tokens at one a second.
func endless(t *testing.T) *judge.Observed {
	o := judge.New([]crdt.Definition{limit(t, "l", 10, "1")})
	o.Endless()
	return o
}

// The running figures of a run that is shorter than their memory are those of the whole run.
func TestRunningFiguresAreThoseOfTheRun(t *testing.T) {
	running, whole := endless(t), judge.New([]crdt.Definition{limit(t, "l", 10, "1")})
	for i := range 2000 {
		at := time.Duration(i) * 50 * time.Millisecond
		for _, o := range []*judge.Observed{running, whole} {
			o.Note(key(fmt.Sprint("k", i%7*(i%3))), judge.Take{At: at, Cost: 1 + int64(i%2), Admitted: i%4 > 0, Backup: i%16 == 1})
		}
	}
	const end = 100 * second
	want := judge.Measure(whole, 100)
	if got := running.Recent.Total["l"]; got != want.Limits[0].Sum {
		t.Errorf("in total %+v, want %+v", got, want.Limits[0].Sum)
	}
	var sum judge.Sum
	for _, s := range running.Recent.Seconds("l", end) {
		sum.Offered, sum.Admitted, sum.Ideal, sum.Backup = sum.Offered+s.Offered, sum.Admitted+s.Admitted, sum.Ideal+s.Ideal, sum.Backup+s.Backup
	}
	if sum != want.Limits[0].Sum {
		t.Errorf("second by second %+v, want %+v", sum, want.Limits[0].Sum)
	}
	keys := running.Recent.Keys("l", end, 100)
	if len(keys) != len(want.Keys) {
		t.Fatalf("%d keys, want %d", len(keys), len(want.Keys))
	}
	for i, k := range keys {
		if j := slices.IndexFunc(want.Keys, func(w judge.KeyFigures) bool { return w.ID == k.ID }); j < 0 || want.Keys[j].Sum != k.Sum || want.Keys[i].Offered != k.Offered {
			t.Errorf("key %d is %+v", i, k)
		}
	}
	if len(whole.Takes) == 0 || len(running.Takes) > 0 {
		t.Errorf("%d and %d buckets kept in full", len(whole.Takes), len(running.Takes))
	}
}

// What is older than some minutes is forgotten, second by second and by key.
func TestRunningFiguresForget(t *testing.T) {
	o := endless(t)
	note(o, key("old"), 5*second, 8, 8)
	note(o, key("new"), 200*second, 3, 2)
	now := 200*second + second/2
	list := o.Recent.Seconds("l", now)
	if len(list) != int(judge.RecentFor/second) || list[0].At != 21*second {
		t.Errorf("%d seconds from %v on", len(list), list[0].At)
	}
	for _, s := range list {
		if want := map[bool]int64{true: 3}[s.At == 200*second]; s.Offered != want {
			t.Errorf("%v: %d offered, want %d", s.At, s.Offered, want)
		}
	}
	keys := o.Recent.Keys("l", now, 10)
	if len(keys) != 2 || keys[0].Key != "new" || keys[0].Admitted != 2 || keys[1].Offered != 0 {
		t.Errorf("%+v", keys)
	}
	if d := keys[0].Overdraft; d > -8 || d < -8.6 {
		t.Errorf("new: overdrawn by %v, want -8.5: two of ten are taken, and half a token has come", d)
	}
	if o.Recent.Total["l"].Offered != 11 {
		t.Errorf("in total %+v", o.Recent.Total["l"])
	}
}

// A flood of keys, an hour of samples and thousands of events do not grow for ever; and the keys
// that others do not leave room for are judged again once those are full.
func TestRunningFiguresAreBounded(t *testing.T) {
	o := endless(t)
	for i := range 100_000 {
		at := time.Duration(i) * 50 * time.Microsecond // five seconds
		o.Note(key(fmt.Sprint(i)), judge.Take{At: at, Cost: 2, Admitted: true})
		o.Signs(fmt.Sprint(i), judge.Life{Number: i})
		o.Crash(judge.Life{Number: i}, at)
		o.Sampled(judge.Sample{At: at})
		o.Happened(judge.Event{At: at, Kind: judge.Fault})
	}
	if n := len(o.Known()); n > 20_000 {
		t.Errorf("%d keys kept", n)
	}
	if o.Recent.Unjudged == 0 || o.Recent.Unjudged > 80_000 {
		t.Errorf("%d takes of 100,000 not judged", o.Recent.Unjudged)
	}
	if s := o.Recent.Total["l"]; s.Offered != 200_000 || s.Ideal != 200_000 {
		t.Errorf("%+v", s)
	}
	if len(o.Samples) > 2000 || len(o.Events) > 2000 || len(o.Writers) > 0 || len(o.Crashed) > 0 {
		t.Errorf("%d samples, %d events, %d writers, %d crashes kept", len(o.Samples), len(o.Events), len(o.Writers), len(o.Crashed))
	}
	o.Note(key("later"), judge.Take{At: 10 * second, Cost: 1, Admitted: true})
	if n := len(o.Known()); n > 1000 {
		t.Errorf("%d keys kept, though all buckets have long been full", n)
	}
	o.Redefine([]crdt.Definition{limit(t, "l", 2, "1")}, 11*second)
	note(o, key("later"), 11*second, 5, 5)
	if k := o.Recent.Keys("l", 11*second, 1)[0]; k.Ideal != 1+2 || k.Overdraft != 3 {
		t.Errorf("%+v: two tokens is the capacity now", k)
	}
}
