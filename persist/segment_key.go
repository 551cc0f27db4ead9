package persist

import (
	"fmt"
	"regexp"
	"strconv"
)

// Key is the name of a segment in a store:
//
//	rating_bucket:07:edge-1:00f3a91c5be02d47      prefix:segment:node:incarnation (16 hex digits)
//	rating_bucket:07:edge-1:00f3a91c5be02d47.2    its parts but the first
//
// At most 281 bytes, of characters that URLs and match patterns take as they are. The cluster
// is not in it: two clusters that share a store find that out from the segments.
type Key struct {
	Prefix      string // "rating_bucket"; as a segment's name
	Segment     string
	Node        string
	Incarnation uint64
	Part        int
}

func (k Key) String() string {
	s := fmt.Sprintf("%s:%s:%s:%016x", k.Prefix, k.Segment, k.Node, k.Incarnation)
	if k.Part > 0 {
		s += "." + strconv.Itoa(k.Part)
	}
	return s
}

// SegmentKey is the key of s, which must be one that Append accepts: what is found under
// another key is not what its writer put there.
func SegmentKey(prefix string, s *Segment) string {
	return Key{prefix, s.Name, s.Node, s.Incarnation, s.Part}.String()
}

var keyText = regexp.MustCompile(`^([A-Za-z0-9_-]{1,64}):([A-Za-z0-9_-]{1,64}):([A-Za-z0-9_.-]{1,128}):([0-9a-f]{16})(?:\.([1-9][0-9]{0,4}))?$`)

// ParseKey reads what Key.String writes, and nothing else.
func ParseKey(text string) (Key, error) {
	m := keyText.FindStringSubmatch(text)
	if m == nil {
		return Key{}, fmt.Errorf("persist: key %.64q is no segment's", text)
	}
	k := Key{Prefix: m[1], Segment: m[2], Node: m[3]}
	k.Incarnation, _ = strconv.ParseUint(m[4], 16, 64) // 16 hex digits always fit
	k.Part, _ = strconv.Atoi(m[5])                     // absent: 0
	if k.Part > maxPart {
		return Key{}, fmt.Errorf("persist: key %.64q is no segment's: parts go to %d", text, maxPart)
	}
	return k, nil
}
