package crdt

import (
	"bytes"
	"errors"
	"runtime"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

// FuzzRatings: what decodes re-encodes to the very same bytes; nothing panics.
func FuzzRatings(f *testing.F) {
	seeds(f, "ratings")
	f.Fuzz(func(t *testing.T, in []byte) {
		var u RatingUnpacker
		var p RatingPacker
		err := u.Open(in)
		for err == nil {
			var e *RatingEntry
			if e, err = u.Next(); e == nil {
				break
			}
			p.Add(string(e.Subject), &e.Rating, 1<<30)
			exerciseRating(&e.Rating)
		}
		if err != nil {
			if !errors.Is(err, ErrBatch) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		if out := p.Append(nil); !bytes.Equal(out, in) {
			t.Fatalf("%x\ncomes back as\n%x", in, out)
		}
	})
}

// exerciseRating does with a rating what a node does; it must not panic, nor change what was read.
func exerciseRating(r *Rating) {
	c := copyOf(r)
	c.Vote(1, -1, 5)
	c.Add(SlotID{1, 0}, 1, 0)
	c.DropAfter(1 << 40)
	c.Split(1, 1)
	c.Counts()
}

// Bytes that are not what the encoder writes are refused, each for its reason.
func TestForgedRatingsAreRefused(t *testing.T) {
	msg := func(values ...any) []byte {
		var b bytes.Buffer
		e := msgpack.NewEncoder(&b)
		for _, v := range values {
			switch v := v.(type) {
			case int:
				e.EncodeInt(int64(v))
			case string:
				e.EncodeString(v)
			case []int:
				e.EncodeArrayLen(v[0])
			}
		}
		return b.Bytes()
	}
	good := msg(2, 5, []int{1}, 9, []int{9}, "s", 1, 0, 0, 3, 4, 8, 0, 2)
	var u RatingUnpacker
	if out, err := unpackRatings(&u, good); err != nil || len(out) != 1 {
		t.Fatal(out, err)
	}
	for name, b := range map[string][]byte{
		"cut off":               good[:len(good)-1],
		"a value behind it":     append(bytes.Clone(good), 0),
		"another format":        msg(1, 5, []int{0}, []int{5}, "s", 0, 8, 0, 2),
		"nothing in it":         msg(2, 0, []int{0}),
		"an entry of nothing":   msg(2, 0, []int{0}, []int{2}, "s", 0),
		"no subject":            msg(2, 5, []int{0}, []int{5}, "", 0, 8, 0, 2),
		"a vote of 2":           msg(2, 5, []int{0}, []int{5}, "s", 0, 8, 0, 3),
		"base of another vote":  msg(2, 5, []int{0}, []int{5}, "s", 0, 8, 1, 2),
		"base of no vote":       msg(2, 5, []int{1}, 9, []int{6}, "s", 1, 0, 0, 3, 4),
		"a stamp before 1970":   msg(2, 5, []int{0}, []int{8}, "s", 0, 8, 0, 2, 9, -6, 2),
		"a rater twice":         msg(2, 5, []int{0}, []int{8}, "s", 0, 8, 0, 2, 8, 0, 2),
		"raters out of order":   msg(2, 5, []int{0}, []int{8}, "s", 0, 8, 0, 2, 7, 0, 2),
		"a slot twice":          msg(2, 0, []int{1}, 9, []int{10}, "s", 2, 0, 0, 3, 4, 0, 0, 5, 6),
		"a writer twice":        msg(2, 0, []int{2}, 9, 9, []int{10}, "s", 2, 0, 0, 3, 4, 1, 0, 5, 6),
		"a writer unused":       msg(2, 0, []int{2}, 9, 8, []int{6}, "s", 1, 0, 0, 3, 4),
		"a writer not named":    msg(2, 0, []int{1}, 9, []int{6}, "s", 1, 1, 0, 3, 4),
		"more slots than there": msg(2, 5, []int{1}, 9, []int{6}, "s", 2, 0, 0, 3, 4),
	} {
		if out, err := unpackRatings(&u, b); !errors.Is(err, ErrBatch) {
			t.Errorf("%s: %v, %v", name, out, err)
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	unpackRatings(&RatingUnpacker{}, msg(2, 0, []int{0}, []int{2 + 4*maxSlots}, "s", maxSlots))
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 16<<10 {
		t.Errorf("a short message made it allocate %d bytes", n)
	}
}
