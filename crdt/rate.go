package crdt

import (
	"errors"
	"fmt"
	"math/big"
	"math/bits"
	"regexp"
	"time"
)

// Milli is an amount of tokens in thousandths.
type Milli int64

// Token is one token.
const Token Milli = 1000

// Instant is a reading of the refill clock R: nanoseconds of authorised time. R starts
// at 0 with the cluster.
type Instant int64

// MaxRate is the highest refill rate, in tokens per second, that the arithmetic is made for.
const MaxRate = 1_000_000

// Rate is a refill rate, held as an exact fraction of millitokens per nanosecond. The
// zero value refills nothing; ParseRate makes others.
type Rate struct{ num, den uint64 }

var rateText = regexp.MustCompile(`^([0-9]{1,12})(?:\.([0-9]{1,9}))?(?:/([smhd]))?$`)

var rateUnits = map[string]int64{
	"": int64(time.Second), "s": int64(time.Second), "m": int64(time.Minute),
	"h": int64(time.Hour), "d": 24 * int64(time.Hour),
}

// ParseRate reads tokens per second, as a decimal ("10", "0.5"), or per another unit
// ("1000/h"; units s, m, h, d). The rate must be positive and at most MaxRate.
func ParseRate(text string) (Rate, error) {
	part := rateText.FindStringSubmatch(text)
	if part == nil {
		return Rate{}, fmt.Errorf("rate %q: write tokens per second (10, 0.5) or with a unit (1000/h; units s, m, h, d)", text)
	}
	num, _ := new(big.Int).SetString(part[1]+part[2], 10)
	den := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(len(part[2]))), nil)
	num.Mul(num, big.NewInt(int64(Token)))
	den.Mul(den, big.NewInt(rateUnits[part[3]]))
	r := new(big.Rat).SetFrac(num, den)
	switch {
	case r.Sign() == 0:
		return Rate{}, fmt.Errorf("rate %q: must be positive", text)
	case r.Cmp(big.NewRat(MaxRate*int64(Token), int64(time.Second))) > 0:
		return Rate{}, fmt.Errorf("rate %q: at most %d tokens per second", text, MaxRate)
	case !r.Num().IsUint64() || !r.Denom().IsUint64():
		return Rate{}, fmt.Errorf("rate %q: too many digits", text)
	}
	return Rate{r.Num().Uint64(), r.Denom().Uint64()}, nil
}

// makeRate is the decoder's way to a Rate: only what ParseRate could have made, in lowest
// terms. Every such rate is a whole number of 10⁻⁹ tokens a day.
func makeRate(num, den uint64) (Rate, error) {
	hi, lo := bits.Mul64(uint64(24*time.Hour)/uint64(Token), 1e9)
	switch {
	case num == 0 || den == 0:
		return Rate{}, errors.New("rate of zero")
	case num > den:
		return Rate{}, errors.New("rate too high")
	case gcd(num, den) != 1:
		return Rate{}, errors.New("rate not in lowest terms")
	case bits.Rem64(hi, lo, den) != 0:
		return Rate{}, errors.New("rate of too many digits")
	}
	return Rate{num, den}, nil
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// until is G: what the rate grants from reading 0 to r, rounded down. The quotient fits, as
// no rate grants more than one millitoken a nanosecond (MaxRate).
func (r Rate) until(at Instant) Milli {
	if at <= 0 || r.den == 0 {
		return 0
	}
	hi, lo := bits.Mul64(uint64(at), r.num)
	if hi == 0 {
		return Milli(lo / r.den)
	}
	q, _ := bits.Div64(hi, lo, r.den)
	return Milli(q)
}

// Time is how long m takes to refill, rounded up to the nanosecond; capped at 100 years.
func (r Rate) Time(m Milli) time.Duration {
	const most = 100 * 365 * 24 * time.Hour
	if m <= 0 {
		return 0
	}
	hi, lo := bits.Mul64(uint64(m), r.den)
	if r.num == 0 || hi >= r.num {
		return most
	}
	q, rem := bits.Div64(hi, lo, r.num)
	if rem > 0 {
		q++
	}
	return time.Duration(min(q, uint64(most)))
}

// PerSecond is the rate in tokens per second, for people and gauges.
func (r Rate) PerSecond() float64 {
	f, _ := r.ratio(int64(time.Second)).Float64()
	return f
}

// ratio is tokens per unit (in nanoseconds), exactly.
func (r Rate) ratio(unit int64) *big.Rat {
	if r.den == 0 {
		return new(big.Rat)
	}
	q := new(big.Rat).SetFrac(new(big.Int).SetUint64(r.num), new(big.Int).SetUint64(r.den))
	return q.Mul(q, big.NewRat(unit, int64(Token)))
}

// String is the shortest text that ParseRate reads back as the same rate.
func (r Rate) String() string {
	for _, unit := range []string{"", "m", "h", "d"} {
		q := r.ratio(rateUnits[unit])
		for digits := range 10 {
			text := q.FloatString(digits)
			if back, ok := new(big.Rat).SetString(text); ok && back.Cmp(q) == 0 {
				if unit != "" {
					text += "/" + unit
				}
				return text
			}
		}
	}
	return r.ratio(int64(time.Second)).FloatString(9) // unreachable for parsed rates
}
