package gossip

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// sample is a frame with every section.
func sample() *frame {
	return &frame{
		head: head{flags: flagSynced, cluster: clusterHash("openclaw"), node: "edge-1", writer: 0x1122334455667788,
			counter: 3, to: 0x99, seq: 1000, sent: 123456789, wall: 1_700_000_000_000_000, echo: 77, hold: 1000,
			roster: 0xfeedfacecafebeef, vector: []mark{{0x10, 5}, {0x99, 1 << 40}}, header: []byte("header")},
		entries: []entry{
			{Node: "edge-1", Region: "eu-west", Addr: "10.0.0.1:7946", Writer: 0x1122334455667788, Counter: 3},
			{Node: "edge-2", Region: "us-east", Addr: "[fd00::2]:7946", Writer: 0x99, Counter: 2, State: Left},
		},
		behind:     true,
		want:       &want{id: 9, base: 300, mask: 5},
		deltas:     []delta{{0x10, 4, 9, []byte("items")}, {0x99, 0, 1, []byte{}}},
		chunk:      &chunk{id: 9, n: 300, last: true, vector: []mark{{0x10, 5}}, payload: []byte("more items")},
		auditAsk:   &auditAsk{id: 8, point: []byte("now"), sums: []uint64{1, 2, 3}},
		auditTell:  &auditTell{id: 8, point: []byte("now"), ranges: []uint64{0, 7}, payload: []byte("mine")},
		auditItems: []byte("yours"),
	}
}

// encode writes all that f holds.
func encode(f *frame) []byte {
	b := appendHead(nil, &f.head)
	if f.entries != nil {
		b = appendSection(b, kindRoster, appendEntries(nil, f.entries))
	}
	if f.behind {
		b = appendSection(b, kindBehind, "")
	}
	if f.want != nil {
		b = appendSection(b, kindWant, appendWant(nil, f.want))
	}
	for i := range f.deltas {
		b = appendSection(b, kindDelta, appendDelta(nil, &f.deltas[i]))
	}
	if f.chunk != nil {
		b = appendSection(b, kindChunk, appendChunk(nil, f.chunk))
	}
	if f.auditAsk != nil {
		b = appendSection(b, kindAuditAsk, appendAuditAsk(nil, f.auditAsk))
	}
	if f.auditTell != nil {
		b = appendSection(b, kindAuditTell, appendAuditTell(nil, f.auditTell))
	}
	if f.auditItems != nil {
		b = appendSection(b, kindAuditItems, f.auditItems)
	}
	return seal(b)
}

func TestFrameGolden(t *testing.T) {
	file := filepath.Join("testdata", "frame.golden")
	got := encode(sample())
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, golden) {
		t.Errorf("the wire format has changed: a new frameFormat, then -update\ngot  %x\nwant %x", got, golden)
	}
	f, err := decodeFrame(golden)
	if err != nil {
		t.Fatal(err)
	}
	if again := encode(f); !bytes.Equal(again, golden) {
		t.Errorf("decoded and encoded again:\ngot  %x\nwant %x", again, golden)
	}
}

func TestEveryDamagedFrameIsRefused(t *testing.T) {
	good := encode(sample())
	for i := range good {
		if _, err := decodeFrame(good[:i]); err == nil {
			t.Errorf("taken: the first %d bytes", i)
		}
		bad := bytes.Clone(good)
		bad[i] ^= 0x40
		if _, err := decodeFrame(bad); err == nil {
			t.Errorf("taken: byte %d flipped", i)
		}
	}
}

func TestLongVarintsAreRefused(t *testing.T) {
	for _, b := range [][]byte{{0x80, 0}, {0x81, 0}, {0xff, 0x80, 0}} {
		if r := (reader{b: b}); r.uvarint() != 0 || !r.bad {
			t.Errorf("taken: %x", b)
		}
	}
}

// FuzzDecodeFrame: no input crashes the decoder, and what it takes is what an encoder wrote.
// The fuzzer's input gets a right checksum, else it would never come past it.
func FuzzDecodeFrame(f *testing.F) {
	whole := encode(sample())
	f.Add(whole[:len(whole)-crcSize])
	bare := encode(&frame{head: sample().head})
	f.Add(bare[:len(bare)-crcSize])
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = decodeFrame(b)
		sealed := seal(bytes.Clone(b))
		got, err := decodeFrame(sealed)
		if err != nil {
			return
		}
		if again := encode(got); !bytes.Equal(again, sealed) {
			t.Errorf("took  %x\nwrote %x", sealed, again)
		}
	})
}

func FuzzDecodeRoster(f *testing.F) {
	f.Add([]byte(`{"format":1,"cluster":"c","sum":0,"entries":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		es, err := decodeRoster(b, "c")
		if err != nil {
			return
		}
		r := make(roster)
		r.join(es)
	})
}

// BenchmarkFrame packs, sends nowhere and takes in a full packet.
func BenchmarkFrame(b *testing.B) {
	f := sample()
	f.entries, f.chunk, f.auditAsk, f.auditTell, f.auditItems = nil, nil, nil, nil, nil
	f.deltas = []delta{{0x10, 4, 9, make([]byte, 900)}}
	wire := encode(f)
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(wire)))
		buf := make([]byte, 0, maxPacket)
		body := make([]byte, 0, maxPacket)
		for b.Loop() {
			body = appendDelta(body[:0], &f.deltas[0])
			buf = seal(appendSection(appendHead(buf[:0], &f.head), kindDelta, body))
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(wire)))
		for b.Loop() {
			if _, err := decodeFrame(wire); err != nil {
				b.Fatal(err)
			}
		}
	})
}
