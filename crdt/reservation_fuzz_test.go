package crdt

import (
	"bytes"
	"errors"
	"runtime"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

// FuzzReservations: what decodes re-encodes to the very same bytes; nothing panics.
func FuzzReservations(f *testing.F) {
	seeds(f, "reservations")
	f.Fuzz(func(t *testing.T, in []byte) {
		all, err := unpackReservations(in)
		if err != nil {
			if !errors.Is(err, ErrBatch) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		var p ReservationPacker
		for _, r := range all {
			p.Add(r, 1<<30)
			c := copyReservation(r)
			c.Join(r)
			c.Settle(5)
			c.Bear(1, c.Target(r.ID.Deadline())-c.Net())
		}
		if out := p.Append(nil); !bytes.Equal(out, in) {
			t.Fatalf("%x\ncomes back as\n%x", in, out)
		}
	})
}

// Bytes that are not what the encoder writes are refused, each for its reason.
func TestForgedReservationsAreRefused(t *testing.T) {
	id := make([]byte, 24)
	msg := func(values ...any) []byte {
		var b bytes.Buffer
		e := msgpack.NewEncoder(&b)
		for _, v := range values {
			switch v := v.(type) {
			case int:
				e.EncodeInt(int64(v))
			case string:
				e.EncodeString(v)
			case []byte:
				e.EncodeBytes(v)
			case []int:
				e.EncodeArrayLen(v[0])
			}
		}
		return b.Bytes()
	}
	head := []any{5, []int{2}, "l", "n", []int{1}, 9}
	whole := func(more ...any) []byte { return msg(append(append([]any{}, head...), more...)...) }
	good := whole([]int{10}, id, 0, 0, 1, "k", 7, 0, 0, 0, 7)
	if out, err := unpackReservations(good); err != nil || len(out) != 1 || out[0].Net() != 7 {
		t.Fatal(out, err)
	}
	bare := []any{5, []int{0}, []int{0}}
	for name, b := range map[string][]byte{
		"cut off":                good[:len(good)-1],
		"a value behind it":      append(bytes.Clone(good), 0),
		"another format":         append([]byte{1}, good[1:]...),
		"nothing in it":          msg(bare...),
		"an entry of nothing":    msg(append(bare, []int{2}, id, 0)...),
		"a short id":             msg(append(bare, []int{2}, id[1:], 1)...),
		"no id":                  msg(append(bare, []int{2}, 0, 1)...),
		"too much used":          msg(append(bare, []int{2}, id, int(MaxUsed)+2)...),
		"an entry of five":       whole([]int{5}, id, 0, 0, 1, "k"),
		"an entry of nine":       whole([]int{9}, id, 0, 0, 1, "k", 7, 0, 0, 0),
		"no cost":                whole([]int{10}, id, 0, 0, 1, "k", 0, 0, 0, 0, 7),
		"no key":                 whole([]int{10}, id, 0, 0, 1, "", 7, 0, 0, 0, 7),
		"apart, and borne":       whole([]int{10}, id, 0, 0, 1, "k", 7, 1, 0, 0, 7),
		"apart of 2":             whole([]int{10}, id, 0, 0, 1, "k", 7, 2, 0, 0, 7),
		"borne by nobody":        msg(5, []int{2}, "l", "n", []int{0}, []int{7}, id, 0, 0, 1, "k", 7, 0),
		"a slot of nothing":      whole([]int{10}, id, 0, 0, 1, "k", 7, 0, 0, 0, 0),
		"a slot twice":           whole([]int{13}, id, 0, 0, 1, "k", 7, 0, 0, 0, 7, 0, 0, 7),
		"a slot too large":       whole([]int{10}, id, 0, 0, 1, "k", 7, 0, 0, 0, 1<<50+1),
		"a name unused":          msg(5, []int{3}, "l", "n", "o", []int{1}, 9, []int{10}, id, 0, 0, 1, "k", 7, 0, 0, 0, 7),
		"a name twice":           msg(5, []int{2}, "l", "l", []int{1}, 9, []int{10}, id, 0, 0, 1, "k", 7, 0, 0, 0, 7),
		"names out of order":     whole([]int{10}, id, 0, 1, 0, "k", 7, 0, 0, 0, 7),
		"a writer not named":     whole([]int{10}, id, 0, 0, 1, "k", 7, 0, 1, 0, 7),
		"a writer twice":         msg(5, []int{2}, "l", "n", []int{2}, 9, 9, []int{13}, id, 0, 0, 1, "k", 7, 0, 0, 0, 7, 1, 0, 7),
		"more writers than room": whole([]int{wholeEntry + 3*(maxBearers+1)}, id, 0, 0, 1, "k", 7, 0),
	} {
		if out, err := unpackReservations(b); !errors.Is(err, ErrBatch) {
			t.Errorf("%s: %v, %v", name, out, err)
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	unpackReservations(whole([]int{wholeEntry + 3*maxBearers}, id, 0, 0, 1, "k", 7, 0))
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 16<<10 {
		t.Errorf("a short message made it allocate %d bytes", n)
	}
}
