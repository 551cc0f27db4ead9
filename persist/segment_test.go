package persist

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files anew")

func someSegment() *Segment {
	return &Segment{
		Name: "07", Part: 2, Cluster: "openclaw", Node: "edge-1.eu", Incarnation: 0xf3a91c5be02d47, Sequence: 300,
		Time: time.UnixMilli(1_763_800_000_123).UTC(), Clock: []byte{1, 2, 3}, Payload: []byte("what the buckets are\x00\xff"),
	}
}

func encode(t interface{ Fatal(...any) }, s *Segment) []byte {
	b, err := s.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sealed gives a changed segment a right checksum, so that decoding comes past it.
func sealed(b []byte) []byte {
	body := len(b) - segmentSum
	return binary.BigEndian.AppendUint64(b[:body:body], xxhash.Sum64(b[:body]))
}

func equalSegments(a, b *Segment) bool {
	x, y := *a, *b
	same := x.Time.Equal(y.Time) && bytes.Equal(x.Clock, y.Clock) && bytes.Equal(x.Payload, y.Payload)
	return same && x.Name == y.Name && x.Part == y.Part && x.Cluster == y.Cluster && x.Node == y.Node &&
		x.Incarnation == y.Incarnation && x.Sequence == y.Sequence
}

func drawSegment(t *rapid.T) *Segment {
	return &Segment{
		Name:        rapid.StringMatching(`[A-Za-z0-9_-]{1,64}`).Draw(t, "name"),
		Part:        rapid.IntRange(0, maxPart).Draw(t, "part"),
		Cluster:     rapid.StringMatching(`[A-Za-z0-9_.-]{1,128}`).Draw(t, "cluster"),
		Node:        rapid.StringMatching(`[A-Za-z0-9_.-]{1,128}`).Draw(t, "node"),
		Incarnation: rapid.Uint64().Draw(t, "incarnation"),
		Sequence:    rapid.Uint64().Draw(t, "sequence"),
		Time:        time.UnixMilli(rapid.Int64Range(0, maxTime).Draw(t, "ms")),
		Clock:       rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "clock"),
		Payload:     rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "payload"),
	}
}

func TestSegmentsAndKeysSurviveTheRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSegment(t)
		before := []byte("before")
		b, err := s.Append(bytes.Clone(before))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(b, before) {
			t.Fatalf("what stood before is gone: %q", b)
		}
		got, err := DecodeSegment(b[len(before):])
		if err != nil {
			t.Fatal(err)
		}
		if !equalSegments(s, got) {
			t.Fatalf("%+v became %+v", s, got)
		}
		prefix := rapid.StringMatching(`[A-Za-z0-9_-]{1,64}`).Draw(t, "prefix")
		text := SegmentKey(prefix, s)
		key, err := ParseKey(text)
		if want := (Key{prefix, s.Name, s.Node, s.Incarnation, s.Part}); err != nil || key != want {
			t.Fatalf("%s is read as %+v, %v", text, key, err)
		}
		if len(text) > 512 {
			t.Fatalf("key of %d bytes", len(text))
		}
	})
}

// A change of these bytes is a change of format: old snapshots must stay readable.
func TestGoldenSegment(t *testing.T) {
	const file = "testdata/segment.golden"
	got := hex.Dump(encode(t, someSegment()))
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("encoded differently:\n%swant\n%s", got, want)
	}
	const key = "rating_bucket:07:edge-1.eu:00f3a91c5be02d47.2"
	if got := SegmentKey("rating_bucket", someSegment()); got != key {
		t.Errorf("key %s, want %s", got, key)
	}
}

func TestEveryFlippedBitAndEveryCutIsDamage(t *testing.T) {
	b := encode(t, someSegment())
	for i := range len(b) * 8 {
		c := bytes.Clone(b)
		c[i/8] ^= 1 << (i % 8)
		if s, err := DecodeSegment(c); !errors.Is(err, ErrDamaged) {
			t.Fatalf("bit %d flipped: %+v, %v", i, s, err)
		}
	}
	for n := range b {
		if s, err := DecodeSegment(b[:n]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut to %d bytes: %+v, %v", n, s, err)
		}
	}
	if _, err := DecodeSegment(append(b, 0)); !errors.Is(err, ErrDamaged) {
		t.Errorf("one byte more: %v", err)
	}
}

// Whatever a later format puts behind its number, this version says that it is newer.
func TestANewerFormatIsRefusedByName(t *testing.T) {
	for _, body := range []string{"\x02", "\x02whatever", "\xcc\xff\x93\x01\x02\x03", "\xcd\x01\x00"} {
		b := sealed([]byte(segmentMagic + body + "12345678"))
		_, err := DecodeSegment(b)
		if !errors.Is(err, ErrNewer) || errors.Is(err, ErrDamaged) {
			t.Errorf("%q: %v", body, err)
			continue
		}
		if !strings.Contains(err.Error(), "reads up to 1") {
			t.Errorf("%v does not say what this version reads", err)
		}
		b[len(b)-1] ^= 1
		if _, err := DecodeSegment(b); !errors.Is(err, ErrDamaged) {
			t.Errorf("a newer one with a flipped bit: %v", err)
		}
	}
	if _, err := DecodeSegment(sealed([]byte(segmentMagic + "\x00" + "12345678"))); !errors.Is(err, ErrDamaged) {
		t.Errorf("format 0: %v", err)
	}
}

// The checksum is right in all of these: only the form is not the encoder's.
func TestOnlyTheEncodersFormIsAccepted(t *testing.T) {
	whole := encode(t, someSegment())
	body := string(whole[:len(whole)-segmentSum])
	for what, b := range map[string]string{
		"a number in a longer form":  strings.Replace(body, "\xa207\x02", "\xa207\xcc\x02", 1),
		"a string in a longer form":  strings.Replace(body, "\xa8openclaw", "\xd9\x08openclaw", 1),
		"bytes in place of a string": strings.Replace(body, "\xa8openclaw", "\xc4\x08openclaw", 1),
		"a float for a number":       strings.Replace(body, "\xa207\x02", "\xa207\xca\x40\x00\x00\x00", 1),
		"nil for a string":           strings.Replace(body, "\xa207", "\xc0", 1),
		"an impossible name":         strings.Replace(body, "\xa207", "\xa2:7", 1),
		"bytes behind the payload":   body + "\x00",
		"a length without its bytes": strings.Replace(body, "\xc4\x16what", "\xc6\xff\xff\xff\xffwhat", 1),
		"a huge name":                strings.Replace(body, "\xa207", "\xdb\x7f\xff\xff\xff07", 1),
	} {
		if b == body {
			t.Errorf("%s: the test changed nothing", what)
		}
		c := sealed([]byte(b + "12345678"))
		var err error
		allocated := testing.AllocsPerRun(1, func() { _, err = DecodeSegment(c) })
		if !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
		if allocated > 100 {
			t.Errorf("%s: %v allocations", what, allocated)
		}
	}
}

func TestWhatCannotBeReadIsNotWritten(t *testing.T) {
	for what, change := range map[string]func(*Segment){
		"no name":           func(s *Segment) { s.Name = "" },
		"a colon":           func(s *Segment) { s.Name = "a:b" },
		"a dot in the name": func(s *Segment) { s.Name = "a.b" },
		"part -1":           func(s *Segment) { s.Part = -1 },
		"part 65536":        func(s *Segment) { s.Part = maxPart + 1 },
		"no cluster":        func(s *Segment) { s.Cluster = "" },
		"a slash":           func(s *Segment) { s.Node = "a/b" },
		"a long node":       func(s *Segment) { s.Node = strings.Repeat("n", 129) },
		"no time":           func(s *Segment) { s.Time = time.Time{} },
		"a big clock":       func(s *Segment) { s.Clock = make([]byte, MaxClock+1) },
		"a big payload":     func(s *Segment) { s.Payload = make([]byte, MaxPayload+1) },
	} {
		s := someSegment()
		change(s)
		if b, err := s.Append(nil); err == nil || len(b) > 0 {
			t.Errorf("%s: written as %d bytes", what, len(b))
		}
	}
}

// The largest of everything stays a value that stores take: as base64 text under 4 MiB.
func TestTheLargestSegmentFits(t *testing.T) {
	s := &Segment{
		Name: strings.Repeat("s", 64), Part: maxPart, Cluster: strings.Repeat("c", 128), Node: strings.Repeat("n", 128),
		Incarnation: 1<<64 - 1, Sequence: 1<<64 - 1, Time: time.UnixMilli(maxTime),
		Clock: make([]byte, MaxClock), Payload: make([]byte, MaxPayload),
	}
	b := encode(t, s)
	if len(b) > MaxSegment || (len(b)+2)/3*4 >= 4<<20 {
		t.Errorf("%d bytes", len(b))
	}
	if got, err := DecodeSegment(b); err != nil || !equalSegments(s, got) {
		t.Errorf("not read back: %v", err)
	}
	if key := SegmentKey(strings.Repeat("p", 64), s); len(key) != 281 {
		t.Errorf("key of %d bytes", len(key))
	}
}

func TestParseKeyReadsOnlyKeys(t *testing.T) {
	for _, text := range []string{
		"", "rating_bucket", "rating_bucket:07:edge-1", "rating_bucket:07:edge-1:1",
		"rating_bucket:07:edge-1:00F3A91C5BE02D47", "rating_bucket:07:edge-1:00f3a91c5be02d47.0",
		"rating_bucket:07:edge-1:00f3a91c5be02d47.01", "rating_bucket:07:edge-1:00f3a91c5be02d47.65536",
		"rating_bucket:07:edge-1:00f3a91c5be02d47.", "rating_bucket:07:edge-1:00f3a91c5be02d47:2",
		"rating_bucket:07:edge 1:00f3a91c5be02d47", ":07:edge-1:00f3a91c5be02d47",
		"rating_bucket:07:edge-1:00f3a91c5be02d47\n",
	} {
		if k, err := ParseKey(text); err == nil {
			t.Errorf("%q is read as %+v", text, k)
		}
	}
}

func FuzzSegment(f *testing.F) {
	f.Add(encode(f, someSegment()))
	f.Add([]byte(segmentMagic + "\x0212345678"))
	f.Add(encode(f, &Segment{Name: "limits", Cluster: "c", Node: "n", Time: time.UnixMilli(0)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < segmentSum {
			return
		}
		for _, b := range [][]byte{b, sealed(b)} {
			s, err := DecodeSegment(b)
			if err != nil {
				if errors.Is(err, ErrDamaged) == errors.Is(err, ErrNewer) {
					t.Fatalf("neither damaged nor newer: %v", err)
				}
				continue
			}
			again, err := s.Bytes()
			if err != nil || !bytes.Equal(again, b) {
				t.Fatalf("accepted %x, but writes %x, %v", b, again, err)
			}
			if key, err := ParseKey(SegmentKey("p", s)); err != nil || key.Segment != s.Name {
				t.Fatalf("key %s: %v", SegmentKey("p", s), err)
			}
		}
	})
}

func FuzzKey(f *testing.F) {
	f.Add("rating_bucket:07:edge-1:00f3a91c5be02d47.2")
	f.Fuzz(func(t *testing.T, text string) {
		if k, err := ParseKey(text); err == nil && k.String() != text {
			t.Fatalf("%q is read as %+v", text, k)
		}
	})
}

func BenchmarkDecodeSegment(b *testing.B) {
	s := someSegment()
	s.Payload = make([]byte, 1<<20)
	enc := encode(b, s)
	b.SetBytes(int64(len(enc)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeSegment(enc); err != nil {
			b.Fatal(err)
		}
	}
}
