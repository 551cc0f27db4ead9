package persist

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openclaw/edge/testnet/kv"
)

// faults is what a server may do, what the store makes of it, and what that costs.
var faults = []struct {
	name  string
	fault kv.Fault
	kind  Kind
	calls int           // HTTP requests of one Put
	until time.Duration // Error.Until, from the answer on; 0: none, negative: midnight UTC
	says  string        // in the error
}{
	{"daily quota", kv.Fault{Kind: kv.Failure, Status: 429, Code: 10048}, Throttled, 1, -1, "free plan"},
	{"daily quota, with a retry-after", kv.Fault{Kind: kv.Failure, Status: 429, Code: 10048, RetryAfter: "5"}, Throttled, 1, -1, "free plan"},
	{"throttled 971", kv.Fault{Kind: kv.Failure, Status: 429, Code: 971, RetryAfter: "45"}, Throttled, 1, 45 * time.Second, "too many calls"},
	{"throttled 971, for how long unsaid", kv.Fault{Kind: kv.Failure, Status: 429, Code: 971}, Throttled, 1, time.Minute, "too many calls"},
	{"throttled 10429", kv.Fault{Kind: kv.Failure, Status: 429, Code: 10429, RetryAfter: "300"}, Throttled, 1, 5 * time.Minute, "too many calls"},
	{"throttled for a year", kv.Fault{Kind: kv.Failure, Status: 429, Code: 10429, RetryAfter: "31536000"}, Throttled, 1, time.Hour, ""},
	{"throttled till a date", kv.Fault{Kind: kv.Failure, Status: 429, Code: 10429, RetryAfter: "Sat, 01 Jan 2000 00:02:00 GMT"}, Throttled, 1, 2 * time.Minute, ""},
	{"throttled till yesterday", kv.Fault{Kind: kv.Failure, Status: 429, Code: 10429, RetryAfter: "Fri, 31 Dec 1999 00:00:00 GMT"}, Throttled, 1, time.Second, ""},
	{"throttled by a page", kv.Fault{Kind: kv.HTML, Status: 429}, Throttled, 1, time.Minute, ""},
	{"throttled with success 200", kv.Fault{Kind: kv.False, Code: 971}, Throttled, 1, time.Minute, ""},
	{"500", kv.Fault{Kind: kv.Failure, Status: 500}, Failed, 3, 0, "HTTP 500, code 10001"},
	{"503 with a time", kv.Fault{Kind: kv.Failure, Status: 503, RetryAfter: "30"}, Failed, 1, 30 * time.Second, ""},
	{"502 page", kv.Fault{Kind: kv.HTML}, Failed, 3, 0, "no answer of the API"},
	{"200 page", kv.Fault{Kind: kv.HTML, Status: 200}, Failed, 3, 0, "no answer of the API"},
	{"200 without success", kv.Fault{Kind: kv.False}, Failed, 3, 0, "code 10001"},
	{"504", kv.Fault{Kind: kv.HTML, Status: 504}, Unknown, 1, 0, ""},
	{"524", kv.Fault{Kind: kv.HTML, Status: 524}, Unknown, 1, 0, ""},
	{"401", kv.Fault{Kind: kv.Failure, Status: 401, Code: 10000}, Denied, 1, time.Minute, "token_env"},
	{"403", kv.Fault{Kind: kv.Failure, Status: 403, Code: 9109}, Denied, 1, time.Minute, "Workers KV Storage"},
	{"403 page", kv.Fault{Kind: kv.HTML, Status: 403}, Denied, 1, time.Minute, "token_env"},
	{"400 6003", kv.Fault{Kind: kv.Failure, Status: 400, Code: 6003}, Denied, 1, time.Minute, "token_env"},
	{"404 10013", kv.Fault{Kind: kv.Failure, Status: 404, Code: 10013}, Misconfigured, 1, time.Minute, "namespace_id"},
	{"404 7003", kv.Fault{Kind: kv.Failure, Status: 404, Code: 7003}, Misconfigured, 1, time.Minute, "account_id"},
	{"404 page", kv.Fault{Kind: kv.HTML, Status: 404}, Misconfigured, 1, time.Minute, "base_url"},
	{"redirect", kv.Fault{Kind: kv.HTML, Status: 302}, Misconfigured, 1, time.Minute, "base_url"},
	{"418", kv.Fault{Kind: kv.Failure, Status: 418}, Failed, 1, 0, "HTTP 418"},
	{"hangs", kv.Fault{Kind: kv.Hang}, Unknown, 1, 0, "no answer within 10s"},
	{"resets", kv.Fault{Kind: kv.Reset}, Unknown, 3, 0, "the connection broke"},
	{"applies and loses the answer", kv.Fault{Kind: kv.Lost}, Unknown, 3, 0, "the connection broke"},
	{"applies late", kv.Fault{Kind: kv.Late, Delay: kv.Duration(30 * time.Second)}, Unknown, 1, 0, "no answer"},
	{"down", kv.Fault{Kind: kv.Down}, Failed, 3, 0, "no connection"},
}

// Every fault has its meaning, whatever the call; writes that may have been done are Unknown.
func TestEveryFaultHasItsMeaning(t *testing.T) {
	for op, call := range map[string]func(*Cloudflare) error{
		"put":    func(c *Cloudflare) error { return c.Put(context.Background(), values(3, 10)) },
		"get":    func(c *Cloudflare) error { return c.Get(context.Background(), entries(values(3, 10)), nil) },
		"list":   func(c *Cloudflare) error { _, err := c.List(context.Background(), ""); return err },
		"delete": func(c *Cloudflare) error { return c.Delete(context.Background(), entries(values(3, 10))) },
	} {
		for _, f := range faults {
			t.Run(op+" "+f.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c, server := standIn(t, kv.Config{})
					began := time.Now().UTC()
					server.Fault(f.fault)
					err := call(c)
					var e *Error
					if !errors.As(err, &e) || e.Kind != f.kind || e.Op != op || e.Store != "kv" {
						t.Fatalf("%v (%v), want %v", err, KindOf(err), f.kind)
					}
					if n := server.Stats().Calls[op]; n != f.calls {
						t.Errorf("%d requests, want %d", n, f.calls)
					}
					if !strings.Contains(err.Error(), f.says) || !strings.HasPrefix(err.Error(), "persist: kv "+op+": ") {
						t.Errorf("%q, want %q in it", err, f.says)
					}
					want := began.Add(f.until)
					if f.until < 0 {
						want = began.Truncate(24 * time.Hour).Add(24 * time.Hour)
					}
					if f.until == 0 && !e.Until.IsZero() || f.until != 0 && !e.Until.Equal(want) {
						t.Errorf("until %v, want %v", e.Until, want)
					}
					paused(t, server, e, func() error { return call(c) })
				})
			})
		}
	}
}

// paused checks that an error with an Until costs nothing before it, and that the store is used
// again at that very time.
func paused(t *testing.T, server *kv.Server, e *Error, call func() error) {
	t.Helper()
	if e.Until.IsZero() {
		return
	}
	before := server.Stats().Total()
	time.Sleep(time.Until(e.Until) - 1)
	if err := call(); KindOf(err) != e.Kind || server.Stats().Total() != before {
		t.Errorf("%s: paused, got %v for %d requests", e.Op, err, server.Stats().Total()-before)
	}
	server.Heal()
	time.Sleep(time.Nanosecond)
	if err := call(); err != nil {
		t.Errorf("%s: after the pause: %v", e.Op, err)
	}
}

// One key that was written too often is that key's affair: the call is not repeated, nobody
// else waits, and the breaker does not count it.
func TestTheRateOfAKeyIsItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, server := standIn(t, kv.Config{})
		for range breakerFailures + 1 {
			server.Fault(kv.Fault{Kind: kv.Failure, Status: 429, Code: 10022, Calls: 1})
			err := c.Put(t.Context(), values(1, 10))
			var some *Partial
			if !errors.As(err, &some) {
				t.Fatalf("got %v", err)
			}
			if e := some.Keys[values(1, 10)[0].Key]; e.Kind != Failed || !e.Until.Equal(time.Now().Add(time.Second)) {
				t.Fatalf("got %v until %v", e, e.Until)
			}
			if err := c.Put(t.Context(), values(2, 10)); err != nil {
				t.Fatalf("the next put: %v", err)
			}
		}
		if n := server.Stats().Calls["put"]; n != 2*(breakerFailures+1) {
			t.Errorf("%d requests", n)
		}
	})
}

// A bulk that fails for some keys is Partial for exactly those, and stored for the others.
func TestAPartialBulkNamesItsKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, server := standIn(t, kv.Config{Seed: 3})
		server.Fault(kv.Fault{Kind: kv.Partial, Share: 0.3})
		all := values(64, 10)
		err := c.Put(t.Context(), all)
		var some *Partial
		if !errors.As(err, &some) || len(some.Keys) == 0 || len(some.Keys) == len(all) {
			t.Fatalf("got %v", err)
		}
		stored := server.Dump()
		for _, v := range all {
			_, ok := stored[v.Key]
			if e := some.Keys[v.Key]; ok == (e != nil) || e != nil && e.Kind != Failed {
				t.Errorf("%s: stored %v, error %v", v.Key, ok, e)
			}
		}
		if n := server.Stats().Calls["put"]; n != 1 {
			t.Errorf("%d requests", n)
		}
	})
}

// A reset may hide a success. The answer to the repetition is a failure of its own, but what the
// first try did stays unknown.
func TestDoubtStays(t *testing.T) {
	for _, second := range []kv.Fault{{Kind: kv.Failure}, {Kind: kv.Failure, Status: 429, Code: 971}, {Kind: kv.Failure, Status: 401}, {Kind: kv.Down}} {
		synctest.Test(t, func(t *testing.T) {
			c, server := standIn(t, kv.Config{})
			server.Fault(kv.Fault{Kind: kv.Lost, Calls: 1})
			server.Fault(second)
			if err := c.Put(t.Context(), values(1, 10)); KindOf(err) != Unknown {
				t.Errorf("lost, then %v: %v is %v", second, err, KindOf(err))
			}
			if len(server.Dump()) != 1 {
				t.Error("nothing was applied: the test tests nothing")
			}
		})
	}
}

// A put that is repeated after a lost answer stores the same again, and is then a success.
func TestALostAnswerIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, server := standIn(t, kv.Config{})
		for _, kind := range []kv.Kind{kv.Lost, kv.Reset, kv.Failure, kv.HTML, kv.Down} {
			server.Fault(kv.Fault{Kind: kind, Calls: 2})
			began := time.Now()
			if err := c.Put(t.Context(), values(1, 10)); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
			if took := time.Since(began); took < 300*time.Millisecond || took > 2*time.Second {
				t.Errorf("%s: two repetitions took %v", kind, took)
			}
		}
	})
}

// When some groups of a call were stored and the next is not, all that were not are named.
func TestWhatWasStoredStaysAcknowledged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := kv.New(kv.Config{Token: secret})
		puts := 0
		c := clientOf(t, roundTrip(func(r *http.Request) (*http.Response, error) {
			if puts++; puts > 1 {
				server.Fault(kv.Fault{Kind: kv.Hang})
			}
			return server.RoundTripper().RoundTrip(r)
		}), nil)
		all := values(30_001, 1)
		err := c.Put(t.Context(), all)
		var some *Partial
		if !errors.As(err, &some) || len(some.Keys) != 20_001 || len(server.Dump()) != 10_000 {
			t.Fatalf("got %v", err)
		}
		if sent, unsent := some.Keys[all[10_000].Key], some.Keys[all[20_000].Key]; sent.Kind != Unknown || unsent.Kind != Failed {
			t.Errorf("sent %v, unsent %v", sent, unsent)
		}
	})
}

// The caller's impatience is not the server's fault: it does not open the breaker, however
// often. A deadline that was fair is.
func TestImpatienceIsNoFailure(t *testing.T) {
	for patience, counts := range map[time.Duration]bool{time.Second: false, 5 * time.Second: true} {
		synctest.Test(t, func(t *testing.T) {
			c, server := standIn(t, kv.Config{})
			server.Fault(kv.Fault{Kind: kv.Slow, Delay: kv.Duration(8 * time.Second)})
			for range 2 * breakerFailures {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				if err := c.Put(ctx, values(1, 10)); counts == (err == nil) && KindOf(err) != Unknown {
					t.Fatal(err)
				}
				cancel()
			}
			want := map[bool]int{false: 2 * breakerFailures, true: breakerFailures}[counts]
			if n := server.Stats().Calls["put"]; n != want {
				t.Errorf("patience %v: %d requests, want %d", patience, n, want)
			}
			if err := c.Put(t.Context(), values(1, 10)); (err != nil) != counts {
				t.Errorf("patience %v: then %v", patience, err)
			}
		})
	}
}

// An error of the reader's own function ends the reading and is not mistaken for the store's.
func TestTheReadersErrorIsItsOwn(t *testing.T) {
	c, _ := standIn(t, kv.Config{})
	if err := c.Put(t.Context(), values(3, 10)); err != nil {
		t.Fatal(err)
	}
	for _, own := range []error{errors.New("full"), &Error{Store: "redis", Op: "put", Kind: Rejected, Err: errors.New("full")}} {
		calls := 0
		err := c.Get(t.Context(), entries(values(3, 10)), func(Value) error { calls++; return own })
		if err != own || calls != 1 {
			t.Errorf("got %v after %d calls, want %v", err, calls, own)
		}
	}
}

// Each answer that needs a person is asked for again a little later than the one before; the
// first success forgets that.
func TestSlowProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, server := standIn(t, kv.Config{})
		server.Fault(kv.Fault{Kind: kv.Failure, Status: 401, Code: 10000})
		var pauses []time.Duration
		probe := func() {
			var e *Error
			if errors.As(c.Put(t.Context(), values(1, 10)), &e) {
				pauses = append(pauses, time.Until(e.Until))
				time.Sleep(time.Until(e.Until))
			}
		}
		for range 7 {
			probe()
		}
		server.Heal()
		probe()
		server.Fault(kv.Fault{Kind: kv.Failure, Status: 404, Code: 10013})
		probe()
		if got, want := fmt.Sprint(pauses), "[1m0s 2m0s 3m0s 4m0s 5m0s 5m0s 5m0s 1m0s]"; got != want {
			t.Errorf("pauses %v, want %v", got, want)
		}
	})
}

// A redirected put would become a get, whose answer is a success of something else.
func TestARedirectIsNotFollowed(t *testing.T) {
	asked := 0
	c := clientOf(t, roundTrip(func(r *http.Request) (*http.Response, error) {
		asked++
		if r.Method == http.MethodPut {
			res := respond(r, http.StatusFound, "")
			res.Header.Set("Location", "https://kv.example/elsewhere")
			return res, nil
		}
		return respond(r, http.StatusOK, `{"success":true}`), nil
	}), nil)
	if err := c.Put(t.Context(), values(1, 10)); KindOf(err) != Misconfigured || asked != 1 {
		t.Errorf("got %v for %d requests", err, asked)
	}
}
