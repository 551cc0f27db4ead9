package persist

import (
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
