package kv

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// Pair is what the namespace holds under a key.
type Pair struct {
	Value    []byte          `json:"value"`
	Metadata json.RawMessage `json:"metadata,omitempty"`
	Expires  time.Time       `json:"expires,omitzero"`
}

// version is one state of a key, in force from at on.
type version struct {
	Pair
	at   time.Time
	gone bool
}

// state is the namespace with as much of its past as a reader may still be shown.
type state struct {
	mu    sync.Mutex
	keys  map[string][]version // oldest first
	lag   time.Duration
	keep  time.Duration // the largest lag so far: what of the past is kept
	stale float64
	rng   *rand.Rand
}

func newState(cfg Config) *state {
	return &state{keys: map[string][]version{}, lag: cfg.Lag, keep: cfg.Lag, stale: cfg.Stale, rng: rand.New(rand.NewPCG(cfg.Seed, 1))}
}

// Lag sets how old a state readers see from now on.
func (s *Server) Lag(lag time.Duration) {
	s.state.mu.Lock()
	defer s.state.mu.Unlock()
	s.state.lag, s.state.keep = lag, max(s.state.keep, lag)
}

// Dump is what is really stored now.
func (s *Server) Dump() map[string]Pair {
	s.state.mu.Lock()
	defer s.state.mu.Unlock()
	now := time.Now()
	all := map[string]Pair{}
	for key := range s.state.keys {
		if p, ok := s.state.at(key, now, now); ok {
			all[key] = p
		}
	}
	return all
}

// write makes v the newest state of key.
func (st *state) write(key string, v version) {
	st.mu.Lock()
	defer st.mu.Unlock()
	v.at = time.Now()
	past := st.keys[key]
	for len(past) > 1 && !past[1].at.After(v.at.Add(-st.keep)) {
		past = past[1:]
	}
	if st.keep == 0 {
		past = nil
	}
	st.keys[key] = append(slices.Clone(past), v)
}

// read is what a reader is shown of key.
func (st *state) read(key string) (Pair, bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	now := time.Now()
	return st.at(key, now, st.seen(now))
}

// seen is the time whose state a read at now is shown.
func (st *state) seen(now time.Time) time.Time {
	if st.lag > 0 && st.rng.Float64() < st.stale {
		return now.Add(-st.lag)
	}
	return now
}

func (st *state) at(key string, now, seen time.Time) (Pair, bool) {
	past := st.keys[key]
	for i := len(past) - 1; i >= 0; i-- {
		v := past[i]
		if v.at.After(seen) {
			continue
		}
		if v.gone || !v.Expires.IsZero() && !now.Before(v.Expires) {
			break
		}
		return v.Pair, true
	}
	return Pair{}, false
}

type listed struct {
	name string
	Pair
}

// page is up to limit keys with prefix that come after a name, in order; more says that there
// are others after them.
func (st *state) page(prefix, after string, limit int) (keys []listed, more bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	now := time.Now()
	seen := st.seen(now)
	names := slices.DeleteFunc(slices.Collect(maps.Keys(st.keys)), func(name string) bool {
		return !strings.HasPrefix(name, prefix) || name <= after
	})
	slices.Sort(names)
	for _, name := range names {
		p, ok := st.at(name, now, seen)
		if !ok {
			continue
		}
		if len(keys) == limit {
			return keys, true
		}
		keys = append(keys, listed{name, p})
	}
	return keys, false
}
