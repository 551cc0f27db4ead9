package crdt

import "testing"

// Takes on a hot key of one writer, and of six; R moves with every take.
func BenchmarkTake(b *testing.B) {
	for name, writers := range map[string]int{"one writer": 1, "six writers": 6} {
		b.Run(name, func(b *testing.B) {
			tr := terms(100*Token, rate(b, "10"))
			bucket := busy(tr, writers)
			bucket.own = 0
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				bucket.Take(tr, bucket.Mark+1000, Token, SlotID{5, 1})
			}
		})
	}
}

// A take that is refused within one reading of R: what a flood on a dry key costs.
func BenchmarkTakeRefused(b *testing.B) {
	tr := terms(100*Token, rate(b, "1/d"))
	bucket := NewBucket(tr, 0)
	bucket.Take(tr, 0, tr.Capacity, SlotID{5, 1})
	b.ReportAllocs()
	for b.Loop() {
		bucket.Take(tr, second, Token, SlotID{5, 1})
	}
}

func BenchmarkJoin(b *testing.B) {
	tr := terms(100*Token, rate(b, "10"))
	mine, theirs := busy(tr, 6), busy(tr, 6)
	b.ReportAllocs()
	for b.Loop() {
		theirs.slots[3].N++ // news in every join
		theirs.sum--
		mine.Join(&theirs)
	}
}

// A frame of 1,200 bytes, packed and unpacked.
func BenchmarkBatch(b *testing.B) {
	tr := terms(100*Token, rate(b, "10"))
	bucket := busy(tr, 3)
	var p Packer
	var wire []byte
	pack := func() int {
		p.Reset()
		for p.Add("per-user", "user-0123456789a", &bucket, bucket.Mark, 1200) {
		}
		wire = p.Append(wire[:0])
		return p.Entries()
	}
	entries := pack()
	b.Run("pack", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			pack()
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*entries), "ns/entry")
	})
	b.Run("unpack", func(b *testing.B) {
		b.ReportAllocs()
		var u Unpacker
		for b.Loop() {
			if err := u.Open(wire); err != nil {
				b.Fatal(err)
			}
			for {
				e, err := u.Next()
				if err != nil {
					b.Fatal(err)
				}
				if e == nil {
					break
				}
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*entries), "ns/entry")
	})
}
