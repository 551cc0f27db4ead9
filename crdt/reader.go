package crdt

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// reader reads canonical msgpack: every value in the shortest form, as the encoder writes
// it, and within bounds. The first error sticks, and every later read returns zero values.
// What it returns is part of the source. It allocates nothing, and is some three times as
// fast as msgpack's own decoder with a check of the form after each value.
type reader struct {
	src []byte
	at  int // what was read; moving src instead would cost a write barrier a byte
	err error
}

var errShort = errors.New("message too short")

func (r *reader) left() int { return len(r.src) - r.at }

func (r *reader) fail(why string) {
	if r.err == nil {
		r.err = errors.New(why)
	}
}

// next is the next n bytes.
func (r *reader) next(n int) []byte {
	if r.err == nil && r.left() < n {
		r.err = errShort
	}
	if r.err != nil {
		return nil
	}
	r.at += n
	return r.src[r.at-n : r.at]
}

// code is a value's first byte.
func (r *reader) code() byte {
	if b := r.next(1); b != nil {
		return b[0]
	}
	return 0
}

// number reads a big-endian integer of 1, 2, 4 or 8 bytes that is at least least: less
// would have a shorter form.
func (r *reader) number(size int, least uint64) (v uint64) {
	b := r.next(size)
	if b == nil {
		return 0
	}
	switch size {
	case 1:
		v = uint64(b[0])
	case 2:
		v = uint64(binary.BigEndian.Uint16(b))
	case 4:
		v = uint64(binary.BigEndian.Uint32(b))
	case 8:
		v = binary.BigEndian.Uint64(b)
	}
	if v < least {
		r.fail("not in its shortest form")
	}
	return v
}

func (r *reader) uint(most uint64) uint64 { return r.uintOf(r.code(), most) }

func (r *reader) uintOf(code byte, most uint64) (v uint64) {
	switch {
	case code <= msgpcode.PosFixedNumHigh:
		v = uint64(code)
	case code == msgpcode.Uint8:
		v = r.number(1, 1<<7)
	case code == msgpcode.Uint16:
		v = r.number(2, 1<<8)
	case code == msgpcode.Uint32:
		v = r.number(4, 1<<16)
	case code == msgpcode.Uint64:
		v = r.number(8, 1<<32)
	default:
		r.fail("not an integer")
	}
	return r.within(v, most)
}

func (r *reader) within(v, most uint64) uint64 {
	if v > most {
		r.fail("out of bounds")
	}
	if r.err != nil {
		return 0
	}
	return v
}

// int reads an integer of magnitude up to most.
func (r *reader) int(most int64) int64 {
	code := r.code()
	var v, longest int64 // a v above longest would have a shorter form
	switch {
	case code >= msgpcode.NegFixedNumLow:
		v = int64(int8(code))
	case code == msgpcode.Int8:
		v, longest = int64(int8(r.number(1, 0))), -33
	case code == msgpcode.Int16:
		v, longest = int64(int16(r.number(2, 0))), math.MinInt8-1
	case code == msgpcode.Int32:
		v, longest = int64(int32(r.number(4, 0))), math.MinInt16-1
	case code == msgpcode.Int64:
		v, longest = int64(r.number(8, 0)), math.MinInt32-1
	default:
		return int64(r.uintOf(code, uint64(most)))
	}
	if v > longest {
		r.fail("not in its shortest form")
	}
	if v < -most {
		r.fail("out of bounds")
	}
	if r.err != nil {
		return 0
	}
	return v
}

func (r *reader) amount() int64 { return int64(r.uint(uint64(maxMilli))) }

func (r *reader) instant() Instant { return Instant(r.uint(uint64(maxInstant))) }

// array reads the head of an array of up to most.
func (r *reader) array(most int) int {
	var n uint64
	switch code := r.code(); {
	case msgpcode.IsFixedArray(code):
		n = uint64(code & msgpcode.FixedArrayMask)
	case code == msgpcode.Array16:
		n = r.number(2, 16)
	case code == msgpcode.Array32:
		n = r.number(4, 1<<16)
	default:
		r.fail("not an array")
	}
	return int(r.within(n, uint64(most)))
}

// tuple reads the head of an array of exactly n.
func (r *reader) tuple(n int) {
	if r.array(n) != n {
		r.fail("array of other length")
	}
}

// null reads a nil if the next value is one.
func (r *reader) null() bool {
	if r.err != nil || r.left() == 0 || r.src[r.at] != msgpcode.Nil {
		return false
	}
	r.at++
	return true
}

// string reads a string of least to most bytes.
func (r *reader) string(least, most int) []byte {
	var n uint64
	switch code := r.code(); {
	case msgpcode.IsFixedString(code):
		n = uint64(code & msgpcode.FixedStrMask)
	case code == msgpcode.Str8:
		n = r.number(1, 32)
	case code == msgpcode.Str16:
		n = r.number(2, 1<<8)
	default:
		r.fail("not a string")
	}
	if n < uint64(least) {
		r.fail("out of bounds")
	}
	return r.next(int(r.within(n, uint64(most))))
}

// optionalBytes reads up to most bytes, or nil.
func (r *reader) optionalBytes(most int) []byte {
	if r.null() {
		return nil
	}
	var n uint64
	switch r.code() {
	case msgpcode.Bin8:
		n = r.number(1, 0)
	case msgpcode.Bin16:
		n = r.number(2, 1<<8)
	case msgpcode.Bin32:
		n = r.number(4, 1<<16)
	default:
		r.fail("not bytes")
	}
	return r.next(int(r.within(n, uint64(most))))
}

// index reads an index into a dictionary of which used entries have been met; new ones come in order.
func (r *reader) index(used *int, names int) int {
	i := int(r.uint(1 << 20))
	switch {
	case r.err != nil:
	case i >= names || i > *used:
		r.fail("name out of order")
	case i == *used:
		*used++
	}
	return i
}
