package crdt

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func define(t testing.TB, name string, tokens Milli, perSecond string) Definition {
	return Definition{Name: name, Capacity: tokens * Token, Rate: rate(t, perSecond), MaxBuckets: 10}
}

func newSet(t failer, version uint64, prev *Set, from Instant, defs ...Definition) *Set {
	s, err := NewSet(version, defs, prev, Components{from, from, from})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return s
}

// drawSet is a set of one to three limits out of few, of a low version: sets of one
// version, and of one content, are common.
func drawSet(t *rapid.T, prev *Set) *Set {
	var defs []Definition
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 1, 3, rapid.ID).Draw(t, "names") {
		defs = append(defs, Definition{
			Name: name, MaxBuckets: 1, Rate: Rate{1, uint64(rapid.IntRange(1, 2).Draw(t, "rate"))},
			Capacity: Milli(rapid.IntRange(1, 2).Draw(t, "tokens")) * Token,
			Policy:   Policy(rapid.IntRange(0, 1).Draw(t, "policy")),
		})
	}
	version := uint64(rapid.IntRange(1, 3).Draw(t, "version"))
	if prev != nil {
		version = max(version, prev.Version)
	}
	return newSet(t, version, prev, Instant(rapid.IntRange(0, 2).Draw(t, "from")), defs...)
}

func TestSupersedesIsATotalOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawSet(t, nil)
		b := drawSet(t, rapid.SampledFrom([]*Set{nil, a}).Draw(t, "prev"))
		c := drawSet(t, rapid.SampledFrom([]*Set{nil, a, b}).Draw(t, "prev"))
		if a.Supersedes(a) || !a.Supersedes(nil) {
			t.Fatal("not strict, or below nothing")
		}
		if same := bytes.Equal(a.Bytes(), b.Bytes()); same == (a.Supersedes(b) || b.Supersedes(a)) || a.Supersedes(b) && b.Supersedes(a) {
			t.Fatalf("not total: %+v, %+v", a, b)
		}
		if a.Supersedes(b) && b.Supersedes(c) && !a.Supersedes(c) {
			t.Fatalf("not transitive: %+v, %+v, %+v", a, b, c)
		}
	})
}

// What a node carries over into the set that holds must not lose against what others still
// hold under the one that does not: epochs are ordered as sets are.
func TestEpochsAreOrderedAsTheirSets(t *testing.T) {
	d := define(t, "a", 10, "1")
	for i := range 200 {
		v := uint64(7 + i%2)
		d.Capacity = Milli(11+i) * Token
		a := newSet(t, 7, nil, 0, define(t, "a", 10, "1"))
		b := newSet(t, v, nil, 0, d)
		if b.Supersedes(a) != (b.Limits[0].Epoch > a.Limits[0].Epoch) && b.Limits[0].Epoch != a.Limits[0].Epoch {
			t.Fatalf("capacity %d: supersedes %v, epochs %d and %d", d.Capacity, b.Supersedes(a), b.Limits[0].Epoch, a.Limits[0].Epoch)
		}
	}
}

// A limit keeps the epoch, and so its buckets, through whatever changes but capacity and policy.
func TestEpochChangesWithCapacityAndPolicyOnly(t *testing.T) {
	d := define(t, "a", 10, "1")
	old := newSet(t, 1, nil, 0, d)
	for what, change := range map[string]func(*Definition){
		"capacity":    func(d *Definition) { d.Capacity += Token },
		"policy":      func(d *Definition) { d.Policy = Open },
		"rate":        func(d *Definition) { d.Rate = rate(t, "2") },
		"ttl":         func(d *Definition) { d.TTL = time.Hour },
		"max_buckets": func(d *Definition) { d.MaxBuckets++ },
		"key":         func(d *Definition) { d.Key = "ip" },
		"backup":      func(d *Definition) { d.Backup = &Backup{Token, rate(t, "1")} },
	} {
		d := d
		change(&d)
		s := newSet(t, 2, old, second, d)
		later := s.Find("a").Epoch > old.Find("a").Epoch
		if want := what == "capacity" || what == "policy"; later != want || s.Find("a").Epoch < old.Find("a").Epoch {
			t.Errorf("%s: later epoch %v, want %v", what, later, want)
		}
		if s.Same(old) || s.SameLimit(old, "a") || !s.Supersedes(old) {
			t.Errorf("%s: the change does not show", what)
		}
	}
	if again := newSet(t, 2, old, second, d); !again.Same(old) || !again.SameLimit(old, "a") || again.SameLimit(old, "b") != true {
		t.Error("the same definitions are not the same")
	}
}

// A rate raised from 1/s to 100/s pays no arrears: the time before it is paid at the old rate.
func TestANewRatePaysNoArrears(t *testing.T) {
	slow := newSet(t, 1, nil, 0, define(t, "a", 1000, "1"))
	fast := newSet(t, 2, slow, 5*second, define(t, "a", 1000, "100"))
	tr := *fast.Find("a")
	tr.MaxDebt = tr.Capacity
	if len(tr.Pieces) != 2 || tr.Epoch != slow.Find("a").Epoch {
		t.Fatalf("pieces %v", tr.Pieces)
	}
	b := NewBucket(&tr, 0)
	b.Take(&tr, 0, tr.Capacity, SlotID{1, 1})
	b.Advance(&tr, 7*second)
	if b.Level(&tr) != 205*Token {
		t.Fatalf("5 s at 1/s and 2 s at 100/s give %d, want 205 tokens", b.Level(&tr))
	}
}

// A history keeps its last pieces; one that repeats its rate does not grow; and a new
// piece never begins before the last.
func TestHistoryOfRates(t *testing.T) {
	s := newSet(t, 1, nil, 0, define(t, "a", 10, "1"))
	for i := 2; i <= 30; i++ {
		from := Instant(i) * second
		if i == 30 {
			from = 3 * second // brought by a node whose clock is behind
		}
		s = newSet(t, uint64(i), s, from, define(t, "a", 10, fmt.Sprint(i)))
		s = newSet(t, uint64(i), s, from+second, define(t, "a", 10, fmt.Sprint(i)))
		pieces := s.Limits[0].Pieces
		if len(pieces) != min(i, MaxPieces) || pieces[len(pieces)-1].Rate != s.Limits[0].Rate {
			t.Fatalf("pieces %v", pieces)
		}
	}
	if last := s.Limits[0].Pieces[MaxPieces-1]; last.From != 29*second {
		t.Fatalf("the last piece begins at %d", last.From)
	}
	if _, err := DecodeSet(s.Bytes()); err != nil {
		t.Fatal(err)
	}
}

// Refill from before the oldest rate still known is paid at that rate.
func TestTheOldestRateHoldsSinceEver(t *testing.T) {
	tr := terms(1000*Token, rate(t, "100"))
	tr.Pieces = []Piece{{5 * second, rate(t, "1")}, {7 * second, rate(t, "100")}}
	if got := tr.Fill(2*second, 8*second); got != 105*Token {
		t.Fatalf("5 s at 1/s and 1 s at 100/s give %d, want 105 tokens", got)
	}
}

// A new definition carries the level over, at most both capacities, and refills no time twice.
func TestConvertKeepsTheLevel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old, next := drawTerms(t), drawTerms(t)
		next.Epoch++
		next.Policy = Policy(rapid.IntRange(0, 1).Draw(t, "policy"))
		b := drawBucket(t, old)
		at, mark := b.Mark+drawSpan(t)-drawSpan(t), drawSpan(t)
		want := b.Clone()
		want.Advance(old, at)
		b.Convert(old, next, at, mark)
		if b.Level(next) != min(want.Level(old), next.Capacity) || b.Filled != b.Level(next) || b.Touched > b.Mark {
			t.Fatalf("%+v became %+v", want, b)
		}
		if b.Mark < mark || old.Policy == next.Policy && b.Mark < want.Mark {
			t.Fatalf("mark %d, of %d and %d: refilled again", b.Mark, mark, want.Mark)
		}
	})
}

// What was taken under a draft is not forgotten by the conversion: the level is carried over,
// and so are the slots, which count beside those of the cluster's own state.
func TestADraftKeepsItsSlots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old, next := drawTerms(t), drawTerms(t)
		old.Epoch = old.draft()
		b := drawBucket(t, old)
		want := b.Clone()
		at := b.Mark + drawSpan(t)
		want.Advance(old, at)
		b.Convert(old, next, at, at)
		if b.Level(next) != min(want.Level(old), next.Capacity) || !slices.Equal(b.Slots(), want.Slots()) {
			t.Fatalf("%+v became %+v", want, b)
		}
		cluster := NewBucket(next, at)
		cluster.Take(next, at, Token, SlotID{Writer: 99, Serial: 1})
		sum := cluster.sum + b.sum
		cluster.Join(&b)
		if cluster.Epoch != next.Epoch || cluster.sum != sum {
			t.Fatalf("%+v joined: %+v", b, cluster)
		}
	})
}

func TestIdleTTL(t *testing.T) {
	d := define(t, "a", 10, "10")
	if got := d.IdleTTL(); got != 600*second {
		t.Errorf("quick to fill: %d, want ten minutes", got)
	}
	d.Rate = rate(t, "1/m")
	if got := d.IdleTTL(); got != 1200*second {
		t.Errorf("ten minutes to fill: %d, want twice that", got)
	}
	d.Capacity, d.Rate = MaxCapacity, rate(t, "1/d")
	if got := d.IdleTTL(); got <= 0 {
		t.Errorf("overflow: %d", got)
	}
	if d.TTL = time.Second; d.IdleTTL() != second {
		t.Error("the author's own is not taken")
	}
}

func TestBadSetsAreRefused(t *testing.T) {
	good := define(t, "a", 10, "1")
	for want, change := range map[string]func(*Definition){
		"1 to 64 bytes":    func(d *Definition) { d.Name = strings.Repeat("a", 65) },
		"capacity must":    func(d *Definition) { d.Capacity = MaxCapacity + 1 },
		"refill rate must": func(d *Definition) { d.Rate = Rate{} },
		"unknown policy":   func(d *Definition) { d.Policy = Policies },
		"ttl must":         func(d *Definition) { d.TTL = -1 },
		"max_buckets must": func(d *Definition) { d.MaxBuckets = 0 },
		"key is too long":  func(d *Definition) { d.Key = strings.Repeat("k", 301) },
		"backup needs":     func(d *Definition) { d.Backup = &Backup{Capacity: Token} },
		"defined twice":    func(d *Definition) { d.Name = "b" },
	} {
		bad := good
		change(&bad)
		if _, err := NewSet(1, []Definition{define(t, "b", 1, "1"), bad}, nil, Components{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	prev := newSet(t, 9, nil, 0, good)
	if _, err := DecodeSet(append(bytes.Clone(prev.Bytes()), 0)); err == nil {
		t.Error("a byte too many was accepted")
	}
	for _, err := range []error{
		failure(NewSet(1<<47, []Definition{good}, nil, Components{})),
		failure(NewSet(1, nil, nil, Components{})),
		failure(NewSet(1, []Definition{good}, nil, Components{-1})),
		failure(NewSet(8, []Definition{good}, prev, Components{})), // older than what it succeeds
	} {
		if err == nil {
			t.Error("a bad set was accepted")
		}
	}
	if prev.Find("nobody") != nil || (*Set)(nil).Find("a") != nil {
		t.Error("found what is not there")
	}
}

func failure(_ *Set, err error) error { return err }
