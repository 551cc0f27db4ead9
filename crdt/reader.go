package crdt

import (
	"bytes"
	"errors"
	"math"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// reader reads canonical msgpack with bounds; the first error sticks and every later
// read returns zero values.
type reader struct {
	src bytes.Reader
	dec *msgpack.Decoder
	buf [max(MaxKey, maxKeySpec)]byte
	err error
}

func (r *reader) reset(b []byte) {
	r.src.Reset(b)
	if r.dec == nil {
		r.dec = msgpack.NewDecoder(&r.src)
	} else {
		r.dec.Reset(&r.src)
	}
}

func (r *reader) left() int { return r.src.Len() }

func (r *reader) fail(why string) {
	if r.err == nil {
		r.err = errors.New(why)
	}
}

// check keeps err, and fails unless ok.
func (r *reader) check(err error, ok bool, why string) bool {
	if r.err == nil && err != nil {
		r.err = err
	}
	if !ok {
		r.fail(why)
	}
	return r.err == nil
}

// code peeks the next value's first byte.
func (r *reader) code() byte {
	if r.err != nil {
		return 0
	}
	c, err := r.dec.PeekCode()
	r.check(err, true, "")
	return c
}

func (r *reader) uint(most uint64) uint64 {
	c := r.code()
	if r.err != nil {
		return 0
	}
	v, err := r.dec.DecodeUint64()
	if !r.check(err, c == uintCode(v), "integer not in its shortest form") || !r.check(nil, v <= most, "integer out of bounds") {
		return 0
	}
	return v
}

// int reads an integer of magnitude up to most.
func (r *reader) int(most int64) int64 {
	c := r.code()
	if r.err != nil {
		return 0
	}
	v, err := r.dec.DecodeInt64()
	if !r.check(err, c == intCode(v), "integer not in its shortest form") || !r.check(nil, v <= most && v >= -most, "integer out of bounds") {
		return 0
	}
	return v
}

func (r *reader) array(most int) int {
	c := r.code()
	if r.err != nil {
		return 0
	}
	n, err := r.dec.DecodeArrayLen()
	ok := n >= 0 && n <= most && (n < 16) == msgpcode.IsFixedArray(c) && (n < 1<<16) == (c != msgpcode.Array32)
	if !r.check(err, ok, "array out of bounds") {
		return 0
	}
	return n
}

func (r *reader) amount() int64 { return int64(r.uint(uint64(maxMilli))) }

func (r *reader) instant() Instant { return Instant(r.uint(uint64(maxInstant))) }

// tuple reads the head of an array of exactly n.
func (r *reader) tuple(n int) {
	if r.array(n) != n {
		r.fail("array of other length")
	}
}

// null reads a nil if the next value is one.
func (r *reader) null() bool {
	if r.code() != msgpcode.Nil || r.err != nil {
		return false
	}
	r.check(r.dec.DecodeNil(), true, "")
	return true
}

// string reads a string of least to most bytes into the reader's own buffer.
func (r *reader) string(least, most int) []byte {
	c := r.code()
	if r.err != nil {
		return nil
	}
	n, err := r.dec.DecodeBytesLen()
	ok := n >= least && n <= min(most, len(r.buf)) && c == stringCode(n)
	if !r.check(err, ok, "string out of bounds") {
		return nil
	}
	r.check(r.dec.ReadFull(r.buf[:n]), true, "")
	return r.buf[:n]
}

func (r *reader) optionalBytes(most int) []byte {
	c := r.code()
	if r.err != nil {
		return nil
	}
	n, err := r.dec.DecodeBytesLen()
	if n == -1 && err == nil {
		return nil
	}
	if !r.check(err, n > 0 && n <= most && n <= r.left() && c == binCode(n), "bytes out of bounds") {
		return nil
	}
	b := make([]byte, n)
	r.check(r.dec.ReadFull(b), true, "")
	return b
}

// The codes that the encoder chooses.

func uintCode(v uint64) byte {
	switch {
	case v <= math.MaxInt8:
		return byte(v)
	case v <= math.MaxUint8:
		return msgpcode.Uint8
	case v <= math.MaxUint16:
		return msgpcode.Uint16
	case v <= math.MaxUint32:
		return msgpcode.Uint32
	}
	return msgpcode.Uint64
}

func intCode(v int64) byte {
	switch {
	case v >= 0:
		return uintCode(uint64(v))
	case v >= int64(int8(msgpcode.NegFixedNumLow)):
		return byte(v)
	case v >= math.MinInt8:
		return msgpcode.Int8
	case v >= math.MinInt16:
		return msgpcode.Int16
	case v >= math.MinInt32:
		return msgpcode.Int32
	}
	return msgpcode.Int64
}

func stringCode(n int) byte {
	switch {
	case n < 32:
		return msgpcode.FixedStrLow | byte(n)
	case n < 256:
		return msgpcode.Str8
	}
	return msgpcode.Str16
}

func binCode(n int) byte {
	switch {
	case n < 256:
		return msgpcode.Bin8
	case n < 1<<16:
		return msgpcode.Bin16
	}
	return msgpcode.Bin32
}
