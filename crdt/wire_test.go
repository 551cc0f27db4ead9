package crdt

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares bytes with testdata/NAME.golden, which holds them in hex.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(hex.EncodeToString(got)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want, _ := hex.DecodeString(strings.TrimSpace(string(text))); !bytes.Equal(got, want) {
		t.Errorf("%s: the format changed; nodes of two versions would not understand each other\ngot  %x\nwant %x", name, got, want)
	}
}

// roundTrips sends a bucket through a batch.
func roundTrips(t testing.TB, b *Bucket) bool {
	var p Packer
	p.Add("l", "k", b, b.Mark, 0)
	buckets, _, err := unpack(p.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	return len(buckets) == 1 && equal(&buckets[0].Bucket, b)
}

// unpack reads a whole batch.
func unpack(batch []byte) (entries []Entry, u *Unpacker, err error) {
	u = new(Unpacker)
	if err := u.Open(batch); err != nil {
		return nil, u, err
	}
	for {
		e, err := u.Next()
		if err != nil || e == nil {
			return entries, u, err
		}
		c := *e
		c.Key = bytes.Clone(e.Key)
		entries = append(entries, c)
	}
}

// busy is a bucket in which writers took and gave back for an hour.
func busy(tr *Terms, writers int) Bucket {
	b := NewBucket(tr, 0)
	for i := range 3600 {
		w := Writer(0x9e3779b97f4a7c15 * uint64(i%writers+1))
		b.own = 0
		b.Take(tr, Instant(i)*second, 7*Token, SlotID{w, 1})
		if i%9 == 0 {
			b.Credit(tr, Instant(i)*second, 2*Token, SlotID{w, 1})
		}
	}
	return b
}

func goldenSet(t testing.TB) *Set {
	user, ip := define(t, "per-user", 100, "10"), define(t, "per-ip", 300, "1000/h")
	user.Backup, user.Key = &Backup{10 * Token, rate(t, "1")}, "header X-User-ID"
	ip.Policy, ip.TTL = Open, 6e11
	s := newSet(t.(failer), 7, nil, 0, user, ip)
	user.Rate = rate(t, "20")
	return newSet(t.(failer), 8, s, 99*second, user, ip)
}

func TestGoldenBytes(t *testing.T) {
	set := goldenSet(t)
	golden(t, "set", set.Bytes())
	var p Packer
	p.Reset()
	p.Set(set)
	tr := set.Find("per-user")
	one, six := busy(tr, 1), busy(tr, 6)
	six.Gen, six.Epoch = 3, 1<<40
	for _, b := range []*Bucket{&one, &six} {
		p.Add("per-user", "alice", b, b.Mark, 1<<20)
	}
	p.Add("per-ip", "192.0.2.1", &one, one.Mark+second, 1<<20)
	golden(t, "batch", p.Append(nil))
}

// What an entry costs on the wire, its share of the dictionaries aside.
func TestSizes(t *testing.T) {
	tr := terms(100*Token, rate(t, "10"))
	const key = "user-0123456789a" // 16 bytes
	for _, c := range []struct{ writers, most int }{{1, 24}, {6, 72}} {
		b := busy(tr, c.writers)
		var p Packer
		p.Add("per-user", key, &b, b.Mark, 1200)
		first := len(p.Append(nil))
		p.Add("per-user", key, &b, b.Mark, 1200)
		size := len(p.Append(nil)) - first
		t.Logf("%d writers: %d bytes without the key, %d with it, %d alone in a batch", c.writers, size-len(key), size, first)
		if size-len(key) > c.most {
			t.Errorf("more than %d bytes", c.most)
		}
	}
}

// Whatever buckets go into a batch come out of it, in order; a batch is as small as promised.
func TestBatchBringsBackWhatWentIn(t *testing.T) {
	var p Packer // one for all: it keeps its memory, and nothing else
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t)
		p.Reset()
		var in []*Bucket
		most := rapid.IntRange(50, 300).Draw(t, "most")
		for range rapid.IntRange(1, 20).Draw(t, "entries") {
			b := h.draw(t)
			if !p.Add("l", fmt.Sprint("key", len(in)), b, second, most) {
				break
			}
			in = append(in, b)
		}
		wire := p.Append(nil)
		if len(wire) > p.Len() || len(in) > 1 && len(wire) > most || p.Entries() != len(in) {
			t.Fatalf("%d bytes, said %d, allowed %d", len(wire), p.Len(), most)
		}
		out, _, err := unpack(wire)
		if err != nil || len(out) != len(in) {
			t.Fatalf("%d entries came back, of %d: %v", len(out), len(in), err)
		}
		for i, e := range out {
			if !equal(&e.Bucket, in[i]) || e.Limit != "l" || string(e.Key) != fmt.Sprint("key", i) {
				t.Fatalf("%+v came back as %+v", in[i], e)
			}
		}
	})
}

// An empty batch is no bytes; one with a set alone is a batch.
func TestBatchOfASetAlone(t *testing.T) {
	var p Packer
	if b := p.Append(nil); b != nil {
		t.Fatalf("%x", b)
	}
	set := goldenSet(t)
	p.Set(set)
	out, u, err := unpack(p.Append(nil))
	if err != nil || len(out) != 0 || !bytes.Equal(u.Set.Bytes(), set.Bytes()) || !u.Set.Same(set) {
		t.Fatalf("%v, %v", out, err)
	}
}
