package gossip

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"hash/fnv"
)

// A frame is what one node says to another, in a packet or, larger, on a stream. Integers are
// big endian when their width is given, else minimal uvarints; strings have a uvarint length.
//
//	┌────────┬───────┬─────────────┬─────────────────────────────────────────────┐
//	│ format │ flags │ cluster (4) │ sender: name, writer (8), counter           │
//	├────────┴───────┴─────────────┴──────────┬──────────────────────────────────┤
//	│ addressee's writer (8), 0: any          │ sequence, sent ns, wall clock µs │
//	├──────────────────┬──────────────────────┴─────┬────────────────────────────┤
//	│ echo ns, hold ns │ roster's fingerprint (8)   │ vector: n × writer (8), version, by writer
//	├──────────────────┴──────────┬─────────────────┴────────────────┬───────────┤
//	│ header: length, State bytes │ n × section: kind, length, body  │ CRC-32C   │
//	└─────────────────────────────┴──────────────────────────────────┴───────────┘
//
// sent is the sender's own monotonic clock since its start; echo is the newest sent heard from
// the addressee's writer and hold how long ago that was (0, 0: nothing yet). A vector may be a
// part of the whole, taken in turns: an absent writer says nothing. Sections stand in order of
// kind; only deltas repeat. A frame that a relay forwards (past some 16 nodes) will be another
// format or flag: today unknown ones are refused.
const (
	frameFormat = 1

	flagSynced byte = 1 << 0 // the sender's first sync is done, and what it holds is the cluster's
	flagStream byte = 1 << 1 // came by stream: its send time is no measure of the link
	flagsKnown      = flagSynced | flagStream

	maxPacket  = 1200      // a frame that goes by packet
	maxChunk   = 256 << 10 // a payload that goes by stream, unless one item is larger
	maxStream  = 8 << 20   // any frame
	maxName    = 64        // node, region, cluster
	maxAddr    = 64
	maxVector  = 32 // marks in one frame
	minRoom    = 64 // what is left of a packet below which no delta is begun
	crcSize    = 4
	sectionMax = 40 // of a section: its kind, lengths and a delta's numbers

	// MaxHeader bounds what State.Header may append, in bytes.
	MaxHeader = 400
)

type kind byte

const (
	kindRoster kind = 1 + iota
	kindBehind      // empty: you lack what I cannot resend; ask somebody for everything
	kindWant
	kindDelta
	kindChunk
	kindAuditAsk
	kindAuditTell
	kindAuditItems
)

// mark says: everything of writer up to version.
type mark struct{ writer, version uint64 }

// head is a frame without its sections.
type head struct {
	flags           byte
	cluster         uint32
	node            string
	writer, counter uint64
	to              uint64
	seq, sent, wall uint64
	echo, hold      uint64
	roster          uint64
	vector          []mark
	header          []byte
}

// frame is a decoded frame; its byte slices alias the buffer.
type frame struct {
	head
	entries    []entry
	behind     bool
	want       *want
	deltas     []delta
	chunk      *chunk
	auditAsk   *auditAsk
	auditTell  *auditTell
	auditItems []byte // nil: none
}

var (
	errGarbage = errors.New("gossip: frame does not decode")
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

func clusterHash(label string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(label))
	return h.Sum32()
}

func appendHead(b []byte, h *head) []byte {
	b = append(b, frameFormat, h.flags)
	b = binary.BigEndian.AppendUint32(b, h.cluster)
	b = appendBytes(b, h.node)
	b = binary.BigEndian.AppendUint64(b, h.writer)
	b = binary.AppendUvarint(b, h.counter)
	b = binary.BigEndian.AppendUint64(b, h.to)
	for _, v := range [...]uint64{h.seq, h.sent, h.wall, h.echo, h.hold} {
		b = binary.AppendUvarint(b, v)
	}
	b = binary.BigEndian.AppendUint64(b, h.roster)
	b = appendVector(b, h.vector)
	return appendBytes(b, h.header)
}

func appendVector(b []byte, v []mark) []byte {
	b = binary.AppendUvarint(b, uint64(len(v)))
	for _, m := range v {
		b = binary.BigEndian.AppendUint64(b, m.writer)
		b = binary.AppendUvarint(b, m.version)
	}
	return b
}

func appendBytes[T string | []byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendSection[T string | []byte](b []byte, k kind, body T) []byte {
	return appendBytes(append(b, byte(k)), body)
}

func seal(b []byte) []byte {
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeFrame accepts exactly what the encoders write: encoding what it returns gives b.
func decodeFrame(b []byte) (*frame, error) {
	if len(b) < crcSize || len(b) > maxStream {
		return nil, errGarbage
	}
	body, sum := b[:len(b)-crcSize], binary.BigEndian.Uint32(b[len(b)-crcSize:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, errGarbage
	}
	r := reader{b: body}
	f := new(frame)
	r.head(&f.head)
	for last := kind(0); !r.bad && len(r.b) > 0; {
		k := kind(r.byte())
		s := reader{b: r.bytes(maxStream)}
		if k < last || k == last && k != kindDelta {
			return nil, errGarbage
		}
		s.section(k, f)
		if s.bad || len(s.b) > 0 {
			return nil, errGarbage
		}
		last = k
	}
	if r.bad {
		return nil, errGarbage
	}
	return f, nil
}

func (r *reader) head(h *head) {
	if r.byte() != frameFormat {
		r.bad = true
	}
	if h.flags = r.byte(); h.flags&^flagsKnown != 0 {
		r.bad = true
	}
	h.cluster = r.u32()
	h.node = string(r.bytes(maxName))
	h.writer, h.counter, h.to = r.u64(), r.uvarint(), r.u64()
	h.seq, h.sent, h.wall, h.echo, h.hold = r.uvarint(), r.uvarint(), r.uvarint(), r.uvarint(), r.uvarint()
	h.roster = r.u64()
	h.vector = r.vector(maxVector)
	h.header = r.bytes(MaxHeader)
	if h.node == "" || h.writer == 0 {
		r.bad = true
	}
}

func (r *reader) section(k kind, f *frame) {
	switch k {
	case kindRoster:
		f.entries = r.entries()
		r.bad = r.bad || len(f.entries) == 0 // nobody who sends frames has an empty roster
	case kindBehind:
		f.behind = true
	case kindWant:
		f.want = r.want()
	case kindDelta:
		f.deltas = append(f.deltas, r.delta())
	case kindChunk:
		f.chunk = r.chunk()
	case kindAuditAsk:
		f.auditAsk = r.auditAsk()
	case kindAuditTell:
		f.auditTell = r.auditTell()
	case kindAuditItems:
		f.auditItems = r.rest()
	default:
		r.bad = true
	}
}

// reader takes values off the front of b; the first that is not there makes it bad for good.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad = true
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) byte() byte {
	if v := r.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (r *reader) u32() uint32 {
	if v := r.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if v := r.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

// uvarint refuses encodings longer than need be.
func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if r.bad || n <= 0 || n > 1 && r.b[n-1] == 0 {
		r.bad = true
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count is a uvarint of at most max, and of at most what is left in bytes.
func (r *reader) count(max int) int {
	n := r.uvarint()
	if n > uint64(max) || n > uint64(len(r.b)) {
		r.bad = true
		return 0
	}
	return int(n)
}

func (r *reader) bytes(max int) []byte { return r.take(r.count(max)) }

func (r *reader) vector(max int) []mark {
	n := r.count(max)
	var v []mark
	for range n {
		m := mark{r.u64(), r.uvarint()}
		if r.bad || len(v) > 0 && m.writer <= v[len(v)-1].writer {
			r.bad = true
			return nil
		}
		v = append(v, m)
	}
	return v
}
