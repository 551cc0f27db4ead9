package judge

import (
	"strings"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
)

// What a tick brings late, a law may be told to bear; no more than that.
func TestLateTicksAreBorne(t *testing.T) {
	for _, c := range []struct {
		grown, late time.Duration
		breach      string
	}{
		{5050 * time.Millisecond, 0, ""},
		{5150 * time.Millisecond, 0, "authorised"},
		{5150 * time.Millisecond, 100 * time.Millisecond, ""},
		{5250 * time.Millisecond, 100 * time.Millisecond, "authorised"},
		{4850 * time.Millisecond, 0, "awake"},
		{4850 * time.Millisecond, 100 * time.Millisecond, ""},
		{4750 * time.Millisecond, 100 * time.Millisecond, "awake"},
	} {
		o := New(nil)
		own := [crdt.Policies]time.Duration{c.grown, c.grown, c.grown}
		o.Sampled(Sample{By: map[string]Shown{}})
		o.Sampled(Sample{At: Window, Own: own, By: map[string]Shown{}})
		v := Of(o, Laws{Late: c.late, Whole: true})
		said := ""
		for _, b := range v.Breaches {
			said += b.Law + " "
		}
		if (c.breach == "") != (said == "") || !strings.HasPrefix(said, c.breach) {
			t.Errorf("%v in %v, late by %v at most: breaches %q, want %q", c.grown, Window, c.late, said, c.breach)
		}
	}
}
