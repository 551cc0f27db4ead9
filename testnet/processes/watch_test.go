package processes

import (
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/world"
)

const ms = time.Millisecond

func told(at, own time.Duration) reading {
	r := reading{at: at}
	r.Own[crdt.Quorum] = own
	return r
}

// Two nodes add evenly and tell of it at different times: the samples say what both had added at
// one moment.
func TestASampleIsOfOneMoment(t *testing.T) {
	var c clocks
	if _, ok := c.sample(map[string]reading{"a": told(100*ms, 50*ms), "b": told(130*ms, 65*ms)}); !ok {
		t.Fatal("no first sample")
	}
	for i := 1; i <= 5; i++ {
		now := time.Duration(i) * 250 * ms
		late := now + time.Duration(i)*7*ms // b is ever later
		s, ok := c.sample(map[string]reading{"a": told(now, now/2), "b": told(late, late/2)})
		if !ok || s.At != now {
			t.Fatalf("a sample at %v: %v, %v", now, s.At, ok)
		}
		if d := s.Own[crdt.Quorum] - now; d < -ms || d > ms {
			t.Errorf("together %v at %v", s.Own[crdt.Quorum], s.At)
		}
	}
	if s, ok := c.sample(map[string]reading{"a": told(1250*ms, 625*ms), "b": told(1500*ms, 750*ms)}); ok {
		t.Errorf("a said nothing new, and there is a sample at %v", s.At)
	}
}

// What a node had added stays when it is gone, and what it has forgotten at a restart is not
// taken back.
func TestWhatWasAddedStays(t *testing.T) {
	var c clocks
	c.sample(map[string]reading{"a": told(100*ms, 50*ms), "b": told(100*ms, 50*ms)})
	c.sample(map[string]reading{"a": told(300*ms, 150*ms), "b": told(300*ms, 150*ms)})
	s, _ := c.sample(map[string]reading{"a": told(500*ms, 250*ms)})
	if s.Own[crdt.Quorum] != 400*ms || s.By["b"].Up || s.By["b"].Own[crdt.Quorum] != 150*ms {
		t.Errorf("b is gone: %+v", s)
	}
	s, _ = c.sample(map[string]reading{"a": told(700*ms, 350*ms), "b": told(700*ms, 20*ms)})
	if s.Own[crdt.Quorum] != 500*ms {
		t.Errorf("b forgot: %+v", s)
	}
}

func TestMetricsAreRead(t *testing.T) {
	s := world.State{Limits: make(map[string]world.Limit), Takes: make(map[string]world.Counts)}
	readMetrics(&s, `# TYPE openclaw_token_bucket_refill_rate gauge
openclaw_token_bucket_refill_rate{bucket="g"} 33.5
openclaw_token_bucket_refill_rate{bucket="h"} 1
# TYPE openclaw_token_bucket_config_refill_rate gauge
openclaw_token_bucket_config_refill_rate{bucket="g"} 100
# TYPE openclaw_token_bucket_current_tokens gauge
openclaw_token_bucket_current_tokens{bucket="g"} 7
# TYPE openclaw_token_bucket_takes_total counter
openclaw_token_bucket_takes_total{bucket="g",result="allowed"} 10
openclaw_token_bucket_takes_total{bucket="g",result="overflow"} 2
openclaw_token_bucket_takes_total{bucket="g",result="rejected"} 3
openclaw_token_bucket_takes_total{bucket="g",result="backup"} 4
`)
	if s.Limits["g"] != (world.Limit{Configured: 100, Refill: 33.5, Tokens: 7}) || s.Limits["h"].Refill != 1 {
		t.Errorf("limits: %+v", s.Limits)
	}
	if s.Takes["g"] != (world.Counts{Allowed: 12, Rejected: 3, Backup: 4}) {
		t.Errorf("takes: %+v", s.Takes)
	}
}

// Tokens are shown whole: one apart is no difference, two are.
func TestLevelsOneTokenApartAreEqual(t *testing.T) {
	for _, c := range []struct{ shown, want [2]int64 }{
		{[2]int64{5000, 6000}, [2]int64{5000, 5000}},
		{[2]int64{5000, 7000}, [2]int64{5000, 7000}},
		{[2]int64{-300, -300}, [2]int64{-300, -300}},
	} {
		hs := []judge.Holding{{Level: c.shown[0]}, {Level: c.shown[1]}}
		level(hs)
		if got := [2]int64{hs[0].Level, hs[1].Level}; got != c.want {
			t.Errorf("%v become %v, want %v", c.shown, got, c.want)
		}
	}
	level(nil)
}
