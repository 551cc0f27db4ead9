package persist

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/vmihailenco/msgpack/v5"
)

// A segment in a store: a magic number, msgpack values in their shortest form, a checksum.
//
//	┌────────────┬────────┬─────────────────────────────────────┬─────────────────────────┐
//	│ "OCsg" (4) │ format │ what stands in a segment of that    │ xxhash64 of all before, │
//	│            │        │ format                              │ big endian (8)          │
//	└────────────┴────────┴─────────────────────────────────────┴─────────────────────────┘
//	format 1:  name, part, cluster, node, incarnation, sequence, time ms, clock, payload
//
// Magic, format and checksum stay where they are in every later format, so that a newer
// segment can be told from a damaged one.
const (
	segmentMagic  = "OCsg"
	segmentFormat = 1
	segmentSum    = 8

	// MaxSegment bounds an encoded segment, in bytes: as base64 text it is under 4 MiB.
	MaxSegment = 3<<20 - 1
	// MaxClock bounds Segment.Clock, in bytes.
	MaxClock = 64 << 10
	// MaxPayload is what always fits into Segment.Payload, in bytes; some 2.9 MiB.
	MaxPayload = MaxSegment - MaxClock - maxSegmentHead

	maxSegmentHead = 1 << 10 // all else, with the longest names
	maxPart        = 1<<16 - 1
	maxTime        = 1<<47 - 1 // ms; the year 6429
)

// Names become parts of keys, and keys of URLs and of match patterns.
var (
	segmentName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	nodeName    = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,128}$`) // clusters' too
)

var (
	// ErrDamaged is a segment that is cut off or changed, or none at all.
	ErrDamaged = errors.New("persist: segment is damaged")
	// ErrNewer is a segment of a format that this version does not know.
	ErrNewer = errors.New("persist: segment is of a newer format")
)

// Segment is a part of one node's snapshot, as it is stored under one key.
type Segment struct {
	Name        string // "00" to "63", "limits"; letters, digits, '_', '-', up to 64
	Part        int    // 0 to 65,535: which piece, where one was too large for one value
	Cluster     string // letters, digits, '.', '_', '-', up to 128; so is Node
	Node        string
	Incarnation uint64    // the writer: one per start of Node
	Sequence    uint64    // rises with everything that the incarnation writes
	Time        time.Time // of the writing, by the writer's clock; kept to the millisecond
	Clock       []byte    // opaque; up to MaxClock
	Payload     []byte    // opaque; up to MaxPayload
}

// Bytes encodes s.
func (s *Segment) Bytes() ([]byte, error) {
	return s.Append(make([]byte, 0, maxSegmentHead+len(s.Clock)+len(s.Payload)))
}

// Append encodes s behind dst. It refuses what DecodeSegment would.
func (s *Segment) Append(dst []byte) ([]byte, error) {
	if err := s.check(); err != nil {
		return dst, fmt.Errorf("persist: segment %.64q part %d: %w", s.Name, s.Part, err)
	}
	start := len(dst)
	dst = append(dst, s.head()...)
	dst = append(dst, s.Payload...)
	return binary.BigEndian.AppendUint64(dst, xxhash.Sum64(dst[start:])), nil
}

// head is everything before the payload's bytes.
func (s *Segment) head() []byte {
	var buf bytes.Buffer
	buf.WriteString(segmentMagic)
	e := msgpack.NewEncoder(&buf) // writes to a buffer: no errors
	e.EncodeUint(segmentFormat)
	e.EncodeString(s.Name)
	e.EncodeUint(uint64(s.Part))
	e.EncodeString(s.Cluster)
	e.EncodeString(s.Node)
	e.EncodeUint(s.Incarnation)
	e.EncodeUint(s.Sequence)
	e.EncodeUint(uint64(s.Time.UnixMilli()))
	e.EncodeBytesLen(len(s.Clock))
	buf.Write(s.Clock)
	e.EncodeBytesLen(len(s.Payload))
	return buf.Bytes()
}

func (s *Segment) check() error {
	switch ms := s.Time.UnixMilli(); {
	case !segmentName.MatchString(s.Name):
		return errors.New("its name is not 1 to 64 letters, digits, '_' or '-'")
	case s.Part < 0 || s.Part > maxPart:
		return fmt.Errorf("parts go from 0 to %d", maxPart)
	case !nodeName.MatchString(s.Cluster):
		return fmt.Errorf("cluster %.128q is not 1 to 128 letters, digits, '.', '_' or '-'", s.Cluster)
	case !nodeName.MatchString(s.Node):
		return fmt.Errorf("node %.128q is not 1 to 128 letters, digits, '.', '_' or '-'", s.Node)
	case ms < 0 || ms > maxTime:
		return fmt.Errorf("time %v is impossible", s.Time)
	case len(s.Clock) > MaxClock:
		return fmt.Errorf("clock of %d bytes, at most %d", len(s.Clock), MaxClock)
	case len(s.Payload) > MaxPayload:
		return fmt.Errorf("payload of %d bytes, at most %d", len(s.Payload), MaxPayload)
	}
	return nil
}

// DecodeSegment reads what Append wrote, and nothing else: errors are ErrDamaged or ErrNewer.
// Clock and Payload are parts of b.
func DecodeSegment(b []byte) (*Segment, error) {
	body := len(b) - segmentSum
	if body <= len(segmentMagic) || string(b[:len(segmentMagic)]) != segmentMagic {
		return nil, fmt.Errorf("%w: %d bytes that do not begin like one", ErrDamaged, len(b))
	}
	if xxhash.Sum64(b[:body]) != binary.BigEndian.Uint64(b[body:]) {
		return nil, fmt.Errorf("%w: checksum does not match %d bytes", ErrDamaged, len(b))
	}
	r := newSegmentReader(b[len(segmentMagic):body])
	format := r.uint()
	if r.err == nil && format > segmentFormat {
		return nil, fmt.Errorf("%w: format %d, this version reads up to %d: run the version that wrote it; the segment is left as it is",
			ErrNewer, format, segmentFormat)
	}
	s := &Segment{
		Name: string(r.bytes()), Part: int(r.uint() & (1<<31 - 1)),
		Cluster: string(r.bytes()), Node: string(r.bytes()),
		Incarnation: r.uint(), Sequence: r.uint(),
		Time:  time.UnixMilli(int64(r.uint())).UTC(),
		Clock: r.bytes(), Payload: r.bytes(),
	}
	switch err := s.check(); {
	case r.err != nil:
		return nil, fmt.Errorf("%w, or was never one: %w", ErrDamaged, r.err)
	case err != nil:
		return nil, fmt.Errorf("%w, or was never one: %w", ErrDamaged, err)
	}
	// The same values in longer forms, or in other types, make another head; bytes behind the
	// payload make another length.
	if head := s.head(); !bytes.HasPrefix(b, head) || len(head)+len(s.Payload) != body {
		return nil, fmt.Errorf("%w, or was never one: not in canonical form", ErrDamaged)
	}
	return s, nil
}

// segmentReader reads msgpack values; the first error sticks, and later reads return zero
// values. What it returns is part of the source: a length without its bytes costs nothing.
type segmentReader struct {
	src []byte
	at  *bytes.Reader
	dec *msgpack.Decoder
	err error
}

func newSegmentReader(src []byte) *segmentReader {
	at := bytes.NewReader(src)
	return &segmentReader{src: src, at: at, dec: msgpack.NewDecoder(at)}
}

func (r *segmentReader) uint() (v uint64) {
	if r.err == nil {
		v, r.err = r.dec.DecodeUint64()
	}
	return v
}

func (r *segmentReader) bytes() []byte {
	if r.err != nil {
		return nil
	}
	n, err := r.dec.DecodeBytesLen()
	if err == nil && n > r.at.Len() {
		err = fmt.Errorf("%d bytes are missing", n-r.at.Len())
	}
	if r.err = err; err != nil || n <= 0 {
		return nil
	}
	from := len(r.src) - r.at.Len()
	r.at.Seek(int64(n), 1)
	return r.src[from : from+n : from+n]
}
