package persist

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openclaw/edge/testnet/kv"
)

// A minute's outage costs a handful of requests, however many calls are made in it, and the
// store is back within 20 s of the server.
func TestNoStormDuringAMinutesOutage(t *testing.T) {
	for _, kind := range []kv.Kind{kv.Down, kv.Reset, kv.Hang, kv.Failure, kv.HTML, kv.Lost} {
		t.Run(string(kind), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, server := standIn(t, kv.Config{})
				server.Fault(kv.Fault{Kind: kind, For: kv.Duration(time.Minute)})
				began := time.Now()
				var callers sync.WaitGroup
				for range 4 {
					callers.Go(func() {
						for time.Since(began) < time.Minute {
							err := c.Put(t.Context(), values(1, 10))
							if err == nil && time.Since(began) < time.Minute {
								t.Error("a put succeeded in the outage")
							}
							time.Sleep(50 * time.Millisecond)
						}
					})
				}
				callers.Wait()
				if n := server.Stats().Calls["put"]; n > 14 {
					t.Errorf("%d requests in a minute without a server", n)
				}
				for c.Put(t.Context(), values(1, 10)) != nil {
					time.Sleep(50 * time.Millisecond)
				}
				if down := time.Since(began) - time.Minute; down > breakerOpen+patience {
					t.Errorf("back %v after the server", down)
				}
			})
		})
	}
}

// While a half-open breaker tries, nobody else does; an answer closes it for all.
func TestOneTryAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, server := standIn(t, kv.Config{})
		server.Fault(kv.Fault{Kind: kv.Failure})
		var e *Error
		for range 2 {
			errors.As(c.Put(t.Context(), values(1, 10)), &e)
		}
		if n := server.Stats().Calls["put"]; n != breakerFailures || e.Until.IsZero() {
			t.Fatalf("%d requests until the breaker opens, then %v until %v", n, e, e.Until)
		}
		if err := c.Put(t.Context(), values(1, 10)); !strings.Contains(err.Error(), "circuit breaker") || !strings.Contains(err.Error(), "HTTP 500") {
			t.Errorf("an open breaker says %q", err)
		}
		server.Heal()
		server.Fault(kv.Fault{Kind: kv.Slow, Delay: kv.Duration(3 * time.Second), Calls: 1})
		time.Sleep(time.Until(e.Until))
		var callers sync.WaitGroup
		errs := make([]error, 5)
		for i := range errs {
			callers.Go(func() { errs[i] = c.Put(t.Context(), values(1, 10)) })
		}
		callers.Wait()
		failed := slices.DeleteFunc(errs, func(err error) bool { return err == nil })
		if n := server.Stats().Calls["put"]; n != breakerFailures+1 || len(failed) != 4 {
			t.Errorf("%d requests, %d of 5 calls failed: %v", n, len(failed), failed)
		}
		if err := c.Put(t.Context(), values(1, 10)); err != nil {
			t.Errorf("after the try: %v", err)
		}
	})
}

// Whatever is asked, and whatever fails, no five minutes see more requests than the burst and
// the rate allow, in all members together.
func TestTheBudgetHolds(t *testing.T) {
	for _, members := range []int{1, 16} {
		synctest.Test(t, func(t *testing.T) {
			server := kv.New(kv.Config{Token: secret, Quota: 1200})
			server.Fault(kv.Fault{Kind: kv.Failure, Rate: 0.3}) // repetitions count too
			ctx, cancel := context.WithTimeout(t.Context(), 11*time.Minute)
			defer cancel()
			var callers sync.WaitGroup
			for range members {
				c := clientOf(t, server.RoundTripper(), func() int { return members })
				for range 3 {
					callers.Go(func() {
						for ctx.Err() == nil {
							if err := c.Put(ctx, values(1, 10)); err != nil && strings.Contains(err.Error(), "code 971") {
								t.Errorf("%d members: %v", members, err)
							}
							if _, err := c.List(ctx, ""); err != nil {
								time.Sleep(time.Second)
							}
						}
					})
				}
			}
			callers.Wait()
			log := server.Stats().Log
			rate, burst := float64(callsPerSecond), float64(members*max(leastBurst, callBurst/members))
			for i, j := 0, 0; i < len(log); i++ {
				for ; log[i].At.Sub(log[j].At) >= 5*time.Minute; j++ {
				}
				window := log[i].At.Sub(log[j].At).Seconds()
				if n := float64(i - j + 1); n > burst+rate*window+float64(members) || n > 1200 {
					t.Fatalf("%d members: %v requests within %.1f s", members, n, window)
				}
			}
			if len(log) < 11*60*callsPerSecond*8/10 {
				t.Errorf("%d members: only %d requests in 11 minutes: the test tests nothing", members, len(log))
			}
		})
	}
}

// A call that the budget has no room for within its deadline says so at once, and when to come.
func TestABudgetUsedUpSaysWhenToCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, server := standIn(t, kv.Config{})
		for range callBurst {
			if _, err := c.List(t.Context(), ""); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began := time.Now()
		var e *Error
		_, err := c.List(ctx, "")
		if !errors.As(err, &e) || e.Kind != Throttled || time.Since(began) != 0 || server.Stats().Total() != callBurst {
			t.Fatalf("got %v after %v", err, time.Since(began))
		}
		time.Sleep(time.Until(e.Until))
		if _, err := c.List(ctx, ""); err == nil {
			t.Error("a context that is over still calls")
		}
		soon, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := c.List(soon, ""); err != nil {
			t.Errorf("at the time named: %v", err)
		}
		if _, err := c.List(t.Context(), ""); err != nil || time.Since(began) < 600*time.Millisecond {
			t.Errorf("without a deadline a call waits: %v after %v", err, time.Since(began))
		}
	})
}

// The share of a member follows the number of members, at once and both ways.
func TestTheBudgetIsSharedByMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		members := 1
		b := newBudget(func() int { return members })
		spent := func(d time.Duration) (n int) {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			for {
				if _, err := b.spend(ctx); err != nil {
					return n
				}
				n++
			}
		}
		if n := spent(1); n != 200 {
			t.Errorf("alone: a burst of %d", n)
		}
		members = 3
		if n := spent(time.Minute); n < 59 || n > 61 {
			t.Errorf("one of three: %d in a minute", n)
		}
		time.Sleep(time.Hour)
		if n := spent(1); n != 66 {
			t.Errorf("one of three: a burst of %d", n)
		}
		members = 0 // nobody known yet
		if n := spent(time.Minute); n < 178 || n > 181 {
			t.Errorf("alone again: %d in a minute", n)
		}
	})
}
