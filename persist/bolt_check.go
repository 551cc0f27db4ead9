package persist

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// checkBolt finds damage in a file of bbolt's before bbolt reads it. bbolt trusts all pages
// but its two meta pages: one that points to itself is followed until memory ends, a wild page
// number is a fault, and a wrong list of free pages destroys what is still whole. It reads
// what bbolt would: the newer meta page that is whole, and from there every page once.
//
//	page     id (8) · flags (2) · count (2) · pages that follow and belong to it (4) · elements
//	branch   count × [position of the key, from here (4) · its length (4) · page (8)]
//	leaf     count × [flags (4) · position of key and value (4) · their lengths (4, 4)]
//	bucket   a leaf's value: root page (8), 0: the page itself follows · sequence (8)
//	meta     magic (4) · 2 (4) · page size (4) · flags (4) · root bucket (16) · page of the free
//	         list (8) · number of pages (8) · transaction (8) · FNV-1a of what is before (8)
//
// Numbers are in the machine's byte order.
func checkBolt(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() == 0 {
		return nil // a new one, or bbolt's to refuse
	}
	c := &boltCheck{file: f, size: info.Size()}
	if err := c.meta(); err != nil {
		return err
	}
	if c.pages > uint64(c.size)/c.pageSize {
		return fmt.Errorf("%w: %d pages of %d", errCutOff, uint64(c.size)/c.pageSize, c.pages)
	}
	c.used = make([]bool, c.pages)
	if err := c.bucket(c.root); err != nil {
		return err
	}
	return c.freePages()
}

var (
	errNotBolt = errors.New("not a snapshot file, or damaged")
	errCutOff  = errors.New("cut off")
)

const (
	pageHead   = 16
	element    = 16
	pageBranch = 0x01
	pageLeaf   = 0x02
	pageFree   = 0x10
	leafBucket = 0x01

	boltMagic   = 0xED0CDAED
	boltVersion = 2
	noFreeList  = 1<<64 - 1
)

var native = binary.NativeEndian

type boltCheck struct {
	file                        io.ReaderAt
	size                        int64
	pageSize, pages, root, free uint64
	transaction                 uint64
	used                        []bool
}

func damagedPage(id uint64, what string) error {
	return fmt.Errorf("%w: page %d: %s", errNotBolt, id, what)
}

func (c *boltCheck) meta() error {
	if c.try(0); c.pageSize != 0 {
		c.try(int64(c.pageSize))
	} else { // the second one's place is not known
		for at := int64(1 << 10); at <= 1<<24 && c.pageSize == 0; at *= 2 {
			c.try(at)
		}
	}
	if c.pageSize == 0 {
		return fmt.Errorf("%w: no valid meta page", errNotBolt)
	}
	return nil
}

// try takes the meta page at that place if it is whole and newer.
func (c *boltCheck) try(at int64) {
	b := make([]byte, pageHead+64)
	if _, err := c.file.ReadAt(b, at); err != nil {
		return
	}
	b = b[pageHead:]
	sum := fnv.New64a()
	sum.Write(b[:56])
	size := uint64(native.Uint32(b[8:]))
	whole := native.Uint32(b) == boltMagic && native.Uint32(b[4:]) == boltVersion && native.Uint64(b[56:]) == sum.Sum64()
	if !whole || size < 1<<10 || size > 1<<24 || at != 0 && uint64(at) != size {
		return
	}
	if newest := native.Uint64(b[48:]); c.pageSize == 0 || newest > c.transaction {
		c.transaction, c.pageSize = newest, size
		c.root, c.free, c.pages = native.Uint64(b[16:]), native.Uint64(b[32:]), native.Uint64(b[40:])
	}
}

// page reads a page with those that belong to it, which nothing else may refer to.
func (c *boltCheck) page(id uint64) (b []byte, flags uint16, err error) {
	if id < 2 || id >= c.pages {
		return nil, 0, damagedPage(id, "no such page")
	}
	head := make([]byte, pageHead)
	if _, err := c.file.ReadAt(head, int64(id*c.pageSize)); err != nil {
		return nil, 0, err
	}
	more := uint64(native.Uint32(head[12:]))
	if native.Uint64(head) != id || id+more >= c.pages {
		return nil, 0, damagedPage(id, "wrong head")
	}
	for i := id; i <= id+more; i++ {
		if c.used[i] {
			return nil, 0, damagedPage(i, "used twice")
		}
		c.used[i] = true
	}
	b = make([]byte, (more+1)*c.pageSize)
	if _, err := c.file.ReadAt(b, int64(id*c.pageSize)); err != nil {
		return nil, 0, err
	}
	return b, native.Uint16(head[8:]), nil
}

func (c *boltCheck) bucket(root uint64) error {
	var last []byte
	return c.tree(root, &last)
}

// tree checks a page and what hangs on it; last is the highest key so far.
func (c *boltCheck) tree(id uint64, last *[]byte) error {
	b, flags, err := c.page(id)
	if err != nil {
		return err
	}
	switch flags {
	case pageBranch:
		return c.branch(id, b, last)
	case pageLeaf:
		return c.leaf(id, b, last)
	}
	return damagedPage(id, "neither branch nor leaf")
}

func (c *boltCheck) branch(id uint64, b []byte, last *[]byte) error {
	count := int(native.Uint16(b[10:]))
	if count == 0 || pageHead+count*element > len(b) {
		return damagedPage(id, "wrong count")
	}
	var before []byte
	for i := range count {
		at := pageHead + i*element
		key, ok := part(b, uint64(at)+uint64(native.Uint32(b[at:])), uint64(native.Uint32(b[at+4:])))
		if !ok || i > 0 && bytes.Compare(key, before) <= 0 {
			return damagedPage(id, "wrong key")
		}
		before = key
		if err := c.tree(native.Uint64(b[at+8:]), last); err != nil {
			return err
		}
	}
	return nil
}

func (c *boltCheck) leaf(id uint64, b []byte, last *[]byte) error {
	count := int(native.Uint16(b[10:]))
	if pageHead+count*element > len(b) {
		return damagedPage(id, "wrong count")
	}
	for i := range count {
		at := pageHead + i*element
		from, size := uint64(at)+uint64(native.Uint32(b[at+4:])), uint64(native.Uint32(b[at+8:]))
		key, ok := part(b, from, size)
		value, ok2 := part(b, from+size, uint64(native.Uint32(b[at+12:])))
		if !ok || !ok2 || *last != nil && bytes.Compare(key, *last) <= 0 {
			return damagedPage(id, "wrong key or value")
		}
		*last = key
		if native.Uint32(b[at:])&leafBucket == 0 {
			continue
		}
		if len(value) < 16 {
			return damagedPage(id, "wrong bucket")
		}
		if err := c.inner(id, value); err != nil {
			return err
		}
	}
	return nil
}

// inner checks a bucket in a leaf of another; a small one lies in its value.
func (c *boltCheck) inner(id uint64, value []byte) error {
	if root := native.Uint64(value); root != 0 {
		return c.bucket(root)
	}
	inline := value[16:]
	if len(inline) < pageHead || native.Uint16(inline[8:]) != pageLeaf {
		return damagedPage(id, "wrong inline bucket")
	}
	var last []byte
	return c.leaf(id, inline, &last)
}

func part(b []byte, from, size uint64) ([]byte, bool) {
	if from+size > uint64(len(b)) { // both are sums of few 32-bit numbers: no overflow
		return nil, false
	}
	return b[from : from+size], true
}

// freePages checks that no page is both free and used.
func (c *boltCheck) freePages() error {
	if c.free == noFreeList {
		return nil
	}
	b, flags, err := c.page(c.free)
	if err != nil {
		return err
	}
	count, at := uint64(native.Uint16(b[10:])), uint64(pageHead)
	if count == 0xFFFF { // too many for the head
		count, at = native.Uint64(b[at:]), at+8
	}
	if flags != pageFree || count > (uint64(len(b))-at)/8 {
		return damagedPage(c.free, "wrong list of free pages")
	}
	for i := range count {
		id := native.Uint64(b[at+8*i:])
		if id < 2 || id >= c.pages || c.used[id] {
			return damagedPage(id, "free, and used or absent")
		}
		c.used[id] = true
	}
	return nil
}
