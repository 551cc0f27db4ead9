package judge

import (
	"slices"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
)

// A bucket of two tokens, one a second, and a cluster that admits three of the first four takes,
// one by its backup; a second key; and takes after the last time that is asked for.
func TestCourse(t *testing.T) {
	rate, err := crdt.ParseRate("1")
	if err != nil {
		t.Fatal(err)
	}
	o := New([]crdt.Definition{{Name: "l", Capacity: 2 * crdt.Token, Rate: rate}, {Name: "other", Capacity: 2 * crdt.Token, Rate: rate}})
	note := func(limit, key string, at time.Duration, admitted, backup bool) {
		o.Note(ID{limit, key}, Take{At: at, Cost: 1, Admitted: admitted, Backup: backup})
	}
	note("l", "a", 0, true, false)
	note("l", "a", 100*time.Millisecond, true, false)
	note("l", "a", 200*time.Millisecond, true, false)
	note("l", "a", 1500*time.Millisecond, true, true)
	note("l", "b", 1600*time.Millisecond, true, false)
	note("l", "b", 5*time.Second, true, false)
	note("other", "a", 0, true, false)
	admitted, ideal := o.Course("l", []time.Duration{100 * time.Millisecond, time.Second, 2 * time.Second, 3 * time.Second})
	if want := []int64{2, 3, 4, 4}; !slices.Equal(admitted, want) {
		t.Errorf("admitted %v, want %v", admitted, want)
	}
	if want := []int64{2, 2, 4, 4}; !slices.Equal(ideal, want) {
		t.Errorf("ideal %v, want %v", ideal, want)
	}
}
