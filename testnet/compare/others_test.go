package compare

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/sethvargo/go-limiter/memorystore"
	"github.com/throttled/throttled/v2"
	"github.com/throttled/throttled/v2/store/memstore"
	"golang.org/x/time/rate"
)

// every is the time between two tokens.
func (r rules) every() time.Duration {
	if r.perSecond == 0 {
		return time.Hour
	}
	return time.Second / time.Duration(r.perSecond)
}

// xRate is golang.org/x/time/rate. It has no keys: this is the map behind a
// read-write lock in which it is commonly kept.
func xRate(_ testing.TB, r rules, keys []string) take {
	var mu sync.RWMutex
	limiters := make(map[string]*rate.Limiter)
	return func(i int) bool {
		key := keys[i]
		mu.RLock()
		l := limiters[key]
		mu.RUnlock()
		if l == nil {
			mu.Lock()
			if l = limiters[key]; l == nil {
				l = rate.NewLimiter(rate.Every(r.every()), r.capacity)
				limiters[key] = l
			}
			mu.Unlock()
		}
		return l.Allow()
	}
}

// goLimiter is sethvargo/go-limiter in memory. It refills the whole bucket once an interval.
func goLimiter(tb testing.TB, r rules, keys []string) take {
	store, err := memorystore.New(&memorystore.Config{
		Tokens:   uint64(r.capacity),
		Interval: r.every() * time.Duration(r.capacity),
	})
	if err != nil {
		tb.Fatal(err)
	}
	ctx := context.Background()
	tb.Cleanup(func() { store.Close(ctx) })
	return func(i int) bool {
		_, _, _, ok, err := store.Take(ctx, keys[i])
		return ok && err == nil
	}
}

// throttledGCRA is throttled/throttled with its memory store, unbounded, which
// is faster than its LRU.
func throttledGCRA(tb testing.TB, r rules, keys []string) take {
	store, err := memstore.NewCtx(0)
	if err != nil {
		tb.Fatal(err)
	}
	limiter, err := throttled.NewGCRARateLimiterCtx(store, throttled.RateQuota{
		MaxRate:  throttled.PerDuration(1, r.every()),
		MaxBurst: r.capacity - 1,
	})
	if err != nil {
		tb.Fatal(err)
	}
	ctx := context.Background()
	return func(i int) bool {
		limited, _, err := limiter.RateLimitCtx(ctx, keys[i], 1)
		return !limited && err == nil
	}
}
