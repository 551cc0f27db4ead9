package crdt

import (
	"maps"
	"testing"

	"pgregory.net/rapid"
)

func drawClock(t *rapid.T) Clock {
	c := Clock{}
	for _, node := range rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c"}), 0, 4).Draw(t, "nodes") {
		c.Join(node, drawComponents(t))
	}
	return c
}

func drawComponents(t *rapid.T) (v Components) {
	for p := range v {
		v[p] = Instant(rapid.Int64Range(0, 5).Draw(t, "component"))
	}
	return v
}

func joinClocks(a, b Clock) Clock {
	c := maps.Clone(a)
	for node, v := range b {
		c.Join(node, v)
	}
	return c
}

func TestClockIsASemilattice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawClock(t), drawClock(t), drawClock(t)
		ab := joinClocks(a, b)
		if !maps.Equal(ab, joinClocks(b, a)) || !maps.Equal(joinClocks(ab, c), joinClocks(a, joinClocks(b, c))) || !maps.Equal(joinClocks(a, a), a) {
			t.Fatalf("%v, %v, %v", a, b, c)
		}
		for p := range Policy(Policies) {
			if ab.Sum(p) < max(a.Sum(p), b.Sum(p)) {
				t.Fatalf("R of %s fell: %v and %v make %v", p, a, b, ab)
			}
		}
	})
}

// A join tells whether R moved: only then is there something to show and to pass on.
func TestClockTellsWhatGrew(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, v := drawClock(t), drawComponents(t)
		was := maps.Clone(c)
		grew := c.Join("a", v)
		want := false
		for p := range v {
			want = want || v[p] > was["a"][p]
			if c["a"][p] != max(v[p], was["a"][p]) {
				t.Fatalf("%v joined with %v is %v", was["a"], v, c["a"])
			}
		}
		if _, known := c["a"]; grew != want || !known {
			t.Fatalf("grew %v, want %v: %v to %v", grew, want, was, c)
		}
	})
}

func TestPolicyNames(t *testing.T) {
	for p := range Policy(Policies) {
		if back, err := ParsePolicy(p.String()); err != nil || back != p {
			t.Errorf("%s: %v, %v", p, back, err)
		}
	}
	if p, err := ParsePolicy("strict"); err == nil {
		t.Errorf("strict is %s", p)
	}
	if s := Policy(9).String(); s != "policy(9)" {
		t.Error(s)
	}
}
