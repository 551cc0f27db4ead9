package persist

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	bulkBytes    = 48 << 20  // aimed at, by what the segments took last time
	bulkMost     = 64 << 20  // of several segments: then they are packed in two halves
	unknownBytes = 512 << 10 // a segment that was never packed
)

var errBulk = errors.New("persist: bulk is full")

// job is one segment's part in a round.
type job struct {
	segment int
	change  uint64
	wanted  [roles]bool // fallback: of what primary does not take
	pieces  []piece
}

// piece is one part of it: a value, and who acknowledged it.
type piece struct {
	payload  []byte // until it is encoded
	sequence uint64
	value    Value
	failed   [roles]error // of the last put there
	acked    [roles]bool
}

// plan says which segments are to be packed, and for which stores.
func (h *Hybrid) plan(now time.Time, asked bool) []*job {
	var jobs []*job
	for i := range h.segments {
		s, ttl := &h.segments[i], h.cfg.Segments[i].TTL
		j := &job{segment: i, change: s.change}
		ready := func(r role) bool { return h.targets[r].ready(now, asked) && !s.isRefused(r) }
		j.wanted[disk] = ready(disk) && s.stale(disk, ttl, h.cfg.Every, now)
		// What a node that lost a segment left in fallback, it alone can bring to primary.
		if s.owned && s.stale(primary, ttl, h.cfg.Every, now) || s.pending() {
			j.wanted[primary] = ready(primary)
			j.wanted[fallback] = ready(fallback) && (!s.stored() || s.cover.expiring(ttl, h.cfg.Every, now))
		}
		if j.wanted != [roles]bool{} {
			jobs = append(jobs, j)
		}
	}
	return jobs
}

// groups divides jobs so that a group's values fit into memory several times over.
func (h *Hybrid) groups(jobs []*job) (groups [][]*job) {
	size := 0
	for _, j := range jobs {
		n := h.segments[j.segment].size
		if n == 0 {
			n = unknownBytes
		}
		if len(groups) == 0 || size+n > bulkBytes {
			groups, size = append(groups, nil), 0
		}
		size += n
		groups[len(groups)-1] = append(groups[len(groups)-1], j)
	}
	return groups
}

// pack fills the jobs' pieces. It returns errBulk when they turn out too large together.
func (h *Hybrid) pack(ctx context.Context, jobs []*job) error {
	of, segments := make(map[int]*job, len(jobs)), make([]int, len(jobs))
	for i, j := range jobs {
		j.pieces = nil
		of[j.segment], segments[i] = j, j.segment
		h.segments[j.segment].size = 0
	}
	total := 0
	h.joining.Lock()
	defer h.joining.Unlock()
	err := h.cfg.State.Pack(ctx, segments, func(segment int, payload []byte) error {
		j := of[segment]
		switch {
		case j == nil:
			return fmt.Errorf("persist: segment %d was packed unasked", segment)
		case len(payload) > MaxPayload:
			return fmt.Errorf("persist: segment %s was packed into %d bytes, at most %d fit", h.cfg.Segments[segment].Name, len(payload), MaxPayload)
		}
		total += len(payload)
		h.segments[segment].size += len(payload)
		if total > bulkMost && len(jobs) > 1 {
			return errBulk
		}
		j.pieces = append(j.pieces, piece{payload: bytes.Clone(payload)})
		return nil
	})
	if err != nil {
		return err
	}
	clock, now := h.cfg.State.Clock(), time.Now()
	for _, j := range jobs {
		if err := h.encode(j, clock, now); err != nil {
			return err
		}
	}
	return nil
}

// encode makes values of the payloads, each with a number and a sequence of its own.
func (h *Hybrid) encode(j *job, clock []byte, now time.Time) error {
	s, spec := &h.segments[j.segment], h.cfg.Segments[j.segment]
	if len(j.pieces) == 0 && s.known() {
		j.pieces = []piece{{}} // what was there is no more
	}
	for i, part := range s.numbers(len(j.pieces), now) {
		p := &j.pieces[i]
		h.sequence++
		p.sequence = h.sequence
		v := Segment{
			Name: spec.Name, Part: part, Cluster: h.cfg.Cluster, Node: h.cfg.Node, Incarnation: h.cfg.Incarnation,
			Sequence: p.sequence, Time: now.Add(h.cfg.WallAhead), Clock: clock, Payload: p.payload,
		}
		data, err := v.Bytes()
		if err != nil {
			return err
		}
		p.payload = nil
		p.value = Value{Key: SegmentKey(spec.Prefix, &v), Version: p.sequence, Data: data, TTL: spec.TTL}
	}
	return nil
}
