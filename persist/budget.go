package persist

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// What the members that share a token may call together. Cloudflare takes 1,200 calls in five
// minutes and then blocks the account for five more: 200 + 300 s · 3/s leaves a twelfth to
// whoever else uses the account.
const (
	callsPerSecond = 3
	callBurst      = 200
	// A start that remembers no calls may take itself for the only member, and be one of many.
	freshPerSecond = 1
	freshFor       = 30 * time.Second
	budgetLook     = 100 * time.Millisecond // the members may be others then
)

// budget is one member's share of the calls. It rises with time, up to the burst, and every
// call takes one from it.
//
// No restart makes a call more. A process begins with what the one before it has left, which the
// ledger remembers, or else with nothing; and it calls nobody before it knows how many share. So
// a node that starts over and over has waited for each of its calls, in this life or in an
// earlier one, and all together keep to 200 and 3 a second, whatever is restarted how often.
//
// Why not some calls for every start: 20 of them every two seconds are three budgets.
type budget struct {
	members func() int // nil: 1; 0: not known yet
	ledger  *ledger
	fresh   time.Time // until then it rises by freshPerSecond at most
	left    float64   // by an earlier process
	since   time.Time // when that was left, or this one began: it rises from then on

	mu      sync.Mutex // guards the limiter's existence, limit and burst
	limiter *rate.Limiter
}

func newBudget(members func() int, l *ledger) *budget {
	now := time.Now()
	b := &budget{members: members, ledger: l, since: now, fresh: now.Add(freshFor)}
	if left, at, ok := l.read(); ok {
		b.left, b.fresh = left, time.Time{}
		if at.Before(now) { // else the clock was set back: nothing has risen
			b.since = at
		}
	}
	return b
}

// spend takes one call, and waits for it no longer than ctx allows. When that is not long
// enough it says at once when to come again, and takes nothing.
func (b *budget) spend(ctx context.Context) (until time.Time, err error) {
	for {
		if err := ctx.Err(); err != nil {
			return time.Time{}, err
		}
		now := time.Now()
		wait := b.take(now)
		if wait == 0 {
			b.ledger.write(b.limiter.TokensAt, false)
			return time.Time{}, nil
		}
		if deadline, ok := ctx.Deadline(); ok && deadline.Before(now.Add(wait)) {
			return now.Add(wait), fmt.Errorf("the budget of calls is used up for %v", wait.Round(time.Millisecond))
		}
		t := time.NewTimer(min(wait, budgetLook))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}

// take takes one call, or says after how long there will be one, as far as that is known.
func (b *budget) take(now time.Time) (wait time.Duration) {
	n := 1
	if b.members != nil {
		n = b.members() // not under the lock: it is the caller's
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > 0 {
		b.share(n, now)
	}
	switch {
	case b.limiter == nil:
		return budgetLook
	case b.limiter.AllowN(now, 1):
		return 0
	}
	lacks := (1 - b.limiter.TokensAt(now)) / float64(b.limiter.Limit())
	return time.Duration(math.Ceil(lacks * float64(time.Second)))
}

// stop is called when no more calls are made, and the member leaves the others.
func (b *budget) stop() {
	b.mu.Lock()
	limiter := b.limiter
	b.mu.Unlock()
	if limiter != nil {
		b.ledger.write(limiter.TokensAt, true)
	}
}

// share adapts the limiter to the number of members, or makes it: it is full in the beginning,
// and was used up when what there was at b.since began to rise from nothing.
func (b *budget) share(n int, now time.Time) {
	limit, burst := rate.Limit(callsPerSecond)/rate.Limit(n), max(1, callBurst/n)
	if now.Before(b.fresh) {
		limit = min(limit, freshPerSecond)
	}
	if b.limiter == nil {
		b.limiter = rate.NewLimiter(limit, burst)
		b.limiter.AllowN(b.since.Add(-time.Duration(b.left/float64(limit)*float64(time.Second))), burst)
		return
	}
	if limit != b.limiter.Limit() {
		b.limiter.SetLimitAt(now, limit)
	}
	if burst != b.limiter.Burst() {
		b.limiter.SetBurstAt(now, burst)
	}
}
