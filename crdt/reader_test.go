package crdt

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// forms are all the ways to write v in msgpack as an integer.
func forms(v int64) (all [][]byte) {
	wide := func(code byte, size int) {
		all = append(all, append([]byte{code}, binary.BigEndian.AppendUint64(nil, uint64(v))[8-size:]...))
	}
	for i, size := range []int{1, 2, 4, 8} {
		bits := 8 * size
		if size == 8 || v >= 0 && v < 1<<bits {
			if v >= 0 {
				wide(msgpcode.Uint8+byte(i), size)
			}
		}
		if size == 8 || v >= -1<<(bits-1) && v < 1<<(bits-1) {
			wide(msgpcode.Int8+byte(i), size)
		}
	}
	if v >= -32 && v < 128 {
		all = append(all, []byte{byte(v)})
	}
	return all
}

// Of all forms of an integer the reader takes one: the encoder's.
func TestIntegersHaveOneForm(t *testing.T) {
	edges := []int64{0, 1, 31, 32, 33, 127, 128, 255, 256, 1<<15 - 1, 1 << 15, 1<<16 - 1, 1 << 16, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, maxMilli}
	for _, v := range edges {
		for _, v := range []int64{v, -v, -v - 1} {
			if v < -maxMilli {
				continue
			}
			var own bytes.Buffer
			if err := msgpack.NewEncoder(&own).EncodeInt(v); err != nil {
				t.Fatal(err)
			}
			for _, form := range append(forms(v), own.Bytes()) {
				want := bytes.Equal(form, own.Bytes())
				r := reader{src: form}
				if got := r.int(maxMilli); (r.err == nil && got == v && r.left() == 0) != want {
					t.Errorf("%x as %d: %v, %v; want it read: %v", form, v, got, r.err, want)
				}
				r = reader{src: form}
				if got := r.uint(1<<64 - 1); (r.err == nil && got == uint64(v) && r.left() == 0) != (want && v >= 0) {
					t.Errorf("%x as unsigned %d: %v, %v", form, v, got, r.err)
				}
				r = reader{src: form[:len(form)-1]}
				if r.int(maxMilli); r.err == nil {
					t.Errorf("%x cut short is read", form)
				}
			}
		}
	}
}

// Strings, bytes and arrays too, with their bounds.
func TestLengthsHaveOneForm(t *testing.T) {
	for _, n := range []int{0, 1, 15, 16, 31, 32, 255, 256, 300, 1<<16 - 1, 1 << 16} {
		b := make([]byte, n)
		size := func(write func(e *msgpack.Encoder)) []byte {
			var buf bytes.Buffer
			write(msgpack.NewEncoder(&buf))
			return buf.Bytes()
		}
		array := size(func(e *msgpack.Encoder) { e.EncodeArrayLen(n) })
		text := size(func(e *msgpack.Encoder) { e.EncodeString(string(b)) })
		bin := size(func(e *msgpack.Encoder) { e.EncodeBytes(b) })
		for _, c := range []struct {
			own   []byte
			codes []byte // of 1, 2, 4 bytes of length; 0: no such form
			tail  []byte
			read  func(r *reader, most int) int
		}{
			{array, []byte{0, msgpcode.Array16, msgpcode.Array32}, nil, func(r *reader, most int) int { return r.array(most) }},
			{text, []byte{msgpcode.Str8, msgpcode.Str16, msgpcode.Str32}, b, func(r *reader, most int) int { return len(r.string(0, most)) }},
			{bin, []byte{msgpcode.Bin8, msgpcode.Bin16, msgpcode.Bin32}, b, func(r *reader, most int) int { return len(r.optionalBytes(most)) }},
		} {
			for i, code := range c.codes {
				if bits := 8 << i; code == 0 || n >= 1<<bits {
					continue
				}
				form := append(append([]byte{code}, binary.BigEndian.AppendUint32(nil, uint32(n))[4-1<<i:]...), c.tail...)
				r := reader{src: form}
				if c.read(&r, n); (r.err == nil) != (code != msgpcode.Str32 && bytes.Equal(form, c.own)) { // no string is as long as Str32
					t.Errorf("length %d as %x: %v", n, form[:3], r.err)
				}
			}
			r := reader{src: c.own}
			if c.own[0] == msgpcode.Str32 {
				continue
			}
			if got := c.read(&r, n); r.err != nil || got != n {
				t.Errorf("length %d: %d, %v", n, got, r.err)
			}
			if r = (reader{src: c.own}); n > 0 {
				if c.read(&r, n-1); r.err == nil {
					t.Errorf("length %d passes a bound of %d", n, n-1)
				}
			}
		}
	}
}
