package crdt

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

// seeds are the golden bytes, and what they become without their last byte.
func seeds(f *testing.F, names ...string) {
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join("testdata", name+".golden"))
		if err != nil {
			f.Fatal(err)
		}
		b, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)-1])
	}
}

// FuzzBatch: what decodes re-encodes to the very same bytes; nothing panics.
func FuzzBatch(f *testing.F) {
	seeds(f, "batch")
	var small Packer
	tr := terms(10*Token, Rate{1, 1e6})
	b := busy(tr, 2)
	small.Add("l", "k", &b, 0, 0)
	f.Add(small.Append(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		entries, u, err := unpack(in)
		if err != nil {
			if !errors.Is(err, ErrBatch) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		var p Packer
		if u.Set != nil {
			p.Set(u.Set)
		}
		for i := range entries {
			e := &entries[i]
			p.Add(e.Limit, string(e.Key), &e.Bucket, baseOf(u, e), 1<<30)
			exercise(&e.Bucket)
		}
		if out := p.Append(nil); !bytes.Equal(out, in) {
			t.Fatalf("%x\ncomes back as\n%x", in, out)
		}
	})
}

// baseOf is the base of the entry's limit, which the sender chose.
func baseOf(u *Unpacker, e *Entry) Instant {
	for _, l := range u.limits {
		if l.name == e.Limit && l.epoch == e.Bucket.Epoch {
			return l.base
		}
	}
	return 0
}

// exercise does with a bucket what a node does; it must not panic.
func exercise(b *Bucket) {
	tr := terms(10*Token, Rate{1, 1e6})
	tr.Epoch = b.Epoch
	c := b.Clone()
	if !c.Plausible(tr, c.Mark+second) {
		return
	}
	c.Absent(tr, c.Mark+second)
	c.Take(tr, c.Mark+second, Token, SlotID{1, 1})
	c.Credit(tr, c.Mark+second, Token, SlotID{1, 1})
	c.Join(b)
}

// FuzzSet: the same for sets alone.
func FuzzSet(f *testing.F) {
	seeds(f, "set")
	f.Fuzz(func(t *testing.T, in []byte) {
		s, err := DecodeSet(in)
		if err != nil {
			return
		}
		if !bytes.Equal(s.Bytes(), in) || !bytes.Equal(s.encode(), in) {
			t.Fatalf("%x\ncomes back as\n%x", in, s.encode())
		}
		for i := range s.Limits {
			tr := &s.Limits[i]
			if r, err := ParseRate(tr.Rate.String()); err != nil || r != tr.Rate {
				t.Fatalf("rate %s: %v", tr.Rate, err)
			}
			if tr.Fill(0, maxInstant) < 0 || tr.IdleTTL() <= 0 || s.Find(tr.Name) != tr {
				t.Fatalf("unsound terms: %+v", tr)
			}
		}
	})
}

// A short message cannot ask for much memory, whatever lengths it claims.
func TestShortMessagesAllocateLittle(t *testing.T) {
	msg := func(f func(e *msgpack.Encoder)) []byte {
		var b bytes.Buffer
		f(msgpack.NewEncoder(&b))
		return b.Bytes()
	}
	set := msg(func(e *msgpack.Encoder) { // a set with four billion limits
		e.EncodeArrayLen(4)
		e.EncodeUint(1)
		e.EncodeUint(1)
		e.EncodeArrayLen(3)
		for range 3 {
			e.EncodeUint(0)
		}
		e.EncodeArrayLen(1<<32 - 1)
	})
	inBatch := func(tail func(e *msgpack.Encoder)) []byte {
		return msg(func(e *msgpack.Encoder) {
			e.EncodeUint(1)
			tail(e)
		})
	}
	for name, b := range map[string][]byte{
		"set": inBatch(func(e *msgpack.Encoder) { e.EncodeBytes(set) }),
		"set's length": inBatch(func(e *msgpack.Encoder) {
			e.EncodeBytesLen(maxSetBytes)
		}),
		"limits": inBatch(func(e *msgpack.Encoder) { e.EncodeNil(); e.EncodeArrayLen(1<<32 - 1) }),
		"writers": inBatch(func(e *msgpack.Encoder) {
			e.EncodeNil()
			e.EncodeArrayLen(0)
			e.EncodeArrayLen(1<<32 - 1)
		}),
		"slots": inBatch(func(e *msgpack.Encoder) {
			e.EncodeNil()
			e.EncodeArrayLen(1)
			e.EncodeArrayLen(3)
			e.EncodeString("l")
			e.EncodeUint(1)
			e.EncodeUint(1)
			e.EncodeArrayLen(0)
			e.EncodeArrayLen(6 + 4*maxSlots)
			e.EncodeUint(0)
			e.EncodeString("k")
			for range 4 {
				e.EncodeUint(0)
			}
		}),
	} {
		var u Unpacker
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := u.Open(b)
		if err == nil {
			_, err = u.Next()
		}
		runtime.ReadMemStats(&after)
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 16<<10 {
			t.Errorf("%s: %d bytes of message made it allocate %d", name, len(b), n)
		}
	}
}
