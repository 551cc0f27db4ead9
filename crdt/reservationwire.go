package crdt

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/vmihailenco/msgpack/v5"
)

// A batch of reservations is a sequence of msgpack values, in the manner of the batch of buckets
// (wire.go); its first byte tells them apart:
//
//	┌────────┬─ names ───┬─ writers ─┬─ entries, to the end ──────────────────────┐
//	│ format │ array of  │ array of  │ array of 2, of one whose estimate is not   │
//	│ uint 5 │ string    │ uint64    │ known, or of 7 + 3·slots:                  │
//	│        │           │           │  id: bin 24   used + 1; 0: not settled     │
//	│        │           │           │  limit: name#  node: name#  key  cost      │
//	│        │           │           │  apart: 0 or 1   … slots …                 │
//	└────────┴───────────┴───────────┴────────────────────────────────────────────┘
//	slot: writer#  P  N, in tokens
const reservationsFormat = 5

const (
	bareEntry  = 2
	wholeEntry = 7
)

// ReservationPacker builds batches of reservations. The zero value is ready; it keeps its memory
// between batches.
type ReservationPacker struct {
	names   []string
	writers []Writer
	head    bytes.Buffer
	body    bytes.Buffer
	enc     *msgpack.Encoder
	size    int // bytes of the dictionaries, estimated from above
	entries int
}

// Reset begins a new batch.
func (p *ReservationPacker) Reset() {
	p.names, p.writers, p.size, p.entries = p.names[:0], p.writers[:0], 0, 0
	p.body.Reset()
}

// Len is an upper bound of the batch's size in bytes.
func (p *ReservationPacker) Len() int { return headSize + p.size + p.body.Len() }

// Entries counts what was added since Reset.
func (p *ReservationPacker) Entries() int { return p.entries }

// Add appends a reservation if the batch stays within max bytes or is still empty, and tells
// whether it did. One of which nothing is known is added at no cost.
func (p *ReservationPacker) Add(r *Reservation, max int) bool {
	if !r.Known() && r.used == 0 {
		return true
	}
	names, writers, size, body := len(p.names), len(p.writers), p.size, p.body.Len()
	p.entry(r)
	if p.entries > 0 && (p.Len() > max || len(p.writers) > maxWriters || len(p.names) > maxEpochs) {
		p.names, p.writers, p.size = p.names[:names], p.writers[:writers], size
		p.body.Truncate(body)
		return false
	}
	p.entries++
	return true
}

func (p *ReservationPacker) entry(r *Reservation) {
	if p.enc == nil {
		p.enc = msgpack.NewEncoder(&p.body)
	}
	e := p.enc
	n := bareEntry
	if r.Known() {
		n = wholeEntry + 3*len(r.account.slots)
	}
	e.EncodeArrayLen(n)
	e.EncodeBytes(r.ID[:])
	e.EncodeUint(uint64(r.used))
	if !r.Known() {
		return
	}
	e.EncodeUint(uint64(p.name(r.Limit)))
	e.EncodeUint(uint64(p.name(r.Node)))
	e.EncodeString(r.Key)
	e.EncodeUint(uint64(r.Cost))
	apart := uint64(0)
	if r.Apart {
		apart = 1
	}
	e.EncodeUint(apart)
	for _, s := range r.account.slots {
		e.EncodeUint(uint64(p.writer(s.Writer)))
		e.EncodeUint(uint64(s.P))
		e.EncodeUint(uint64(s.N))
	}
}

func (p *ReservationPacker) name(s string) int {
	i := slices.Index(p.names, s)
	if i < 0 {
		i = len(p.names)
		p.names = append(p.names, s)
		p.size += 2 + len(s)
	}
	return i
}

func (p *ReservationPacker) writer(w Writer) int {
	i := slices.Index(p.writers, w)
	if i < 0 {
		i = len(p.writers)
		p.writers = append(p.writers, w)
		p.size += 9
	}
	return i
}

// Append appends the finished batch to dst; nothing if nothing was added.
func (p *ReservationPacker) Append(dst []byte) []byte {
	if p.entries == 0 {
		return dst
	}
	p.head.Reset()
	e := msgpack.NewEncoder(&p.head)
	e.EncodeUint(reservationsFormat)
	e.EncodeArrayLen(len(p.names))
	for _, s := range p.names {
		e.EncodeString(s)
	}
	e.EncodeArrayLen(len(p.writers))
	for _, w := range p.writers {
		e.EncodeUint(uint64(w))
	}
	dst = append(dst, p.head.Bytes()...)
	return append(dst, p.body.Bytes()...)
}

// ReservationUnpacker reads a batch of reservations: Open, then Next until it yields nil.
type ReservationUnpacker struct {
	r       reader
	names   []string
	writers []Writer
	used    struct{ names, writers int } // dictionary entries seen so far, in order
	entries int
}

// Open reads the head of a batch. The batch must not change while it is read.
func (u *ReservationUnpacker) Open(batch []byte) error {
	*u = ReservationUnpacker{r: reader{src: batch}, names: u.names[:0], writers: u.writers[:0]}
	if f := u.r.uint(255); f != reservationsFormat {
		u.r.fail(fmt.Sprintf("format %d, want %d", f, reservationsFormat))
	}
	for n := u.r.array(maxEpochs); n > 0 && u.r.err == nil; n-- {
		u.names = append(u.names, string(u.r.string(1, MaxName)))
	}
	for n := u.r.array(maxWriters); n > 0 && u.r.err == nil; n-- {
		u.writers = append(u.writers, Writer(u.r.uint(1<<64-1)))
	}
	names, writers := slices.Sorted(slices.Values(u.names)), slices.Sorted(slices.Values(u.writers))
	if len(slices.Compact(names)) < len(u.names) || len(slices.Compact(writers)) < len(u.writers) {
		u.r.fail("name twice")
	}
	return u.failed()
}

func (u *ReservationUnpacker) failed() error {
	if u.r.err != nil {
		return fmt.Errorf("%w of reservations: %w", ErrBatch, u.r.err)
	}
	return nil
}

// Next reads the next entry, which is the caller's; nil at the end.
func (u *ReservationUnpacker) Next() (*Reservation, error) {
	if u.r.err == nil && u.r.left() > 0 {
		out := u.next()
		if u.r.err == nil {
			u.entries++
			return out, nil
		}
	}
	switch {
	case u.entries == 0:
		u.r.fail("nothing in it")
	case u.used.names < len(u.names) || u.used.writers < len(u.writers):
		u.r.fail("unused names")
	}
	return nil, u.failed()
}

func (u *ReservationUnpacker) next() *Reservation {
	r, out := &u.r, &Reservation{}
	n := r.array(wholeEntry + 3*maxBearers)
	if id := r.optionalBytes(len(out.ID)); len(id) == len(out.ID) {
		out.ID = ReservationID(id)
	} else {
		r.fail("id of another length")
	}
	out.used = int64(r.uint(uint64(MaxUsed) + 1))
	if n == bareEntry {
		if out.used == 0 {
			r.fail("entry of nothing")
		}
		return out
	}
	slots := (n - wholeEntry) / 3
	if r.err == nil && (n < wholeEntry || (n-wholeEntry)%3 != 0 || 3*slots > r.left()) {
		r.fail("entry of wrong length")
	}
	if r.err != nil {
		return out
	}
	out.Limit, out.Node = u.name(), u.name()
	out.Key = string(r.string(1, MaxKey))
	out.Cost = int64(r.uint(uint64(MaxUsed)))
	out.Apart = r.uint(1) == 1
	if out.Cost == 0 || out.Apart == (slots > 0) {
		r.fail("impossible estimate")
	}
	for ; slots > 0 && r.err == nil; slots-- {
		u.slot(&out.account)
	}
	return out
}

func (u *ReservationUnpacker) name() string {
	if i := u.r.index(&u.used.names, len(u.names)); u.r.err == nil {
		return u.names[i]
	}
	return ""
}

func (u *ReservationUnpacker) slot(to *PNCounter) {
	i := u.r.index(&u.used.writers, len(u.writers))
	p, n := int64(u.r.uint(maxBorne)), int64(u.r.uint(maxBorne))
	if u.r.err != nil {
		return
	}
	id := SlotID{Writer: u.writers[i]}
	if to.find(id) != nil || p|n == 0 {
		u.r.fail("slot twice, or of nothing")
		return
	}
	to.Raise(id, p, n)
}
