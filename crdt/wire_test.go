package crdt

import "testing"

func TestRoundTrip(t *testing.T) {
	rate, err := ParseRate("10")
	if err != nil {
		t.Fatal(err)
	}
	set, err := NewSet(7, []Definition{{Name: "per-user", Capacity: 100 * Token, Rate: rate, MaxBuckets: 10}}, nil, Components{})
	if err != nil {
		t.Fatal(err)
	}
	terms := set.Find("per-user")
	b := NewBucket(terms, 5e9)
	b.Take(terms, 6e9, 3*Token, SlotID{NewWriter("a", 1), 1})
	b.Take(terms, 6.5e9, 3*Token, SlotID{NewWriter("a", 1), 1})
	var p Packer
	p.Reset()
	p.Set(set)
	for range 3 {
		p.Add("per-user", "alice", &b, 6e9, 1000)
	}
	wire := p.Append(nil)
	t.Logf("%d bytes, %x", len(wire), wire)
	var u Unpacker
	if err := u.Open(wire); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		e, err := u.Next()
		if err != nil {
			t.Fatal(err)
		}
		if learnt, lacks := b.Join(&e.Bucket); learnt || lacks || e.Bucket.Value() != b.Value() || string(e.Key) != "alice" {
			t.Fatalf("%+v != %+v", e.Bucket, b)
		}
	}
	if e, err := u.Next(); e != nil || err != nil {
		t.Fatal(e, err)
	}
}

// roundTrips sends a bucket through a batch.
func roundTrips(t testing.TB, b *Bucket) bool {
	var p Packer
	p.Add("l", "k", b, b.Mark, 0)
	var u Unpacker
	if err := u.Open(p.Append(nil)); err != nil {
		t.Fatal(err)
	}
	e, err := u.Next()
	if err != nil {
		t.Fatal(err)
	}
	return equal(&e.Bucket, b)
}
