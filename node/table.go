package node

import (
	"hash/maphash"
	"math"
	"strings"
	"sync"

	"github.com/openclaw/edge/crdt"
)

const (
	shardBits = 6 // more would push each other out of the caches: five lines are read of each
	shards    = 1 << shardBits
	localBits = 32 - shardBits // of an id: the place within its shard
	localMask = 1<<localBits - 1
	chunkSize = 256 // entries allocated at once
	evictTry  = 16  // buckets looked at for one that is full, when memory is short
)

// table holds the buckets. An id names a place in it: shard in the upper bits, place in the
// shard (from 1) in the lower; 0 is no bucket's id. Ids are reused after an eviction, which
// harms nobody: an id noted earlier then merely sends another bucket along.
//
// A shard's index is open addressing over words of (tag, place), the entries lie in chunks
// that never move. A bucket with a 16-byte key and one writer costs some 160 bytes.
type table struct {
	shards [shards]shard // first, so that each begins a cache line
	seed   maphash.Seed
}

// A shard is three cache lines. A take of a known key needs the first only, and the second
// when it is the first since the last round to change the bucket.
type shard struct {
	mu     sync.Mutex // guards everything below; never held across I/O or a channel
	index  []uint64   // tag<<32 | place; 0: free
	chunks []*[chunkSize]entry
	recent recent

	dirty []uint32 // places changed here since the last drain, each once
	tally []tally  // by limit
	next  uint32   // places below were used before
	hand  uint32   // where the search for a full bucket goes on
	live  int

	backup map[uint32]allowance
	free   []uint32            // places to reuse
	echoes map[uint32]struct{} // places that some peer lacks something of, to be told in time
	_      [24]byte
}

// An entry is two cache lines, and begins one, as chunks are large objects of the heap. A
// take that is refused needs the first only.
type entry struct {
	key     string
	limit   uint16 // Limit.Index
	segment uint8  // that it is kept in, as persist numbers them; 0: nobody lives here
	dirty   bool
	tag     uint32
	crdt.Bucket
	room [1]crdt.Slot // of the bucket, while it knows one writer only: most never know another
}

func (e *entry) live() bool { return e.segment != 0 }

// tally counts one limit's events in one shard, under the shard's lock: counting costs the
// hot path no shared cache line.
type tally struct {
	allowed, rejected, backup, overflow uint64
	evictedFull, evictedMemory          uint64
}

// recent holds what is not in the tally yet: takes of the limit last taken from. It lies in the
// lock's cache line, where counting costs next to nothing.
type recent struct{ limit, allowed, rejected uint16 }

func (s *shard) allow(limit int) {
	if int(s.recent.limit) != limit || s.recent.allowed == math.MaxUint16 {
		s.settle(limit)
	}
	s.recent.allowed++
}

func (s *shard) reject(limit int) {
	if int(s.recent.limit) != limit || s.recent.rejected == math.MaxUint16 {
		s.settle(limit)
	}
	s.recent.rejected++
}

// settle brings the tally up to date; recent is a limit's from now on.
func (s *shard) settle(limit int) {
	if t := &s.recent; t.allowed|t.rejected != 0 {
		s.tally[t.limit].allowed += uint64(t.allowed)
		s.tally[t.limit].rejected += uint64(t.rejected)
	}
	s.recent = recent{limit: uint16(limit)}
}

func newTable() *table {
	t := &table{seed: maphash.MakeSeed()}
	for i := range t.shards {
		s := &t.shards[i]
		s.index = make([]uint64, 16)
		s.next = 1
	}
	return t
}

// hash is seeded: a stranger cannot aim at one shard. Upper bits choose it, lower are the tag.
func (t *table) hash(limit uint16, key string) uint64 {
	return maphash.String(t.seed, key) ^ (uint64(limit)+1)*0x9e3779b97f4a7c15
}

func (t *table) shard(hash uint64) *shard { return &t.shards[hash>>(64-shardBits)] }

func shardNumber(hash uint64) int { return int(hash >> (64 - shardBits)) }

// at is the entry at a place, which must have been used before.
func (s *shard) at(place uint32) *entry {
	return &s.chunks[place/chunkSize][place%chunkSize]
}

// find looks a key up; nil and 0 if it is not there.
func (s *shard) find(hash uint64, limit uint16, key string) (*entry, uint32) {
	tag := uint32(hash)
	mask := uint32(len(s.index) - 1)
	for i := tag & mask; s.index[i] != 0; i = (i + 1) & mask {
		if uint32(s.index[i]>>32) != tag {
			continue
		}
		place := uint32(s.index[i])
		if e := s.at(place); e.limit == limit && e.key == key {
			return e, place
		}
	}
	return nil, 0
}

// insert adds a key that is not there, with a copy of the key. It returns nil when the
// shard is full, at 32 million buckets.
func (s *shard) insert(hash uint64, l *Limit, key string, b crdt.Bucket) (*entry, uint32) {
	var place uint32
	if n := len(s.free); n > 0 {
		place = s.free[n-1]
		s.free = s.free[:n-1]
	} else {
		if s.next >= ratingItem {
			return nil, 0
		}
		place = s.next
		s.next++
		if int(place/chunkSize) == len(s.chunks) {
			s.chunks = append(s.chunks, new([chunkSize]entry))
		}
	}
	if (s.live+1)*4 > len(s.index)*3 {
		s.grow()
	}
	e := s.at(place)
	*e = entry{key: strings.Clone(key), limit: uint16(l.Index), segment: uint8(1 + l.segmentOf(key)), dirty: e.dirty, tag: uint32(hash), Bucket: b}
	e.Bucket.Settle(e.room[:])
	s.link(e.tag, place)
	s.live++
	return e, place
}

func (s *shard) link(tag, place uint32) {
	mask := uint32(len(s.index) - 1)
	i := tag & mask
	for s.index[i] != 0 {
		i = (i + 1) & mask
	}
	s.index[i] = uint64(tag)<<32 | uint64(place)
}

func (s *shard) grow() {
	old := s.index
	s.index = make([]uint64, 2*len(old))
	for _, w := range old {
		if w != 0 {
			s.link(uint32(w>>32), uint32(w))
		}
	}
}

// remove forgets the bucket at a place. Its dirty mark stays with the place.
func (s *shard) remove(place uint32) {
	e := s.at(place)
	mask := uint32(len(s.index) - 1)
	i := e.tag & mask
	for uint32(s.index[i]) != place {
		i = (i + 1) & mask
	}
	// Close the gap: move back every later word of the run that may stand here.
	for j := (i + 1) & mask; s.index[j] != 0; j = (j + 1) & mask {
		home := uint32(s.index[j]>>32) & mask
		if (j-home)&mask >= (j-i)&mask {
			s.index[i] = s.index[j]
			i = j
		}
	}
	s.index[i] = 0
	*e = entry{dirty: e.dirty}
	delete(s.backup, place)
	s.free = append(s.free, place)
	s.live--
}

// touch notes that this node changed the bucket, so that the next round sends it.
func (s *shard) touch(e *entry, place uint32) {
	if !e.dirty {
		e.dirty = true
		s.dirty = append(s.dirty, place)
	}
}

// tellEchoes makes the buckets that some peer lacks something of dirty.
func (s *shard) tellEchoes() {
	for place := range s.echoes {
		if e := s.at(place); e.live() {
			s.touch(e, place)
		}
	}
	s.echoes = nil
}

// stride is how many places a walk looks at between taking a lock and giving it back: so few
// that a take that waits for it need not be put to sleep.
const stride = 64

// walk calls f for every live bucket, under its shard's lock. It goes from shard to shard
// after each stride: who waits for one gets it long before the walk is back. What comes
// or goes meanwhile f may miss.
func (t *table) walk(f func(shard int, e *entry, place uint32)) {
	for from, more := uint32(0), true; more; from += stride {
		more = false
		for i := range t.shards {
			further := t.shards[i].walk(from, func(e *entry, place uint32) { f(i, e, place) })
			more = more || further
		}
	}
}

// walk is one stride from a place on. It tells whether there are places behind it.
func (s *shard) walk(from uint32, f func(e *entry, place uint32)) (more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for place := max(1, from); place < min(s.next, from+stride); place++ {
		if e := s.at(place); e.live() {
			f(e, place)
		}
	}
	return from+stride < s.next
}

// each calls f for every live bucket of the shard, under its lock; f may remove it.
func (s *shard) each(f func(e *entry, place uint32)) {
	for place := uint32(1); place < s.next; place++ {
		if e := s.at(place); e.live() {
			f(e, place)
		}
	}
}
