package crdt

import (
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// drawTerms is a limit of any size, with a history of one to three rates.
func drawTerms(t *rapid.T) *Terms {
	cap := Milli(rapid.Int64Range(1, 1<<rapid.IntRange(1, 20).Draw(t, "bits")).Draw(t, "tokens")) * Token
	tr := terms(cap, drawRate(t))
	for range rapid.IntRange(0, 2).Draw(t, "rates") {
		last := tr.Pieces[len(tr.Pieces)-1]
		tr.Rate = drawRate(t)
		tr.Pieces = append(tr.Pieces, Piece{last.From + drawSpan(t), tr.Rate})
	}
	tr.MaxDebt = Milli(rapid.Int64Range(0, 3*int64(cap)).Draw(t, "max debt"))
	return tr
}

func drawRate(t *rapid.T) Rate {
	text := rapid.StringMatching(`[1-9][0-9]{0,4}(\.[0-9]{1,3})?(/[smhd])?`).Draw(t, "rate")
	r, err := ParseRate(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// drawSpan is from a nanosecond to some hours.
func drawSpan(t *rapid.T) Instant {
	return Instant(rapid.Int64Range(1, 1<<rapid.IntRange(1, 44).Draw(t, "log span")).Draw(t, "ns"))
}

// drawBucket is a bucket of any level, debt beyond the limit of forgiveness included.
func drawBucket(t *rapid.T, tr *Terms) Bucket {
	b := NewBucket(tr, drawSpan(t))
	b.Raise(SlotID{1, 1}, 0, rapid.Int64Range(0, 6*int64(tr.Capacity)).Draw(t, "taken"))
	return b
}

func TestTwoAdvancesEqualOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr := drawTerms(t)
		one := drawBucket(t, tr)
		two := one.Clone()
		mid := one.Mark + drawSpan(t)
		end := mid + drawSpan(t)
		two.Advance(tr, mid)
		two.Advance(tr, end)
		one.Advance(tr, end)
		if !equal(&one, &two) {
			t.Fatalf("at once %+v, by halves %+v", one, two)
		}
	})
}

func TestManySmallAdvancesEqualOneLarge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr := drawTerms(t)
		one := drawBucket(t, tr)
		many := one.Clone()
		step := drawSpan(t)
		for range 1000 {
			many.Advance(tr, many.Mark+step)
		}
		one.Advance(tr, many.Mark)
		if !equal(&one, &many) {
			t.Fatalf("at once %+v, in 1000 steps %+v", one, many)
		}
	})
}

// The past changes nothing, whatever is asked of a bucket.
func TestAnEarlierReadingRefillsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr := drawTerms(t)
		b := drawBucket(t, tr)
		was := b.Clone()
		b.Advance(tr, b.Mark-drawSpan(t))
		b.Advance(tr, b.Mark)
		if !equal(&b, &was) {
			t.Fatalf("%+v became %+v", was, b)
		}
		b.Take(tr, b.Mark, Token, SlotID{1, 1})
		was = b.Clone()
		b.Take(tr, b.Mark-drawSpan(t), Token, SlotID{1, 1})
		if b.Mark != was.Mark || b.Touched != was.Touched {
			t.Fatalf("a late take moved readings: %+v became %+v", was, b)
		}
	})
}

// Full and Absent say at once what advancing would show.
func TestFullAgreesWithAdvance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr := drawTerms(t)
		tr.Idle = drawSpan(t)
		b := drawBucket(t, tr)
		if rapid.Bool().Draw(t, "near the brim") { // to the nanosecond around the moment of being full
			b = NewBucket(tr, drawSpan(t))
			b.Raise(SlotID{1, 1}, 0, rapid.Int64Range(1, int64(tr.Capacity)).Draw(t, "taken"))
		}
		r := b.Mark + Instant(tr.Rate.Time(tr.Capacity-max(b.Level(tr), -tr.MaxDebt))) + Instant(rapid.Int64Range(-2, 2).Draw(t, "off"))
		full, absent := b.Full(tr, r), b.Absent(tr, r)
		b.Advance(tr, r)
		if want := b.Level(tr) == tr.Capacity; full != want || absent != (want && r-b.Touched >= tr.Idle) {
			t.Fatalf("full %v, absent %v, but %+v at %d", full, absent, b, r)
		}
	})
}

// Forgiveness raises a hopeless debt to the most that is owed, and says so.
func TestForgivenessStopsAtMaxDebt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr := drawTerms(t)
		b := drawBucket(t, tr)
		level, fill := b.Level(tr), tr.Fill(b.Mark, b.Mark+second)
		forgave := b.Advance(tr, b.Mark+second)
		if forgave != (level < -tr.MaxDebt) || b.Level(tr) != min(max(level, -tr.MaxDebt)+fill, tr.Capacity) {
			t.Fatalf("level %d, at most %d owed, became %d; forgave: %v", level, tr.MaxDebt, b.Level(tr), forgave)
		}
	})
}

// ideal is a deliberately dumb token bucket: one ledger, exact fractions, no bound.
type ideal struct {
	capacity, perNano, level *big.Rat
	at                       Instant
}

func newIdeal(capacity Milli, r Rate) *ideal {
	per := new(big.Rat).SetFrac(new(big.Int).SetUint64(r.num), new(big.Int).SetUint64(r.den))
	c := new(big.Rat).SetInt64(int64(capacity))
	return &ideal{capacity: c, perNano: per, level: new(big.Rat).Set(c)}
}

func (i *ideal) advance(r Instant) {
	if r <= i.at {
		return
	}
	i.level.Add(i.level, new(big.Rat).Mul(i.perNano, new(big.Rat).SetInt64(int64(r-i.at))))
	i.at = r
	if i.level.Cmp(i.capacity) > 0 {
		i.level.Set(i.capacity)
	}
}

// force takes without asking: debts are allowed.
func (i *ideal) force(r Instant, n Milli) {
	i.advance(r)
	i.level.Sub(i.level, new(big.Rat).SetInt64(int64(n)))
}

// floor is the level in whole millitokens.
func (i *ideal) floor() Milli {
	q := new(big.Int).Div(i.level.Num(), i.level.Denom())
	return Milli(q.Int64())
}

// One writer, one node: the bucket is the ideal one to the unit, but for the fraction of a
// millitoken that the clamp at the capacity cuts off the grid of G.
func TestOneNodeEqualsTheIdealBucket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr := terms(Milli(rapid.Int64Range(1, 1000).Draw(t, "capacity"))*Token, drawRate(t))
		b, want := NewBucket(tr, 0), newIdeal(tr.Capacity, tr.Rate)
		r := Instant(0)
		for range rapid.IntRange(1, 50).Draw(t, "takes") {
			r += drawSpan(t)
			n := Milli(rapid.Int64Range(1, int64(tr.Capacity)).Draw(t, "n"))
			if b.Take(tr, r, n, SlotID{1, 1}) {
				want.force(r, n)
			} else if want.advance(r); want.floor() > n {
				t.Fatalf("refused %d at %d with %s in the ideal bucket", n, r, want.level)
			}
			if d := b.LevelAt(tr, r) - want.floor(); d < -1 || d > 1 {
				t.Fatalf("level %d, ideal %s", b.LevelAt(tr, r), want.level)
			}
		}
	})
}

func TestARefusedTakeChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr := drawTerms(t)
		b := drawBucket(t, tr)
		was, r := b.Clone(), b.Mark+drawSpan(t)
		n := b.LevelAt(tr, r) + 1
		if b.Take(tr, r, n, SlotID{1, 1}) || !equal(&b, &was) {
			t.Fatalf("%d of %d: %+v became %+v", n, n-1, was, b)
		}
		if b.Advance(tr, r); b.Level(tr) != n-1 {
			t.Fatalf("level %d, foretold %d", b.Level(tr), n-1)
		}
	})
}

// At saturation the total is the capacity and what the rate grants, exact to the unit,
// however coarse or late the takes are.
func TestLongRunRateIsExactToTheUnit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr := terms(Milli(rapid.Int64Range(1, 1000).Draw(t, "capacity"))*Token, drawRate(t))
		b := NewBucket(tr, 0)
		r := Instant(0)
		most := max(1, int64(tr.Rate.Time(tr.Capacity/2))) // so that it is never full in between
		admitted := Milli(0)
		for range 300 {
			for n := b.Level(tr); n > 0; n /= 2 {
				if b.Take(tr, r, n, SlotID{1, 1}) {
					admitted += n
				}
			}
			r += Instant(rapid.Int64Range(1, most).Draw(t, "pause"))
			b.Advance(tr, r)
		}
		granted := new(big.Int).Mul(big.NewInt(int64(r)), new(big.Int).SetUint64(tr.Rate.num))
		granted.Div(granted, new(big.Int).SetUint64(tr.Rate.den))
		if want := tr.Capacity + Milli(granted.Int64()); admitted+b.Level(tr) != want {
			t.Fatalf("admitted %d and %d left, want %d", admitted, b.Level(tr), want)
		}
	})
}

// The horizon: the largest and the smallest limits, for a hundred years.
func TestExactForAHundredYears(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, c := range []struct {
		name     string
		capacity Milli
		rate     string
		step     time.Duration
	}{
		{"a million a second", MaxCapacity, "1000000", 10 * time.Minute},
		{"odd: a product of 128 bits", MaxCapacity, "999983.000000007", 10 * time.Minute},
		{"a million a second, small", Token, "1000000", year / 10},
		{"one a day", Token, "1/d", 12 * time.Hour},
		{"one a day, large", MaxCapacity, "1/d", year / 5},
		{"a hundred-millionth a day", MaxCapacity, "0.00000001/d", year},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := terms(c.capacity, rate(t, c.rate))
			b, want := NewBucket(tr, 0), newIdeal(c.capacity, tr.Rate)
			taken := Milli(0)
			steps := int64(100 * year / c.step)
			stride := max(1, steps/5000) // the ideal bucket is slow; the first and last steps count
			for i := int64(1); i <= steps; i += stride {
				r := Instant(i * int64(c.step))
				want.advance(r)
				b.Advance(tr, r)
				if b.Level(tr) != want.floor() {
					t.Fatalf("year %d: level %d, ideal %s", i*int64(c.step)/int64(year), b.Level(tr), want.level)
				}
				n := b.Level(tr) / 2
				b.Take(tr, r, n, SlotID{1, 1})
				want.force(r, n)
				taken += n
			}
			if !b.Plausible(tr, b.Mark) || !roundTrips(t, &b) {
				t.Fatalf("%+v does not travel", b)
			}
			t.Logf("taken %d millitokens", taken)
		})
	}
}
