package persist

import (
	"errors"
	"sync"
	"time"
)

// gate is what keeps calls from being made: a pause that an answer asked for, or the breaker.
// A pause wins: it names its reason.
type gate struct {
	mu      sync.Mutex // guards the rest
	paused  *Error     // nil: never; over when its Until has passed
	strikes int        // pauses in a row that end only when a person does something
	open    time.Time  // the breaker's next try; zero: it is closed
	last    error      // of the request that failed last
}

// Answers that a person must do something about are asked for again after a minute, the next
// after two, at last every five: soon enough for who has just mended it, and rare enough for a
// year of nobody caring.
const (
	strikePause    = time.Minute
	maxStrikePause = 5 * time.Minute
)

// closed is why no call may be made now, nil if it may.
func (g *gate) closed(op string, now time.Time) *Error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.paused != nil && now.Before(g.paused.Until) {
		e := *g.paused
		e.Op = op
		return &e
	}
	if now.Before(g.open) {
		return g.refusal(op, g.open)
	}
	return nil
}

// busy is the refusal while the one try of a half-open breaker is under way.
func (g *gate) busy(op string, now time.Time) *Error {
	g.mu.Lock()
	defer g.mu.Unlock()
	until := now.Add(time.Second)
	if g.open.After(until) {
		until = g.open
	}
	return g.refusal(op, until)
}

func (g *gate) refusal(op string, until time.Time) *Error {
	last := g.last
	if last == nil {
		last = errors.New("requests that failed")
	}
	return &Error{Store: "kv", Op: op, Kind: Failed, Until: until, Err: &notCalled{last}}
}

// notCalled says that the server was left alone.
type notCalled struct{ last error }

func (e *notCalled) Error() string {
	return "not called, the circuit breaker is open after: " + e.last.Error()
}

// learn takes what a request brought, nil: success. It fills in Until where waiting is up to
// the gate.
func (g *gate) learn(e *Error, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e == nil {
		g.strikes = 0
		return
	}
	switch e.Kind {
	case Denied, Misconfigured:
		if g.paused != nil && now.Before(g.paused.Until) {
			e.Until = g.paused.Until // several calls were under way: one strike
			return
		}
		g.strikes++
		e.Until = now.Add(min(maxStrikePause, time.Duration(g.strikes)*strikePause))
		g.paused = e
	case Throttled:
		if g.paused == nil || e.Until.After(g.paused.Until) {
			g.paused = e
		}
	case Failed, Unknown:
		g.last = e.Err
		if e.Until.After(now.Add(keyPause)) { // the server named a time: 503 with Retry-After
			g.paused = e
		}
	}
}

// turned is called by the breaker, under its lock. Its expiry is not over at that very instant:
// hence the millisecond.
func (g *gate) turned(open bool, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = time.Time{}
	if open {
		g.open = now.Add(breakerOpen + time.Millisecond)
	}
}
