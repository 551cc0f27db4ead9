package persist

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gofrs/flock"
	bolt "go.etcd.io/bbolt"
)

func openBolt(t testing.TB, path string) *Bolt {
	t.Helper()
	b, err := OpenBolt(path, BoltConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func put(t testing.TB, s Store, values ...Value) {
	t.Helper()
	if err := s.Put(t.Context(), values); err != nil {
		t.Fatal(err)
	}
}

// holds is what a store has under a prefix, by List and Get, which must agree.
func holds(t testing.TB, s Store, prefix string) map[string]Value {
	t.Helper()
	entries, err := s.List(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]Value{}
	if err := s.Get(t.Context(), entries, func(v Value) error { found[v.Key] = v; return nil }); err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if v, ok := found[e.Key]; !ok || v.Version != e.Version || len(v.Data) != e.Size {
			t.Fatalf("listed %+v, but there is version %d of %d bytes", e, v.Version, len(v.Data))
		}
	}
	return found
}

// bytesOf are some bytes of any value, different for every seed.
func bytesOf(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// storeLaws are what every store that can tell versions apart must do.
func storeLaws(t *testing.T, s Store) {
	t.Run("round trip", func(t *testing.T) {
		binary := bytesOf(70_000, 7)
		put(t, s, Value{Key: "trip:a", Version: 1<<64 - 1, Data: binary}, Value{Key: "trip:b", Version: 1, Data: []byte{}},
			Value{Key: "trap:c", Version: 1, Data: []byte("x")}, Value{Key: "trip:*d", Version: 2, Data: []byte("\x00\xff\r\n")})
		got := holds(t, s, "trip:")
		if len(got) != 3 || !bytes.Equal(got["trip:a"].Data, binary) || got["trip:a"].Version != 1<<64-1 ||
			len(got["trip:b"].Data) != 0 || string(got["trip:*d"].Data) != "\x00\xff\r\n" {
			t.Errorf("%d values: %.200v", len(got), got)
		}
		if got := holds(t, s, "trip:*"); len(got) != 1 {
			t.Errorf("a prefix is no pattern: %d keys", len(got))
		}
		if got := holds(t, s, "none"); len(got) != 0 {
			t.Errorf("%d keys of none", len(got))
		}
		seen := 0
		err := s.Get(t.Context(), []Entry{{Key: "trip:a"}, {Key: "trip:absent"}}, func(Value) error { seen++; return nil })
		if err != nil || seen != 1 {
			t.Errorf("%d of one, %v", seen, err)
		}
		stop := errors.New("stop")
		if err := s.Get(t.Context(), []Entry{{Key: "trip:a"}, {Key: "trip:b"}}, func(Value) error { return stop }); err != stop {
			t.Errorf("each's error became %v", err)
		}
	})
	t.Run("never an older one", func(t *testing.T) {
		for _, seed := range []uint64{1, 2, 3} {
			key := fmt.Sprint("order:", seed)
			versions := []uint64{9, 10, 99, 100, 1 << 40, 1<<63 + 1, 1<<64 - 1}
			r := rand.New(rand.NewPCG(seed, 2))
			r.Shuffle(len(versions), func(i, j int) { versions[i], versions[j] = versions[j], versions[i] })
			highest := uint64(0)
			for _, v := range versions {
				highest = max(highest, v)
				put(t, s, Value{Key: key, Version: v, Data: fmt.Append(nil, v)})
				if got := holds(t, s, key)[key]; got.Version != highest || string(got.Data) != fmt.Sprint(highest) {
					t.Fatalf("seed %d, after %d of %v: holds %d, %q", seed, v, versions, got.Version, got.Data)
				}
			}
		}
	})
	t.Run("deletes only that version", func(t *testing.T) {
		put(t, s, Value{Key: "cas:a", Version: 5, Data: []byte("a")}, Value{Key: "cas:b", Version: 50, Data: []byte("b")})
		for _, v := range []uint64{4, 6, 50} {
			if err := s.Delete(t.Context(), []Entry{{Key: "cas:a", Version: v}, {Key: "cas:absent", Version: v}}); err != nil {
				t.Fatal(err)
			}
		}
		if got := holds(t, s, "cas:"); len(got) != 2 {
			t.Errorf("left: %v", got)
		}
		if err := s.Delete(t.Context(), []Entry{{Key: "cas:a", Version: 5}, {Key: "cas:b"}, {Key: "cas:absent"}}); err != nil {
			t.Fatal(err)
		}
		if got := holds(t, s, "cas:"); len(got) != 0 {
			t.Errorf("left: %v", got)
		}
		put(t, s, Value{Key: "cas:a", Version: 1, Data: []byte("again")}) // what is gone has no version
		if got := holds(t, s, "cas:"); got["cas:a"].Version != 1 {
			t.Errorf("not written again: %v", got)
		}
	})
	t.Run("nothing to do", func(t *testing.T) {
		none := func(Value) error { t.Error("a value"); return nil }
		if err := errors.Join(s.Put(t.Context(), nil), s.Delete(t.Context(), nil), s.Get(t.Context(), nil, none)); err != nil {
			t.Error(err)
		}
	})
	t.Run("a context that has ended", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := s.Put(ctx, []Value{{Key: "late", Version: 1, Data: []byte("x")}})
		if err == nil || KindOf(err) != Failed {
			t.Errorf("%v is %v, want %v: nothing was begun", err, KindOf(err), Failed)
		}
		if got := holds(t, s, "late"); len(got) != 0 {
			t.Error("it was stored")
		}
	})
}

func TestBoltKeepsTheLaws(t *testing.T) {
	storeLaws(t, openBolt(t, filepath.Join(t.TempDir(), "snapshot.db")))
}

func TestBoltHoldsWhatItHeldBeforeItWasClosed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snapshot.db")
	b := openBolt(t, path)
	for i := range 40 {
		put(t, b, Value{Key: fmt.Sprint("k", i%13), Version: uint64(i), Data: bytesOf(100_000, uint64(i))})
	}
	want := holds(t, b, "")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Put(t.Context(), []Value{{Key: "k"}}); err == nil {
		t.Error("a closed store accepts values")
	}
	c := openBolt(t, path)
	got := holds(t, c, "")
	if len(got) != 13 || c.Damaged() != "" {
		t.Fatalf("%d keys; %s", len(got), c.Damaged())
	}
	for key, v := range want {
		if !bytes.Equal(v.Data, got[key].Data) || v.Version != got[key].Version {
			t.Errorf("%s differs", key)
		}
	}
}

func TestASecondProcessIsToldSo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snapshot.db")
	b := openBolt(t, path)
	put(t, b, Value{Key: "k", Version: 1, Data: []byte("x")})
	_, err := OpenBolt(path, BoltConfig{Name: "disk", Lock: time.Millisecond})
	var e *Error
	if !errors.As(err, &e) || e.Kind != Misconfigured || e.Store != "disk" || !strings.Contains(err.Error(), "another process") {
		t.Fatalf("%v", err)
	}
	if got := holds(t, b, ""); len(got) != 1 {
		t.Error("the first one lost its data")
	}
	// In the middle of the other's writing the file may look damaged.
	path = filepath.Join(t.TempDir(), "snapshot.db")
	if err := os.WriteFile(path, []byte("half a page"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := flock.New(path)
	if err := other.Lock(); err != nil {
		t.Fatal(err)
	}
	defer other.Unlock()
	if _, err = OpenBolt(path, BoltConfig{Lock: time.Millisecond}); KindOf(err) != Misconfigured {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("another process's file was moved aside: %v", err)
	}
}

func TestBoltForgetsWhatHasExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "snapshot.db")
		b := openBolt(t, path)
		put(t, b, Value{Key: "short", Version: 9, Data: []byte("x"), TTL: time.Minute}, Value{Key: "ever", Version: 1, Data: []byte("y")},
			Value{Key: "long", Version: 1, Data: []byte("z"), TTL: time.Hour})
		time.Sleep(time.Minute - time.Millisecond)
		if got := holds(t, b, ""); len(got) != 3 {
			t.Fatalf("too early: %v", got)
		}
		time.Sleep(time.Millisecond)
		if err := b.Get(t.Context(), []Entry{{Key: "short"}}, func(v Value) error { return fmt.Errorf("got %v", v) }); err != nil {
			t.Error(err)
		}
		if got := holds(t, b, ""); len(got) != 2 {
			t.Errorf("left: %v", got)
		}
		left := 0
		b.view(t.Context(), "test", func(heads, values *bolt.Bucket) error {
			left = heads.Stats().KeyN + values.Stats().KeyN
			return nil
		})
		if left != 4 {
			t.Errorf("List left %d of what has expired", left-4)
		}
		put(t, b, Value{Key: "short", Version: 2, Data: []byte("again")})
		b.Close()
		time.Sleep(time.Hour)
		b = openBolt(t, path)
		b.view(t.Context(), "test", func(heads, values *bolt.Bucket) error {
			if n := heads.Stats().KeyN + values.Stats().KeyN; n != 4 {
				t.Errorf("%d entries after opening, want those of two keys", n)
			}
			return nil
		})
	})
}

// A thousand rounds that rewrite a MB keep the file within a few of them.
func TestBoltUsesFreePagesAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snapshot.db")
	b := openBolt(t, path)
	b.db.NoSync = true // what is looked at is the size
	data := bytesOf(1<<18, 3)
	for i := range freePageRounds {
		put(t, b, Value{Key: "a", Version: uint64(i), Data: data[i:]}, Value{Key: "b", Version: uint64(i), Data: data[2*i:]},
			Value{Key: "c", Version: uint64(i), Data: data}, Value{Key: fmt.Sprint("d", i%4), Version: uint64(i), Data: data})
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 24<<20 {
		t.Errorf("file of %d MB after %d rounds of 1 MB (1.75 MB live)", info.Size()>>20, freePageRounds)
	}
}

func TestADirectoryThatCannotBeWrittenSaysWhatToDo(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	closed := filepath.Join(dir, "closed")
	if err := os.Mkdir(closed, 0o500); err != nil {
		t.Fatal(err)
	}
	for what, path := range map[string]string{
		"no directory":       filepath.Join(dir, "none", "snapshot.db"),
		"a file in the way":  filepath.Join(file, "snapshot.db"),
		"a directory itself": dir,
		"not writable":       filepath.Join(closed, "snapshot.db"),
	} {
		err := asNobody(t, func() error {
			b, err := OpenBolt(path, BoltConfig{})
			if err == nil {
				b.Close()
			}
			return err
		})
		var e *Error
		if !errors.As(err, &e) || e.Kind != Misconfigured || e.Op != "open" || !strings.Contains(err.Error(), "--data-dir") || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// damage is a way in which files go bad.
var damages = map[string]func(b []byte, r *rand.Rand) []byte{
	"empty pages":     func(b []byte, r *rand.Rand) []byte { clear(b[4096*2:]); return b },
	"cut off":         func(b []byte, r *rand.Rand) []byte { return b[:len(b)/2] },
	"cut to a page":   func(b []byte, r *rand.Rand) []byte { return b[:4096] },
	"cut to one byte": func(b []byte, r *rand.Rand) []byte { return b[:1] },
	// bbolt alone would follow it until memory ends.
	"a page in itself": func(b []byte, r *rand.Rand) []byte {
		for at := 2 * 4096; at < len(b); at += 4096 {
			if native.Uint16(b[at+8:]) == pageBranch {
				native.PutUint64(b[at+pageHead+8:], native.Uint64(b[at:]))
			}
		}
		return b
	},
	"a used page in the free list": func(b []byte, r *rand.Rand) []byte {
		for at := 2 * 4096; at < len(b); at += 4096 {
			if native.Uint16(b[at+8:]) == pageFree && native.Uint16(b[at+10:]) > 0 {
				copy(b[at+pageHead:], b[4096+pageHead+16:][:8]) // the root bucket's page
				copy(b[at+pageHead+8:], b[pageHead+16:][:8])
			}
		}
		return b
	},
	"other text": func(b []byte, r *rand.Rand) []byte { return []byte(strings.Repeat("no database ", 2000)) },
	"noise": func(b []byte, r *rand.Rand) []byte {
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	},
}

func TestADamagedFileIsMovedAsideAndANewOneBegun(t *testing.T) {
	for what, damage := range damages {
		t.Run(what, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "snapshot.db")
			bad := damage(boltFile(t, path), rand.New(rand.NewPCG(1, 1)))
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			b := openBolt(t, path)
			aside, err := filepath.Glob(path + ".damaged-*")
			if err != nil || len(aside) != 1 || !strings.HasPrefix(b.Damaged(), aside[0]) {
				t.Fatalf("aside: %v, told: %q", aside, b.Damaged())
			}
			if kept, err := os.ReadFile(aside[0]); err != nil || !bytes.Equal(kept, bad) {
				t.Errorf("the damaged file was changed: %v", err)
			}
			if got := holds(t, b, ""); len(got) != 0 {
				t.Errorf("the new one holds %v", got)
			}
			put(t, b, Value{Key: "k", Version: 1, Data: []byte("x")})
		})
	}
}

// Rounds of rewriting, deleting and reopening, with values of all sizes: never taken for damage.
func TestAHealthyFileIsNeverMovedAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snapshot.db")
	r := rand.New(rand.NewPCG(5, 5))
	version := uint64(0)
	for round := range 12 {
		b := openBolt(t, path)
		if b.Damaged() != "" {
			t.Fatalf("round %d: %s", round, b.Damaged())
		}
		b.db.NoSync = true
		for range 10 {
			var values []Value
			var gone []Entry
			for range r.IntN(200) {
				version++
				key := fmt.Sprintf("%0*d", 2+r.IntN(60), r.IntN(900))
				size := r.IntN(300)
				if r.IntN(40) == 0 {
					size = r.IntN(200_000)
				}
				values = append(values, Value{Key: key, Version: version, Data: make([]byte, size)})
				gone = append(gone, Entry{Key: fmt.Sprintf("%0*d", 2+r.IntN(60), r.IntN(900))})
			}
			put(t, b, values...)
			if err := b.Delete(t.Context(), gone); err != nil {
				t.Fatal(err)
			}
		}
		b.Close()
	}
}

// boltFile makes a file of several pages and returns its bytes.
func boltFile(t testing.TB, path string) []byte {
	t.Helper()
	b := openBolt(t, path)
	b.db.NoSync = true
	for round := range 3 {
		for i := range 60 {
			put(t, b, Value{Key: fmt.Sprintf("rating_bucket:%02d:edge-1:%016x", i, i), Version: uint64(round + 1), Data: bytesOf(100*i, uint64(i))})
		}
	}
	b.Close()
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return good
}

// Some bytes overwritten anywhere: the process goes on, and what is read back was written, or
// is damage that a segment's checksum finds; never a value of another key or version.
func TestNoisyPagesNeverEndTheProcess(t *testing.T) {
	dir := t.TempDir()
	good := boltFile(t, filepath.Join(dir, "good.db"))
	aside := 0
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 3))
		bad := bytes.Clone(good)
		for range 1 + r.IntN(20) {
			at := r.IntN(len(bad) - 8)
			if r.IntN(2) == 0 { // near the head of a page, where its structure is
				at = at/4096*4096 + r.IntN(64)
			}
			for i := range 1 + r.IntN(8) {
				bad[at+i] = byte(r.Uint32())
			}
		}
		path := filepath.Join(dir, fmt.Sprintf("%d.db", seed))
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := OpenBolt(path, BoltConfig{})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if b.Damaged() != "" {
			aside++
		}
		entries, err := b.List(t.Context(), "")
		err = errors.Join(err, b.Get(t.Context(), entries, func(Value) error { return nil }),
			b.Put(t.Context(), []Value{{Key: "k", Version: 1, Data: bytesOf(50_000, seed)}}))
		if err != nil {
			t.Logf("seed %d: %v", seed, err)
		}
		b.Close()
	}
	t.Logf("%d of 100 moved aside", aside)
	if aside < 20 {
		t.Error("almost no damage was found")
	}
}

func TestOnlyTheNewestDamagedFilesAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snapshot.db")
	var last []byte
	for i := range 6 {
		last = fmt.Appendf(nil, "%d%s", i, strings.Repeat(" garbage", 2000))
		if err := os.WriteFile(path, last, 0o600); err != nil {
			t.Fatal(err)
		}
		openBolt(t, path).Close()
	}
	aside, err := filepath.Glob(path + ".damaged-*")
	if err != nil || len(aside) != keepDamaged {
		t.Fatalf("%v, %v", aside, err)
	}
	if b, err := os.ReadFile(slices.Max(aside)); err != nil || !bytes.Equal(b, last) {
		t.Errorf("the newest is gone: %v", err)
	}
}

func TestAFileOfAnotherProgramOrVersionIsLeftAlone(t *testing.T) {
	for what, change := range map[string]func(tx *bolt.Tx) error{
		"another program": func(tx *bolt.Tx) error {
			_, err := tx.CreateBucket([]byte("theirs"))
			return errors.Join(err, tx.DeleteBucket(boltMeta))
		},
		"a newer format": func(tx *bolt.Tx) error { return tx.Bucket(boltMeta).Put(boltKey, []byte{2}) },
	} {
		path := filepath.Join(t.TempDir(), "snapshot.db")
		b := openBolt(t, path)
		if err := b.db.Update(change); err != nil {
			t.Fatal(err)
		}
		b.Close()
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = OpenBolt(path, BoltConfig{})
		if KindOf(err) != Misconfigured {
			t.Errorf("%s: %v", what, err)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s: the file was changed, %v", what, err)
		}
	}
}

func BenchmarkBoltPut64MB(b *testing.B) {
	s := openBolt(b, filepath.Join(b.TempDir(), "snapshot.db"))
	benchPut(b, s)
}

// benchPut writes 64 values of 1 MB a round, as a full snapshot does.
func benchPut(b *testing.B, s Store) {
	values := make([]Value, 64)
	for i := range values {
		values[i] = Value{Key: fmt.Sprintf("rating_bucket:%02d:edge-1:%016x", i, 1), Data: bytesOf(1_000_000, uint64(i)), TTL: time.Hour}
	}
	b.SetBytes(64_000_000)
	b.ReportAllocs()
	version := uint64(0)
	for b.Loop() {
		version++
		for i := range values {
			values[i].Version = version
		}
		put(b, s, values...)
	}
}

// A disk that loses pages under a running store: an error that says so, and a Close that ends.
func TestAFileCutOffUnderARunningStoreIsAnErrorAndNoCrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snapshot.db")
	b := openBolt(t, path)
	var keys []Entry
	b.db.NoSync = true
	for i := range 20 {
		key := fmt.Sprint("k", i)
		keys = append(keys, Entry{Key: key})
		put(t, b, Value{Key: key, Version: 1, Data: bytesOf(50_000, uint64(i))})
	}
	if err := os.Truncate(path, 2*4096); err != nil {
		t.Fatal(err)
	}
	err := b.Get(t.Context(), keys, func(Value) error { return nil })
	if KindOf(err) != Failed || !strings.Contains(fmt.Sprint(err), "restart") {
		t.Errorf("%v", err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if b = openBolt(t, path); !strings.Contains(b.Damaged(), "cut off") {
		t.Errorf("told %q", b.Damaged())
	}
}
