package node

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
)

var millionSubjects = flag.Bool("million-subjects", false, "ratings of a million subjects instead of 5,000; half a minute, 1 GB")

// fillRatings gives subjects some named votes each, as a peer would.
func fillRatings(t testing.TB, n *Node, subjects, votes int) {
	t.Helper()
	r := rand.New(rand.NewPCG(5, 5))
	now := crdt.StampAt(time.Now())
	var ids []uint32
	for i := range subjects {
		e := crdt.RatingEntry{Subject: fmt.Appendf(nil, "product-%07d", i)}
		for range votes {
			e.Rating.Vote(r.Uint64(), 1-r.IntN(3), now)
		}
		ids, _ = n.joinRating(&e, now, false, ids[:0])
	}
	if got := int(n.ratings.subjects.Load()); got != subjects {
		t.Fatalf("%d subjects, want %d", got, subjects)
	}
}

// What a million subjects cost, and how long a ranking of them takes. With the flag that is what
// issue 6 asks for: top=10 under 5 ms, median of a hundred.
func TestRankingsOfManySubjects(t *testing.T) {
	subjects := 5_000
	if *millionSubjects {
		subjects = 1_000_000
	}
	n := ratingNode(t)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	fillRatings(t, n, subjects, 2)
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := int(after.HeapInuse-before.HeapInuse) / subjects
	t.Logf("%d subjects of two votes: %d bytes each", subjects, each)
	if each > 500 {
		t.Errorf("%d bytes for a subject of two votes, want at most 500", each)
	}
	for _, q := range []struct {
		k      int
		prefix string
	}{{10, ""}, {10, "product-0"}, {10, "product-00123"}, {1000, ""}} {
		took := medianOf(max(1, 1000/q.k), func() {
			if got := n.TopRatings(q.k, q.prefix); len(got) != q.k && q.prefix != "product-00123" {
				t.Fatalf("%d of %d", len(got), q.k)
			}
		})
		t.Logf("top=%d prefix=%q: %v", q.k, q.prefix, took)
		if q.k == 10 && took > 5*time.Millisecond {
			t.Errorf("top=%d prefix=%q took %v, want under 5 ms", q.k, q.prefix, took)
		}
	}
	runtime.KeepAlive(n)
}

func medianOf(times int, do func()) time.Duration {
	took := make([]time.Duration, times)
	for i := range took {
		from := time.Now()
		do()
		took[i] = time.Since(from)
	}
	slices.Sort(took)
	return took[times/2]
}

func BenchmarkRate(b *testing.B) {
	n := ratingNode(b)
	fillRatings(b, n, 20_000, 2)
	ballots := make([]Ballot, 4096)
	for i := range ballots {
		ballots[i] = Ballot{Subject: fmt.Sprintf("product-%07d", i*4), Vote: 1, Rater: fmt.Sprint("rater-", i), Payer: "payer"}
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; b.Loop(); i++ {
		ballot := &ballots[i%len(ballots)]
		ballot.Vote = -ballot.Vote
		if _, err := n.Rate(*ballot); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTopTen(b *testing.B) {
	n := ratingNode(b)
	fillRatings(b, n, 20_000, 2)
	b.ReportAllocs()
	for b.Loop() {
		n.TopRatings(10, "")
	}
}
