package crdt

import (
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var rateTexts = rapid.StringMatching(`[0-9]{1,12}(\.[0-9]{1,9})?(/[smhd])?`)

// exact is what a rate's text means, in tokens per second.
func exact(text string) *big.Rat {
	number, unit, _ := strings.Cut(text, "/")
	q, _ := new(big.Rat).SetString(number)
	per := map[string]int64{"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
	return q.Quo(q, big.NewRat(per, 1))
}

func TestRateIsExactAndReadsItsOwnText(t *testing.T) {
	read := 0
	rapid.Check(t, func(t *rapid.T) {
		text := rateTexts.Draw(t, "text")
		want := exact(text)
		r, err := ParseRate(text)
		if err != nil {
			if want.Sign() > 0 && want.Cmp(big.NewRat(MaxRate, 1)) <= 0 && !strings.Contains(err.Error(), "digits") {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		read++
		if got := r.ratio(int64(time.Second)); got.Cmp(want) != 0 {
			t.Fatalf("%q is %s tokens a second, want %s", text, got, want)
		}
		if back, err := ParseRate(r.String()); err != nil || back != r {
			t.Fatalf("%q: %q reads back as %v, %v", text, r, back, err)
		}
		if back, err := makeRate(r.num, r.den); err != nil || back != r {
			t.Fatalf("%q does not travel: %v", text, err)
		}
		if f, _ := want.Float64(); r.PerSecond() != f {
			t.Fatalf("%q: %v a second, want %v", text, r.PerSecond(), f)
		}
	})
	if read == 0 {
		t.Fatal("no rate was read")
	}
}

// Two texts of one rate are one value, and the text shown is the short one.
func TestRateText(t *testing.T) {
	for _, c := range [][]string{
		{"10", "10/s", "600/m", "36000/h", "864000/d", "10.000", "010"},
		{"0.5", "30/m", "0.500/s"},
		{"1000/h", "1000.0/h"},
		{"1/d", "1.000/d"},
		{"1/m", "60/h"},
		{"1000000", "60000000/m"},
	} {
		for _, text := range c {
			if r := rate(t, text); r.String() != c[0] || r != rate(t, c[0]) {
				t.Errorf("%q shows as %q, want %q", text, r, c[0])
			}
		}
	}
}

func TestRateErrorsSayWhatToWrite(t *testing.T) {
	for text, want := range map[string]string{
		"": "write tokens per second", "ten": "write tokens per second", "-1": "write tokens per second",
		"1e3": "write tokens per second", "10/w": "units s, m, h, d", "1/ s": "write tokens", ".5": "write tokens",
		"0": "must be positive", "0.000/h": "must be positive", "1000001": "at most 1000000",
		"0.000000001/d": "too many digits", "10\n": "write tokens",
	} {
		if r, err := ParseRate(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v; want %q", text, r, err, want)
		}
	}
}

func TestDecodedRatesAreThoseThatCanBeWritten(t *testing.T) {
	for _, c := range [][2]uint64{{0, 1}, {1, 0}, {2, 4}, {2, 1}, {1, 7}, {1, 1<<64 - 1}, {1<<64 - 1, 1<<64 - 1}} {
		if r, err := makeRate(c[0], c[1]); err == nil {
			t.Errorf("%d/%d was accepted as %s", c[0], c[1], r)
		}
	}
}

// Time is the shortest that refills the amount: then it is there, a nanosecond earlier it is not.
func TestTimeIsTheShortest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := drawRate(t)
		m := Milli(rapid.Int64Range(1, 1e9).Draw(t, "milli"))
		d := Instant(r.Time(m))
		if d == Instant(100*365*24*time.Hour) {
			t.Skip("capped")
		}
		if r.until(d) < m || r.until(d-1) >= m {
			t.Fatalf("%s: %d after %d ns, %d before", r, r.until(d), d, r.until(d-1))
		}
	})
	if d := rate(t, "1/d").Time(MaxCapacity); d != 100*365*24*time.Hour {
		t.Errorf("a billion tokens, one a day: %v, want the cap of 100 years", d)
	}
	if d := (Rate{}).Time(1); d != 100*365*24*time.Hour {
		t.Errorf("no rate: %v", d)
	}
}
