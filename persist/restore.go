package persist

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	settled     = 120 * time.Second // after so long a store has shown all that was there at the start
	settledMore = 30 * time.Second  // or after its lag and this much
	rereadEvery = 15 * time.Second
	rereadLater = 2 * time.Minute
	never       = 10000 * time.Hour
	toldEvery   = time.Second // restore's progress in the log
)

// Restore joins what all stores hold into the state, reading them at once: never the first
// that answers. It returns when all have been read or ctx has ended; what was joined by then
// counts, and the error names each store that was not read fully. Run reads on: such stores
// until they have answered, lagging ones until they have shown their newest. Call it once,
// before Run.
func (h *Hybrid) Restore(ctx context.Context) (Restored, error) {
	if err := h.take(ctx); err != nil {
		return Restored{}, fmt.Errorf("persist: restore: %w", err)
	}
	defer h.release()
	h.started = time.Now()
	h.told = h.started
	var reading sync.WaitGroup
	var failed [roles]error
	for r := range roles {
		if h.targets[r] != nil {
			reading.Go(func() { failed[r] = h.readStore(ctx, r, func() {}) })
		}
	}
	reading.Wait()
	h.nextReread = time.Now().Add(rereadEvery)
	err := errors.Join(failed[:]...)
	h.show(func(s *Stats) { s.Restored.Done = err == nil })
	found := h.Stats().Restored
	h.log.Info("persist: restored", "segments", found.Segments, "of", len(h.segments), "values", found.Values,
		"bytes", found.Bytes, "newest", found.Newest, "set_aside", found.SetAside, "took", time.Since(h.started).Round(time.Millisecond))
	if err != nil {
		h.log.Warn("persist: restore is not complete; reading on", "error", err)
	}
	return found, err
}

// reread reads again the stores that may not have shown everything yet.
func (h *Hybrid) reread(ctx context.Context) {
	left, all := false, true
	for r := range roles {
		t := h.targets[r]
		if t == nil || t.read {
			continue
		}
		var err error
		if !time.Now().Before(t.until) {
			err = h.readStore(ctx, r, func() { h.keepUp(ctx, r) })
		}
		left, all = left || !t.read, all && err == nil
	}
	h.show(func(s *Stats) { s.Restored.Done = s.Restored.Done || all })
	switch now := time.Now(); {
	case !left:
		h.nextReread = now.Add(never)
	case now.Sub(h.started) < settled+settledMore:
		h.nextReread = now.Add(rereadEvery)
	default: // a store that has not answered since
		h.nextReread = now.Add(about(rereadLater))
	}
}

// keepUp makes the round that is due, and lets in who waits for a Snapshot, in the midst of a reading:
// at KV's budget that may last minutes. Not of the disk: that is read at once.
func (h *Hybrid) keepUp(ctx context.Context, r role) {
	if r == disk || ctx.Err() != nil {
		return
	}
	h.release()
	<-h.turn // Snapshot's own context ends its round
	if now := time.Now(); !now.Before(h.nextRound) {
		h.nextRound = now.Add(about(h.cfg.Every))
		h.round(ctx, false)
	}
}

// readStore joins all that the store holds of other writers that are not heard, and that was
// not joined before. It calls between after each call of the store, and each value.
func (h *Hybrid) readStore(ctx context.Context, r role, between func()) error {
	t, begin := h.targets[r], time.Now()
	listed, err := h.list(ctx, r)
	if err == nil {
		var first, others []Entry
		for _, e := range listed {
			i, k, impossible := h.parse(e.Key)
			switch {
			case impossible == nil && (h.own(k) || h.cfg.Heard(k.Node, k.Incarnation)):
			case h.seen(r, e):
			case impossible == nil && h.cfg.Segments[i].First:
				first = append(first, e)
			default:
				others = append(others, e)
			}
		}
		// Nodes that start together with few calls each do not all read the same: they tell each other.
		rand.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
		h.show(func(s *Stats) { s.Restored.Stores[h.place(r)].Listed += len(first) + len(others) })
		between()
		if err = h.fetch(ctx, r, first, between); err == nil {
			err = h.fetch(ctx, r, others, between)
		}
	}
	h.show(func(s *Stats) { s.Restored.Stores[h.place(r)].Err = err })
	lag := t.store.Lag()
	if err == nil && (lag == 0 || begin.Sub(h.started) >= max(settled, lag+settledMore)) {
		t.read = true
	}
	return err
}

// list is the keys of all segments.
func (h *Hybrid) list(ctx context.Context, r role) (all []Entry, err error) {
	asked := map[string]bool{}
	for _, spec := range h.cfg.Segments {
		if asked[spec.Prefix] {
			continue
		}
		asked[spec.Prefix] = true
		err = h.call(ctx, r, "list", func(ctx context.Context, s Store) error {
			some, err := s.List(ctx, spec.Prefix+":")
			all = append(all, some...)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// fetch joins the values of keys, and calls between after each.
func (h *Hybrid) fetch(ctx context.Context, r role, keys []Entry, between func()) error {
	if len(keys) == 0 {
		return nil
	}
	return h.call(ctx, r, "get", func(ctx context.Context, s Store) error {
		return s.Get(ctx, keys, func(v Value) error {
			h.join(r, v)
			between()
			return ctx.Err()
		})
	})
}

// join takes one value into the state, or sets it aside.
func (h *Hybrid) join(r role, v Value) {
	h.joining.Lock()
	defer h.joining.Unlock()
	t := h.targets[r]
	f := t.found[v.Key]
	if f == nil {
		f = &found{}
		if len(t.found) < maxFound {
			t.found[v.Key] = f
		}
	}
	i, s, reason, err := h.open(v)
	if err == nil {
		if err = h.cfg.State.Join(s); err != nil {
			reason = "refused"
		}
	}
	if f.aside = err != nil; f.aside {
		f.version = v.Version
		h.log.Warn("persist: a segment is set aside; it stays in the store", "store", t.store.Name(), "key", v.Key,
			"bytes", len(v.Data), "reason", reason, "error", err)
		h.cfg.SetAside(v.Key, v.Data, err)
		h.show(func(st *Stats) {
			st.SetAside[reason]++
			st.Restored.SetAside++
		})
		return
	}
	f.version, f.at = s.Sequence, h.sequence
	h.tellJoined(r, s, len(v.Data), !h.segments[i].joined)
	h.segments[i].joined = true
}

// open decodes a value and checks that it is what its key says.
func (h *Hybrid) open(v Value) (i int, s *Segment, reason string, err error) {
	i, k, err := h.parse(v.Key)
	if err != nil {
		return 0, nil, "key", err
	}
	switch s, err = DecodeSegment(v.Data); {
	case err != nil:
		return 0, nil, reasonOf(err), err
	case s.Cluster != h.cfg.Cluster:
		return 0, nil, "cluster", fmt.Errorf("persist: segment of cluster %q, this is %q: give each cluster its own namespace or database", s.Cluster, h.cfg.Cluster)
	case SegmentKey(k.Prefix, s) != v.Key:
		return 0, nil, "key", fmt.Errorf("persist: what stands under %q was written for %q", v.Key, SegmentKey(k.Prefix, s))
	}
	return i, s, "", nil
}

func reasonOf(err error) string {
	if errors.Is(err, ErrNewer) {
		return "newer"
	}
	return "damaged"
}

// tellJoined counts a join and logs the progress.
func (h *Hybrid) tellJoined(r role, s *Segment, bytes int, first bool) {
	var found Restored
	h.show(func(st *Stats) {
		st.Stores[h.place(r)].Joined++
		f := &st.Restored
		f.Stores[h.place(r)].Joined++
		f.Values++
		if first {
			f.Segments++
		}
		f.Bytes += int64(bytes)
		if s.Time.After(f.Newest) {
			f.Newest, f.Clock = s.Time, append([]byte(nil), s.Clock...)
		}
		found = *f
	})
	if now := time.Now(); now.Sub(h.told) >= toldEvery && now.Sub(h.started) < settled {
		h.told = now
		h.log.Info(fmt.Sprintf("persist: restore: %d of %d segments, %d values, %d bytes", found.Segments, len(h.segments), found.Values, found.Bytes))
	}
}

// parse reads a key and finds its segment.
func (h *Hybrid) parse(key string) (int, Key, error) {
	k, err := ParseKey(key)
	if err != nil {
		return 0, k, err
	}
	i, ok := h.index[[2]string{k.Prefix, k.Segment}]
	if !ok {
		return 0, k, fmt.Errorf("persist: key %q: this version has no segment %s of %s", key, k.Segment, k.Prefix)
	}
	return i, k, nil
}

func (h *Hybrid) own(k Key) bool {
	return k.Node == h.cfg.Node && k.Incarnation == h.cfg.Incarnation
}

// seen says whether the version listed, or a later one, was joined or set aside. A version that
// the listing does not tell is seen by reading it.
func (h *Hybrid) seen(r role, e Entry) bool {
	h.joining.Lock()
	defer h.joining.Unlock()
	f := h.targets[r].found[e.Key]
	return f != nil && f.version >= e.Version && (e.Version != 0 || f.aside)
}
