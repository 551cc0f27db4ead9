package crdt

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/vmihailenco/msgpack/v5"
)

// A set on the wire is nested msgpack arrays, integers in their shortest form:
//
//	set:        [format, version, [from: one reading a policy], [terms…]]
//	terms:      [definition, epoch, [piece…]]     piece: [from, rate]
//	definition: [name, capacity, rate, policy, ttl, max_buckets, backup, key]
//	backup:     nil or [capacity, rate]           rate: [num, den] in lowest terms
//
// DecodeSet reads it by hand, not with msgpack.Unmarshal: that allocates the whole slice
// that an array's head claims, so that thirty bytes could ask for hundreds of gigabytes.
const setFormat = 1

func (s *Set) encode() []byte {
	var buf bytes.Buffer
	e := msgpack.NewEncoder(&buf)
	e.EncodeArrayLen(4)
	e.EncodeUint(setFormat)
	e.EncodeUint(s.Version)
	e.EncodeArrayLen(Policies)
	for _, r := range s.From {
		e.EncodeInt(int64(r))
	}
	e.EncodeArrayLen(len(s.Limits))
	for i := range s.Limits {
		t := &s.Limits[i]
		e.EncodeArrayLen(3)
		t.Definition.encode(e)
		e.EncodeUint(uint64(t.Epoch))
		e.EncodeArrayLen(len(t.Pieces))
		for _, p := range t.Pieces {
			e.EncodeArrayLen(2)
			e.EncodeInt(int64(p.From))
			p.Rate.encode(e)
		}
	}
	return buf.Bytes()
}

func (d *Definition) encode(e *msgpack.Encoder) {
	e.EncodeArrayLen(8)
	e.EncodeString(d.Name)
	e.EncodeInt(int64(d.Capacity))
	d.Rate.encode(e)
	e.EncodeUint(uint64(d.Policy))
	e.EncodeInt(int64(d.TTL))
	e.EncodeUint(uint64(d.MaxBuckets))
	if d.Backup == nil {
		e.EncodeNil()
	} else {
		e.EncodeArrayLen(2)
		e.EncodeInt(int64(d.Backup.Capacity))
		d.Backup.Rate.encode(e)
	}
	e.EncodeString(d.Key)
}

func (r Rate) encode(e *msgpack.Encoder) {
	e.EncodeArrayLen(2)
	e.EncodeUint(r.num)
	e.EncodeUint(r.den)
}

func encodeDefinition(d *Definition) []byte {
	var buf bytes.Buffer
	d.encode(msgpack.NewEncoder(&buf))
	return buf.Bytes()
}

func hashDefinitions(limits []Terms) uint64 {
	h := xxhash.New()
	for i := range limits {
		h.Write(encodeDefinition(&limits[i].Definition))
	}
	return h.Sum64()
}

// DecodeSet reads what Bytes wrote and refuses everything else.
func DecodeSet(b []byte) (*Set, error) {
	if len(b) > maxSetBytes {
		return nil, fmt.Errorf("crdt: set of %d bytes, at most %d", len(b), maxSetBytes)
	}
	r := reader{src: b}
	s := r.set()
	if r.err == nil {
		r.err = s.validate()
	}
	if r.err != nil {
		return nil, fmt.Errorf("crdt: set: %w", r.err)
	}
	s.hash, s.wire = hashDefinitions(s.Limits), s.encode()
	if !bytes.Equal(s.wire, b) {
		return nil, errors.New("crdt: set: not in canonical form")
	}
	return s, nil
}

func (r *reader) set() *Set {
	r.tuple(4)
	if f := r.uint(255); f != setFormat {
		r.fail(fmt.Sprintf("format %d, want %d", f, setFormat))
	}
	s := &Set{Version: r.uint(maxVersion)}
	r.tuple(Policies)
	for p := range s.From {
		s.From[p] = r.instant()
	}
	for n := r.array(MaxLimits); n > 0 && r.err == nil; n-- {
		s.Limits = append(s.Limits, r.terms())
	}
	return s
}

func (r *reader) terms() Terms {
	r.tuple(3)
	t := Terms{Definition: r.definition(), Epoch: Epoch(r.uint(1<<64 - 1))}
	for n := r.array(MaxPieces); n > 0 && r.err == nil; n-- {
		r.tuple(2)
		t.Pieces = append(t.Pieces, Piece{r.instant(), r.rate()})
	}
	return t
}

func (r *reader) definition() Definition {
	r.tuple(8)
	d := Definition{
		Name:       string(r.string(1, MaxName)),
		Capacity:   Milli(r.uint(uint64(MaxCapacity))),
		Rate:       r.rate(),
		Policy:     Policy(r.uint(Policies)),
		TTL:        time.Duration(r.uint(uint64(maxTTL))),
		MaxBuckets: uint32(r.uint(1<<32 - 1)),
	}
	if !r.null() {
		r.tuple(2)
		d.Backup = &Backup{Milli(r.uint(uint64(MaxCapacity))), r.rate()}
	}
	d.Key = string(r.string(0, maxKeySpec))
	return d
}

func (r *reader) rate() Rate {
	r.tuple(2)
	num, den := r.uint(1<<64-1), r.uint(1<<64-1)
	if r.err != nil {
		return Rate{}
	}
	var rate Rate
	rate, r.err = makeRate(num, den)
	return rate
}
