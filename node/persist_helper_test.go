package node

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/openclaw/edge/persist"
)

// memStore is a store in memory that can hang and fail.
type memStore struct {
	name string
	lag  time.Duration

	mu     sync.Mutex
	values map[string]persist.Value
	hung   chan struct{}
	err    error
	puts   int
}

func newMemStore(name string) *memStore {
	return &memStore{name: name, values: map[string]persist.Value{}}
}

func (m *memStore) hang(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if on {
		m.hung = make(chan struct{})
	} else {
		close(m.hung)
		m.hung = nil
	}
}

func (m *memStore) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

// enter waits while the store hangs.
func (m *memStore) enter(ctx context.Context, op string) error {
	m.mu.Lock()
	hung := m.hung
	m.mu.Unlock()
	if hung != nil {
		select {
		case <-hung:
		case <-ctx.Done():
			return &persist.Error{Store: m.name, Op: op, Kind: persist.Unknown, Err: ctx.Err()}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return &persist.Error{Store: m.name, Op: op, Kind: persist.KindOf(m.err), Err: m.err}
	}
	return nil
}

func (m *memStore) Name() string       { return m.name }
func (m *memStore) Lag() time.Duration { return m.lag }
func (m *memStore) Close() error       { return nil }

func (m *memStore) Put(ctx context.Context, values []persist.Value) error {
	if err := m.enter(ctx, "put"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.puts++
	for _, v := range values {
		if m.values[v.Key].Version <= v.Version {
			v.Data = append([]byte(nil), v.Data...)
			m.values[v.Key] = v
		}
	}
	return nil
}

func (m *memStore) Get(ctx context.Context, keys []persist.Entry, each func(persist.Value) error) error {
	if err := m.enter(ctx, "get"); err != nil {
		return err
	}
	for _, k := range keys {
		m.mu.Lock()
		v, ok := m.values[k.Key]
		m.mu.Unlock()
		if ok {
			if err := each(v); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *memStore) List(ctx context.Context, prefix string) (all []persist.Entry, err error) {
	if err := m.enter(ctx, "list"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for key, v := range m.values {
		if strings.HasPrefix(key, prefix) {
			all = append(all, persist.Entry{Key: key, Version: v.Version, Size: len(v.Data)})
		}
	}
	return all, nil
}

func (m *memStore) Delete(ctx context.Context, keys []persist.Entry) error {
	if err := m.enter(ctx, "delete"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range keys {
		if k.Version == 0 || m.values[k.Key].Version == k.Version {
			delete(m.values, k.Key)
		}
	}
	return nil
}

func textLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }
