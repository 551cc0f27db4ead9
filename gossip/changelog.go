package gossip

import "slices"

// change is one item of one origin's log. Our own changes have a version each; what came
// from another arrived in ranges, and all items of a range stand under its last version.
type change struct {
	version uint64
	id      uint32
}

// changelog lists what one origin changed, by version, above floor. Whoever has all of the
// origin up to any from ≥ floor lacks, of what we have, only items listed above from. Values
// are absolute, so an item listed twice need be sent once, under its later version.
type changelog struct {
	floor uint64
	list  []change
	dense int // length after the last compaction
}

// add lists ids under version.
func (c *changelog) add(version uint64, ids ...uint32) {
	if version <= c.floor || len(ids) == 0 {
		return
	}
	at := len(c.list)
	if at > 0 && c.list[at-1].version > version {
		at = c.after(version)
	}
	fresh := make([]change, len(ids))
	for i, id := range ids {
		fresh[i] = change{version, id}
	}
	if at == len(c.list) {
		c.list = append(c.list, fresh...)
	} else {
		c.list = slices.Insert(c.list, at, fresh...)
	}
}

// after is the index of the first change above version.
func (c *changelog) after(version uint64) int {
	i, _ := slices.BinarySearchFunc(c.list, version, func(ch change, v uint64) int {
		if ch.version <= v {
			return -1
		}
		return 1
	})
	return i
}

// trim forgets everything up to version, for good.
func (c *changelog) trim(version uint64) {
	if version <= c.floor {
		return
	}
	c.floor = version
	i := c.after(version)
	c.list = c.list[i:]
	c.dense = max(0, c.dense-i)
	if len(c.list) == 0 {
		c.list, c.dense = nil, 0
	}
}

// compact keeps each item's last change only, if the log has doubled since the last time.
func (c *changelog) compact() {
	if len(c.list) < 4096 || len(c.list) < 2*c.dense {
		return
	}
	seen := make(map[uint32]struct{}, len(c.list)/2)
	kept := len(c.list)
	for i := len(c.list) - 1; i >= 0; i-- {
		if _, again := seen[c.list[i].id]; again {
			continue
		}
		seen[c.list[i].id] = struct{}{}
		kept--
		c.list[kept] = c.list[i]
	}
	c.list = slices.Clone(c.list[kept:]) // lets go of the old array
	c.dense = len(c.list)
}

// cut drops the oldest n changes, whole versions only, and says how many went.
func (c *changelog) cut(n int) int {
	if n <= 0 || len(c.list) == 0 {
		return 0
	}
	before := len(c.list)
	c.trim(c.list[min(n, before)-1].version)
	return before - len(c.list)
}

// packer packs the leading changes of a log; its scratch is reused.
type packer struct {
	state State
	ids   []uint32
	at    []int // index in the log of each id
	seen  map[uint32]struct{}
	avg   float64 // smoothed bytes an item takes
	buf   []byte
}

func newPacker(s State) *packer {
	return &packer{state: s, seen: make(map[uint32]struct{}), avg: 40}
}

// pack packs what c lists in (from, to], for the largest to ≤ head that fits in room bytes.
// n is how many items it took. The payload is valid until the next call. It may exceed room
// when the first version alone does: then it can only go by stream.
func (p *packer) pack(c *changelog, from, head uint64, room int) (payload []byte, to uint64, n int) {
	begin, end := c.after(from), c.after(head)
	limit := begin + 16 + int(float64(room)/p.avg*2)
	if limit < end { // whole versions only
		end = c.after(c.list[limit-1].version)
		head = c.list[end-1].version
	}
	p.gather(c.list[begin:end])
	payload, n = p.packIDs(p.ids, room)
	if n == len(p.ids) {
		return payload, head, n
	}
	// The version of the first item that is not in ends what this payload covers.
	next := begin + p.at[n]
	if stop := c.list[next].version; stop > c.list[begin].version {
		i := next
		for c.list[i-1].version == stop {
			i--
		}
		return payload, c.list[i-1].version, n
	}
	stop := c.list[begin].version
	end = c.after(stop)
	p.gather(c.list[begin:end])
	payload, n = p.packIDs(p.ids, maxStream/2)
	if n < len(p.ids) {
		return nil, from, 0
	}
	return payload, stop, n
}

// gather collects the ids of list in order, each where it stands last.
func (p *packer) gather(list []change) {
	clear(p.seen)
	p.ids, p.at = p.ids[:0], p.at[:0]
	for i := len(list) - 1; i >= 0; i-- {
		id := list[i].id
		if _, again := p.seen[id]; !again {
			p.seen[id] = struct{}{}
			p.ids, p.at = append(p.ids, id), append(p.at, i)
		}
	}
	slices.Reverse(p.ids)
	slices.Reverse(p.at)
}

func (p *packer) packIDs(ids []uint32, room int) ([]byte, int) {
	if len(ids) == 0 {
		return nil, 0
	}
	payload, n := p.state.Pack(p.buf[:0], ids, room)
	if n = min(n, len(ids)); n > 0 && len(payload) > 0 {
		p.avg += (float64(len(payload))/float64(n) - p.avg) / 16
		p.avg = min(1024, max(p.avg, 4))
	}
	p.buf = payload
	return payload, n
}
