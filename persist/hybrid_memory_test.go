package persist

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"
)

// memory is a store in memory with switchable faults. With a lag it is like KV: no versions, and
// each read of a key shows it as it was up to lag ago. Without one it is like Redis or bbolt.
type memory struct {
	name string
	lag  time.Duration

	mu      sync.Mutex
	history map[string][]moment
	calls   map[string]int
	written [][]string // keys of each put that was acknowledged, whole or in part
	fault   func(op string, keys int) fault
	stale   func(op string) time.Duration // how old a read is, up to lag; nil: all of it
}

// moment is what was under a key from a time on.
type moment struct {
	at    time.Time
	value Value
	there bool
}

// fault is what happens to one call. The zero fault is none.
type fault struct {
	err   *Error
	after time.Duration // err comes so late
	lost  bool          // a put is done, and its answer is lost
	late  time.Duration // a put is done so much later, and never answered
	hang  bool          // until the context ends
	fails func(key string) *Error
}

func newMemory(name string, lag time.Duration) *memory {
	return &memory{name: name, lag: lag, history: map[string][]moment{}, calls: map[string]int{}}
}

var (
	errDown = errors.New("down by order of the test")
	errLost = errors.New("answer lost by order of the test")
)

func (m *memory) down(kind Kind) *Error { return &Error{Store: m.name, Kind: kind, Err: errDown} }

func (m *memory) Name() string       { return m.name }
func (m *memory) Lag() time.Duration { return m.lag }
func (m *memory) Close() error       { return nil }

// begin counts a call and says what happens to it.
func (m *memory) begin(ctx context.Context, op string, keys int) (fault, error) {
	m.mu.Lock()
	m.calls[op]++
	var f fault
	if m.fault != nil {
		f = m.fault(op, keys)
	}
	m.mu.Unlock()
	if f.hang {
		<-ctx.Done()
		return f, &Error{Store: m.name, Op: op, Kind: Unknown, Err: ctx.Err()}
	}
	if f.err != nil {
		select {
		case <-time.After(f.after):
		case <-ctx.Done():
		}
		return f, f.err
	}
	return f, ctx.Err()
}

func (m *memory) Put(ctx context.Context, values []Value) error {
	f, err := m.begin(ctx, "put", len(values))
	if err != nil {
		return err
	}
	if f.late > 0 {
		time.AfterFunc(f.late, func() { m.apply(values) })
	} else if f.fails == nil {
		m.apply(values)
	}
	if f.late > 0 || f.lost {
		return &Error{Store: m.name, Op: "put", Kind: Unknown, Err: errLost}
	}
	partial := &Partial{Keys: map[string]*Error{}}
	var done []Value
	for _, v := range values {
		if f.fails != nil {
			if e := f.fails(v.Key); e != nil {
				partial.Keys[v.Key] = e
				continue
			}
		}
		done = append(done, v)
	}
	if f.fails != nil {
		m.apply(done)
	}
	m.note(done)
	if len(partial.Keys) > 0 {
		return partial
	}
	return nil
}

func (m *memory) note(values []Value) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []string
	for _, v := range values {
		keys = append(keys, v.Key)
	}
	m.written = append(m.written, keys)
}

func (m *memory) apply(values []Value) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range values {
		if now := m.at(v.Key, time.Now()); m.lag == 0 && now.there && now.value.Version > v.Version {
			continue
		}
		m.history[v.Key] = append(m.history[v.Key], moment{time.Now(), v, true})
	}
}

// at is what was under the key at a time.
func (m *memory) at(key string, when time.Time) (found moment) {
	for _, one := range m.history[key] {
		if !one.at.After(when) {
			found = one
		}
	}
	if ttl := found.value.TTL; ttl > 0 && when.Sub(found.at) >= ttl {
		found.there = false
	}
	return found
}

// see is what a reader is shown.
func (m *memory) see(op, key string) moment {
	age := m.lag
	if m.stale != nil {
		age = m.stale(op)
	}
	return m.at(key, time.Now().Add(-age))
}

func (m *memory) Get(ctx context.Context, keys []Entry, each func(Value) error) error {
	if _, err := m.begin(ctx, "get", len(keys)); err != nil {
		return err
	}
	for _, e := range keys {
		m.mu.Lock()
		found := m.see("get", e.Key)
		m.mu.Unlock()
		if found.there {
			if err := each(found.value); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *memory) List(ctx context.Context, prefix string) (all []Entry, err error) {
	if _, err := m.begin(ctx, "list", 0); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for key := range m.history {
		if found := m.see("list", key); found.there && strings.HasPrefix(key, prefix) {
			all = append(all, Entry{Key: key, Version: found.value.Version, Size: len(found.value.Data)})
		}
	}
	return all, nil
}

func (m *memory) Delete(ctx context.Context, keys []Entry) error {
	f, err := m.begin(ctx, "delete", len(keys))
	if err != nil {
		return err
	}
	if f.late > 0 {
		time.AfterFunc(f.late, func() { m.remove(keys) })
		return &Error{Store: m.name, Op: "delete", Kind: Unknown, Err: errLost}
	}
	m.remove(keys)
	if f.lost {
		return &Error{Store: m.name, Op: "delete", Kind: Unknown, Err: errLost}
	}
	return nil
}

func (m *memory) remove(keys []Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range keys {
		now := m.at(e.Key, time.Now())
		if !now.there || m.lag == 0 && e.Version != 0 && e.Version != now.value.Version {
			continue
		}
		m.history[e.Key] = append(m.history[e.Key], moment{at: time.Now()})
	}
}

// values is what the store truly holds.
func (m *memory) values() map[string]Value {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := map[string]Value{}
	for key := range m.history {
		if now := m.at(key, time.Now()); now.there {
			all[key] = now.value
		}
	}
	return all
}

func (m *memory) setFault(f func(op string, keys int) fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = f
}

// failing makes every call fail.
func (m *memory) failing(kind Kind) {
	m.setFault(func(string, int) fault { return fault{err: m.down(kind)} })
}

func (m *memory) count(op string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls[op]
}

func (m *memory) puts() [][]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([][]string(nil), m.written...)
}
