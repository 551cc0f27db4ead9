package persist

import (
	"context"
	"fmt"
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
	leastBurst     = 5 // of one member: below it a listing and its reads do not fit a restore
)

// budget is one member's share of the calls. The full burst is there at the start, for the
// restore.
type budget struct {
	members func() int // nil: 1
	limiter *rate.Limiter

	mu     sync.Mutex // guards shared
	shared int        // members that the limiter is set for
}

func newBudget(members func() int) *budget {
	return &budget{members: members, limiter: rate.NewLimiter(callsPerSecond, callBurst), shared: 1}
}

// spend takes one call, and waits for it no longer than ctx allows. When that is not long
// enough it says at once when to come again, and takes nothing.
func (b *budget) spend(ctx context.Context) (until time.Time, err error) {
	if err := ctx.Err(); err != nil {
		return time.Time{}, err
	}
	b.share()
	now := time.Now()
	r := b.limiter.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait == 0 {
		return time.Time{}, nil
	}
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(now.Add(wait)) {
		r.CancelAt(now)
		return now.Add(wait), fmt.Errorf("the budget of %.2g calls a second is used up for %v", float64(b.limiter.Limit()), wait.Round(time.Millisecond))
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return time.Time{}, nil
	case <-ctx.Done():
		r.Cancel()
		return time.Time{}, ctx.Err()
	}
}

// share adapts the limiter to the number of members.
func (b *budget) share() {
	if b.members == nil {
		return
	}
	n := max(1, b.members()) // not under the lock: it is the caller's
	b.mu.Lock()
	defer b.mu.Unlock()
	if n != b.shared {
		b.shared = n
		b.limiter.SetLimit(rate.Limit(callsPerSecond) / rate.Limit(n))
		b.limiter.SetBurst(max(leastBurst, callBurst/n))
	}
}
