package persist

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openclaw/edge/testnet/kv"
)

// greedy calls as fast as it is let, until ctx ends.
func greedy(t *testing.T, ctx context.Context, c *Cloudflare) {
	for ctx.Err() == nil {
		if err := c.Put(ctx, values(1, 10)); err != nil && strings.Contains(err.Error(), "code 971") {
			t.Error(err)
		}
		if _, err := c.List(ctx, ""); err != nil {
			time.Sleep(time.Second)
		}
	}
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
					callers.Go(func() { greedy(t, ctx, c) })
				}
			}
			callers.Wait()
			log := server.Stats().Log
			for i, j := 0, 0; i < len(log); i++ {
				for ; log[i].At.Sub(log[j].At) >= 5*time.Minute; j++ {
				}
				window := log[i].At.Sub(log[j].At).Seconds()
				if n := float64(i - j + 1); n > callBurst+callsPerSecond*window+float64(members) || n > 1200 {
					t.Fatalf("%d members: %v requests within %.1f s", members, n, window)
				}
			}
			if len(log) < 11*60*callsPerSecond*8/10 {
				t.Errorf("%d members: only %d requests in 11 minutes: the test tests nothing", members, len(log))
			}
		})
	}
}

// Members that want more than they may, and restart in every way: with their ledgers or without,
// no five minutes see more than Cloudflare allows.
func TestNoRestartMakesACallMore(t *testing.T) {
	const members, joins = 4, 300 * time.Millisecond // after so long a start knows who shares
	always := func(time.Duration) bool { return true }
	for _, story := range []struct {
		name  string
		lives func(member int, at time.Duration) time.Duration // of a process begun then
		busy  func(at time.Duration) bool                      // somebody wants something
		away  time.Duration                                    // all but the first leave after each life, for so long; 0: killed
	}{
		{"one in a crash loop", func(m int, _ time.Duration) time.Duration {
			if m == 0 {
				return 1500 * time.Millisecond
			}
			return time.Hour
		}, always, 0},
		{"one before it knows anybody", func(m int, _ time.Duration) time.Duration {
			if m == 0 {
				return joins / 2
			}
			return time.Hour
		}, always, 0},
		{"one after the other", func(m int, at time.Duration) time.Duration {
			turn := time.Duration(m) * 5 * time.Second
			return 20*time.Second - (at-turn)%(20*time.Second)
		}, always, 0},
		{"all in a crash loop", func(int, time.Duration) time.Duration { return 4 * time.Second }, always, 0},
		{"all at once, rested", func(_ int, at time.Duration) time.Duration {
			return 8*time.Minute - at%(8*time.Minute)
		}, func(at time.Duration) bool {
			return at%(8*time.Minute) > 5*time.Minute || at%(8*time.Minute) < 2*time.Minute
		}, 0},
		{"three leave, and come back", func(m int, _ time.Duration) time.Duration {
			if m == 0 {
				return time.Hour
			}
			return 40 * time.Second
		}, always, 40 * time.Second},
	} {
		for _, remembers := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, ledgers=%v", story.name, remembers), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					server := kv.New(kv.Config{Token: secret, Quota: 1200})
					server.Fault(kv.Fault{Kind: kv.Failure, Rate: 0.2})
					began, dir := time.Now(), t.TempDir()
					const lasts = 17 * time.Minute
					var up atomic.Int64
					up.Store(members)
					life := func(m int, first bool) {
						born := time.Now()
						ctx, kill := context.WithTimeout(t.Context(), min(story.lives(m, born.Sub(began)), lasts-born.Sub(began)))
						defer kill()
						l := &ledger{}
						if remembers {
							l.file = filepath.Join(dir, fmt.Sprint(m))
						}
						c := clientOf(t, server.RoundTripper(), nil)
						c.budget = newBudget(func() int {
							if time.Since(born) < joins {
								return 0
							}
							return int(up.Load())
						}, l)
						if first {
							rested(c.budget)
						}
						for ctx.Err() == nil {
							if !story.busy(time.Since(began)) {
								time.Sleep(time.Second)
								continue
							}
							spell, over := context.WithTimeout(ctx, 10*time.Second)
							greedy(t, spell, c)
							over()
						}
						if story.away > 0 {
							c.Close()
						}
					}
					var all sync.WaitGroup
					for m := range members {
						all.Go(func() {
							for first := true; time.Since(began) < lasts; first = false {
								life(m, first)
								if m == 0 || story.away == 0 {
									time.Sleep(50 * time.Millisecond)
									continue
								}
								up.Add(-1)
								time.Sleep(story.away)
								up.Add(1)
							}
						})
					}
					all.Wait()
					calls := server.Stats()
					n := calls.Fullest(5 * time.Minute)
					t.Logf("%d calls in %v, %d in the fullest five minutes", calls.Total(), lasts, n)
					if n > 1200 {
						t.Errorf("%d calls in five minutes", n)
					}
					if n < 600 {
						t.Errorf("%d calls at most: the test tests nothing", n)
					}
				})
			})
		}
	}
}

// A start without a memory has nothing, and waits until it knows who shares. It earns its share
// then, of the time before as well; but as much as a lone one only when it is surely alone.
func TestAStartWaitsForItsCalls(t *testing.T) {
	spent := func(b *budget, ctx context.Context) (n int) {
		for {
			if _, err := b.spend(ctx); err != nil {
				return n
			}
			n++
		}
	}
	for _, c := range []struct {
		members, known int // seconds until they are
		for10, for60   int // calls in so many seconds
	}{
		{1, 0, 10, 30 + 30*3},
		{3, 0, 10, 60},
		{30, 0, 1, 6},
		{4, 12, 0, 45},
		{1, 70, 0, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			b := newBudget(func() int {
				if time.Since(began) < time.Duration(c.known)*time.Second {
					return 0
				}
				return c.members
			}, &ledger{})
			within := func(d time.Duration) int {
				ctx, cancel := context.WithDeadline(t.Context(), began.Add(d))
				defer cancel()
				n := 0
				for ctx.Err() == nil {
					n += spent(b, ctx)
					time.Sleep(10 * time.Millisecond)
				}
				return n
			}
			ten := within(10*time.Second + time.Millisecond)
			sixty := ten + within(time.Minute+time.Millisecond)
			if ten != c.for10 || sixty < c.for60-1 || sixty > c.for60 {
				t.Errorf("%d members, known after %d s: %d calls in 10 s, %d in a minute; want %d and %d", c.members, c.known, ten, sixty, c.for10, c.for60)
			}
		})
	}
}

// What a process has left the next one has, and what time has added; what it has not is gone.
func TestALedgerRemembers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "calls")
	spend := func(t *testing.T, b *budget) (n int) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
		defer cancel()
		for {
			if _, err := b.spend(ctx); err != nil {
				return n
			}
			n++
		}
	}
	start := func() *budget { return newBudget(func() int { return 2 }, &ledger{file: file}) }
	synctest.Test(t, func(t *testing.T) {
		b := rested(start())
		for range 60 {
			if _, err := b.spend(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if n := spend(t, start()); n < 39 || n > 40 {
			t.Errorf("%d calls after 60 of 100", n)
		}
		if n := spend(t, start()); n != 0 {
			t.Errorf("%d calls after all of them", n)
		}
		time.Sleep(20 * time.Second)
		if n := spend(t, start()); n < 29 || n > 30 {
			t.Errorf("%d calls 20 s later", n)
		}
		time.Sleep(time.Hour)
		last := start()
		if n := spend(t, last); n != 100 {
			t.Errorf("%d calls an hour later", n)
		}
		time.Sleep(20 * time.Second)
		last.stop() // the other has its part from now on
		time.Sleep(time.Hour)
		if n := spend(t, start()); n < 29 || n > 30 {
			t.Errorf("%d calls an hour after it had left with 30", n)
		}
	})
	synctest.Test(t, func(t *testing.T) { // the clock was set back by an hour
		if n := spend(t, start()); n != 0 {
			t.Errorf("%d calls before they were made", n)
		}
	})
	for _, text := range []string{"", "{}", "null", `{"calls_left":1e9,"at_ms":1}`, `{"calls_left":-1,"at_ms":1}`, `{"calls_left":100,"at_ms":0}`, "calls"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			if n := spend(t, start()); n != 0 {
				t.Errorf("%d calls with %q for a ledger", n, text)
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
		b := rested(newBudget(func() int { return members }, &ledger{}))
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
		members = 0 // not known any more: as before
		if n := spent(time.Minute); n < 59 || n > 60 {
			t.Errorf("still one of three: %d in a minute", n)
		}
		members = 1
		if n := spent(time.Minute); n < 178 || n > 181 {
			t.Errorf("alone again: %d in a minute", n)
		}
	})
}
