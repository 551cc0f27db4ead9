package persist

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"
)

// toy is a state whose join is plain to see: numbers under names, each the largest heard of.
type toy struct {
	mu      sync.Mutex
	numbers []map[string]int
	changes []uint64
	log     []inflation
	counter uint64
	pieces  int // a segment is packed into; 0: one
	turn    int // entries wander between pieces from pack to pack
	owns    func(segment int) bool
	joins   int
	refuse  error
}

// inflation is a change and its number.
type inflation struct {
	segment int
	name    string
	number  int
	change  uint64
}

func newToy(segments int) *toy {
	y := &toy{numbers: make([]map[string]int, segments), changes: make([]uint64, segments)}
	for i := range y.numbers {
		y.numbers[i] = map[string]int{}
	}
	return y
}

func (y *toy) raise(segment int, name string, number int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.raiseLocked(segment, name, number)
}

func (y *toy) raiseLocked(segment int, name string, number int) {
	if y.numbers[segment][name] >= number {
		return
	}
	y.numbers[segment][name] = number
	y.counter++
	y.changes[segment] = y.counter
	y.log = append(y.log, inflation{segment, name, number, y.counter})
}

func (y *toy) Changes(dst []uint64) []uint64 {
	y.mu.Lock()
	defer y.mu.Unlock()
	return append(dst, y.changes...)
}

func (y *toy) Owns(segment int) bool { return y.owns == nil || y.owns(segment) }
func (y *toy) Clock() []byte         { return []byte("clock") }

func (y *toy) Pack(ctx context.Context, segments []int, emit func(int, []byte) error) error {
	y.turn++
	for _, i := range segments {
		y.mu.Lock()
		names := slices.Sorted(maps.Keys(y.numbers[i]))
		pieces := make([]map[string]int, min(max(y.pieces, 1), len(names)))
		for n, name := range names {
			p := &pieces[(n+y.turn)%len(pieces)]
			if *p == nil {
				*p = map[string]int{}
			}
			(*p)[name] = y.numbers[i][name]
		}
		y.mu.Unlock()
		for _, p := range pieces {
			data, _ := json.Marshal(p)
			if err := emit(i, data); err != nil {
				return err
			}
		}
	}
	return nil
}

func (y *toy) Join(s *Segment) error {
	if y.refuse != nil {
		return y.refuse
	}
	var found map[string]int
	if len(s.Payload) > 0 {
		if err := json.Unmarshal(s.Payload, &found); err != nil {
			return err
		}
	}
	var segment int
	fmt.Sscanf(s.Name, "%d", &segment)
	y.mu.Lock()
	defer y.mu.Unlock()
	y.joins++
	for name, number := range found {
		y.raiseLocked(segment, name, number)
	}
	return nil
}

func (y *toy) get(segment int, name string) int {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.numbers[segment][name]
}

// content is numbers by segment and name.
type content map[string]int

func (c content) raise(segment int, name string, number int) {
	id := fmt.Sprintf("%d/%s", segment, name)
	c[id] = max(c[id], number)
}

// lacks is an error that names what of want is not in c.
func (c content) lacks(want content) error {
	for _, id := range slices.Sorted(maps.Keys(want)) {
		if c[id] < want[id] {
			return fmt.Errorf("%s is %d, %d was acknowledged", id, c[id], want[id])
		}
	}
	return nil
}

func (y *toy) content() content {
	y.mu.Lock()
	defer y.mu.Unlock()
	c := content{}
	for i, numbers := range y.numbers {
		for name, number := range numbers {
			c.raise(i, name, number)
		}
	}
	return c
}

// contentOf is the join of all that the stores truly hold.
func contentOf(stores ...*memory) content {
	y := newToy(toySegments)
	for _, m := range stores {
		for _, v := range m.values() {
			if s, err := DecodeSegment(v.Data); err == nil {
				y.Join(s)
			}
		}
	}
	return y.content()
}

// acknowledged adds to c what primary and fallback acknowledged to h.
func acknowledged(h *Hybrid, y *toy, c content) {
	y.mu.Lock()
	defer y.mu.Unlock()
	for _, e := range y.log {
		if s := &h.segments[e.segment]; e.change <= max(s.cover.change, s.held[primary].change) {
			c.raise(e.segment, e.name, e.number)
		}
	}
}

const toySegments = 4

func toySpecs(ttl time.Duration) (specs []SegmentSpec) {
	for i := range toySegments {
		specs = append(specs, SegmentSpec{Name: fmt.Sprintf("%02d", i), Prefix: "rating_bucket", TTL: ttl})
	}
	return specs
}

// toyConfig is a node's, shared stores and all segments its own.
func toyConfig(y *toy, kv, redis, disk *memory) Config {
	cfg := Config{
		Cluster: "toys", Node: "a", Incarnation: 1, Segments: toySpecs(0), Shared: true,
		Every: 10 * time.Second, State: y, Primary: kv,
	}
	if redis != nil {
		cfg.Fallback = redis
	}
	if disk != nil {
		cfg.Disk = disk
	}
	return cfg
}

func mustNew(t testing.TB, cfg Config) *Hybrid {
	t.Helper()
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// run has Run at work until the test or the returned function ends it.
func run(t testing.TB, h *Hybrid) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() { defer close(over); h.Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-over })
	t.Cleanup(stop)
	return stop
}
