package persist

import (
	"context"
	"errors"
	"time"
)

// write packs the jobs and brings them to the stores: disk, then primary, and to fallback what
// primary did not take. While primary fails it is the other way round: fallback at once, then
// one segment as a probe, and the rest when that was taken.
func (h *Hybrid) write(ctx context.Context, jobs []*job, asked bool) error {
	err := h.pack(ctx, jobs)
	if errors.Is(err, errBulk) {
		half := len(jobs) / 2
		if err := h.write(ctx, jobs[:half], asked); err != nil {
			return err
		}
		return h.write(ctx, jobs[half:], asked)
	}
	if err != nil {
		return err
	}
	h.bring(ctx, disk, jobs)
	if p := h.targets[primary]; p.failing != nil && !asked {
		h.bring(ctx, fallback, jobs)
		h.probe(ctx, jobs)
	} else {
		h.bring(ctx, primary, jobs)
		h.bring(ctx, fallback, jobs)
	}
	for _, j := range jobs {
		h.settle(j)
	}
	return ctx.Err()
}

// probe tries a failing primary with one segment. Only when it takes the rest as well it works
// again: one that fails under the load alone would else be loaded every round.
func (h *Hybrid) probe(ctx context.Context, jobs []*job) {
	for i, j := range jobs {
		if !j.wanted[primary] || len(j.pieces) == 0 {
			continue
		}
		called, err := h.put(ctx, primary, jobs[i:i+1])
		if called && err == nil && j.took(primary) {
			_, err = h.put(ctx, primary, jobs)
		}
		if called && ctx.Err() == nil {
			h.fared(primary, err)
		}
		return
	}
}

// took says whether the store has all of the job's pieces.
func (j *job) took(r role) bool {
	for i := range j.pieces {
		if !j.pieces[i].acked[r] {
			return false
		}
	}
	return true
}

// bring is a put that tells how the store is.
func (h *Hybrid) bring(ctx context.Context, r role, jobs []*job) {
	if called, err := h.put(ctx, r, jobs); called && ctx.Err() == nil { // else it is we who gave up
		h.fared(r, err)
	}
}

// put brings to one store what it still lacks of the jobs that want it, in one call. The error
// is that of the store as a whole.
func (h *Hybrid) put(ctx context.Context, r role, jobs []*job) (called bool, err error) {
	if !h.targets[r].ready(time.Now(), true) {
		return false, nil // absent; or it asked for a pause since the plan was made
	}
	var pieces []*piece
	var values []Value
	for _, j := range jobs {
		for i := range j.pieces {
			if p := &j.pieces[i]; j.wanted[r] && !p.acked[r] && !(r == fallback && p.acked[primary]) {
				pieces, values = append(pieces, p), append(values, p.value)
			}
		}
	}
	if len(values) == 0 {
		return false, nil
	}
	within, cancel := h.shared(ctx, r)
	defer cancel()
	err = h.call(within, r, "put", func(ctx context.Context, s Store) error { return s.Put(ctx, values) })
	return true, h.answered(r, pieces, err)
}

// answered notes which pieces a Put stored. A store that took some of them works: nil.
func (h *Hybrid) answered(r role, pieces []*piece, err error) error {
	var partial *Partial
	some, bytes := 0, 0
	isPartial := errors.As(err, &partial)
	for _, p := range pieces {
		why := err
		if isPartial {
			why = nil // a nil *Error in an error is none
			if e := partial.Keys[p.value.Key]; e != nil {
				why, err = e, e
			}
		}
		if why != nil {
			p.failed[r] = why
			continue
		}
		p.acked[r] = true
		some, bytes = some+1, bytes+len(p.value.Data)
	}
	h.show(func(s *Stats) {
		st := &s.Stores[h.place(r)]
		st.Written += uint64(some)
		st.WrittenBytes += uint64(bytes)
	})
	if some > 0 {
		return nil
	}
	return err
}

// shared leaves half of the time that ctx still has to the next store.
func (h *Hybrid) shared(ctx context.Context, r role) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok || r == fallback || h.targets[fallback] == nil {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(deadline)/2)
}

// settle notes what the stores have now of the job's segment.
func (h *Hybrid) settle(j *job) {
	s, now := &h.segments[j.segment], time.Now()
	made := set{change: j.change, at: now}
	between, lent := true, map[int]uint64{}
	for i := range j.pieces {
		p := &j.pieces[i]
		key, _ := ParseKey(p.value.Key)
		if made.first == 0 {
			made.first = p.sequence
		}
		made.last, made.parts = p.sequence, append(made.parts, key.Part)
		between = between && (p.acked[primary] || p.acked[fallback])
		if p.acked[fallback] {
			s.fallen = max(s.fallen, p.sequence)
		}
		if p.acked[fallback] && !p.acked[primary] {
			lent[key.Part] = p.sequence
		}
		if p.failed[primary] != nil && KindOf(p.failed[primary]) == Unknown {
			s.burn(key.Part, now.Add(abandonedFor))
		}
		h.settleRefused(j, p)
	}
	made.empty = len(j.pieces) == 1 && s.size == 0
	for _, r := range []role{primary, disk} {
		if j.wanted[r] && j.took(r) {
			s.held[r], s.force[r] = made, false
		}
	}
	if between && (j.wanted[primary] || j.wanted[fallback]) {
		made.lent = lent
		s.cover = made
	}
}

func (h *Hybrid) settleRefused(j *job, p *piece) {
	s := &h.segments[j.segment]
	for r := range roles {
		if p.failed[r] == nil || p.acked[r] || KindOf(p.failed[r]) != Rejected || s.isRefused(r) {
			continue
		}
		s.refused[r] = refusal{j.change, true}
		h.log.Error("persist: store refuses a segment for good; not repeated until it changes", "store", h.targets[r].store.Name(),
			"key", p.value.Key, "bytes", len(p.value.Data), "error", p.failed[r])
	}
}
