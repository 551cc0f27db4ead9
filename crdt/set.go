package crdt

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Bounds of a set; a set beyond them is refused.
const (
	MaxLimits   = 1000
	MaxName     = 64        // bytes of a limit's name
	maxKeySpec  = 300       // bytes of a definition's Key
	maxVersion  = 1<<47 - 1 // so that an Epoch holds it
	maxSetBytes = 1 << 20
	maxTTL      = 10 * 365 * 24 * time.Hour
)

// Set is the limits of a whole cluster, replicated as one value: the set with the highest
// version holds everywhere. It is immutable.
type Set struct {
	Version uint64
	From    Components // readings of R from which it holds
	Limits  []Terms    // sorted by name
	hash    uint64     // of the definitions alone
	wire    []byte
}

// NewSet makes the set that succeeds prev (nil: none) with these definitions, in force
// from the readings from on. A limit whose capacity and policy stay keeps its epoch, and
// the rates it had.
func NewSet(version uint64, defs []Definition, prev *Set, from Components) (*Set, error) {
	if version > maxVersion {
		return nil, fmt.Errorf("version %d: at most %d", version, uint64(maxVersion))
	}
	s := &Set{Version: version, From: from}
	for _, d := range defs {
		s.Limits = append(s.Limits, Terms{Definition: d})
	}
	slices.SortFunc(s.Limits, func(a, b Terms) int { return strings.Compare(a.Name, b.Name) })
	s.hash = hashDefinitions(s.Limits)
	for i := range s.Limits {
		t := &s.Limits[i]
		t.Epoch = Epoch(version<<16 | s.hash>>48) // the hash's upper bits: ordered as Supersedes orders
		t.Pieces = []Piece{{Rate: t.Rate}}
		if old := prev.Find(t.Name); old != nil && old.Capacity == t.Capacity && old.Policy == t.Policy {
			t.Epoch = old.Epoch
			t.Pieces = succeed(old.Pieces, t.Rate, from[t.Policy])
		}
	}
	if err := s.validate(); err != nil {
		return nil, err
	}
	s.wire = s.encode()
	if len(s.wire) > maxSetBytes {
		return nil, fmt.Errorf("limits: %d bytes, at most %d", len(s.wire), maxSetBytes)
	}
	return s, nil
}

// Draft is a copy that holds on a node until it knows what the cluster obeys. It is no message:
// no decoder takes its epochs.
func (s *Set) Draft() *Set {
	d := *s
	d.Limits = slices.Clone(s.Limits)
	for i := range d.Limits {
		d.Limits[i].Epoch = d.Limits[i].draft()
	}
	d.wire = d.encode()
	return &d
}

// IsDraft tells whether s was made by Draft.
func (s *Set) IsDraft() bool { return s.Limits[0].Epoch.Draft() }

// succeed adds a rate to a history.
func succeed(old []Piece, rate Rate, from Instant) []Piece {
	last := old[len(old)-1]
	if last.Rate == rate {
		return old
	}
	pieces := append(slices.Clone(old), Piece{max(from, last.From), rate})
	if over := len(pieces) - MaxPieces; over > 0 {
		pieces = pieces[over:]
	}
	return pieces
}

// Find is the limit called name, nil if there is none or s is nil.
func (s *Set) Find(name string) *Terms {
	if s == nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(s.Limits, name, func(t Terms, name string) int { return strings.Compare(t.Name, name) })
	if !ok {
		return nil
	}
	return &s.Limits[i]
}

// Same tells whether both sets define the same limits, whatever their versions.
func (s *Set) Same(o *Set) bool { return o != nil && s.hash == o.hash }

// SameLimit tells whether a limit is defined alike in both sets.
func (s *Set) SameLimit(o *Set, name string) bool {
	a, b := s.Find(name), o.Find(name)
	if a == nil || b == nil {
		return a == b
	}
	return bytes.Equal(encodeDefinition(&a.Definition), encodeDefinition(&b.Definition))
}

// Supersedes is the order of sets: the higher version, then the larger hash; of equal
// definitions the one brought last, so that every node ends with the same bytes. (The first
// one would be a file's own set, which nobody brought: From 0, and every epoch begun anew.)
func (s *Set) Supersedes(o *Set) bool {
	switch {
	case o == nil:
		return true
	case s.Version != o.Version:
		return s.Version > o.Version
	case s.hash != o.hash:
		return s.hash > o.hash
	case s.From != o.From:
		return slices.Compare(s.From[:], o.From[:]) > 0
	}
	return bytes.Compare(s.wire, o.wire) < 0
}

// Bytes is the set's encoding; not to be written to.
func (s *Set) Bytes() []byte { return s.wire }

func (s *Set) validate() error {
	if len(s.Limits) == 0 || len(s.Limits) > MaxLimits {
		return fmt.Errorf("limits: %d of them, want 1 to %d", len(s.Limits), MaxLimits)
	}
	for i := range s.Limits {
		t := &s.Limits[i]
		if err := t.Definition.validate(); err != nil {
			return err
		}
		if i > 0 && s.Limits[i-1].Name >= t.Name {
			return fmt.Errorf("limit %q: defined twice or out of order", t.Name)
		}
		if uint64(t.Epoch)>>16 > s.Version {
			return fmt.Errorf("limit %q: of version %d, the set only of %d", t.Name, uint64(t.Epoch)>>16, s.Version)
		}
		if len(t.Pieces) == 0 || len(t.Pieces) > MaxPieces || t.Pieces[len(t.Pieces)-1].Rate != t.Rate {
			return fmt.Errorf("limit %q: history of rates does not end with its rate", t.Name)
		}
		for j, p := range t.Pieces {
			if p.From < 0 || p.From > maxInstant || j > 0 && p.From < t.Pieces[j-1].From {
				return fmt.Errorf("limit %q: history of rates out of order", t.Name)
			}
		}
	}
	for _, r := range s.From {
		if r < 0 || r > maxInstant {
			return errors.New("limits: impossible reading of the refill clock")
		}
	}
	return nil
}

func (d *Definition) validate() error {
	fail := func(what string) error { return fmt.Errorf("limit %q: %s", d.Name, what) }
	switch {
	case d.Name == "" || len(d.Name) > MaxName:
		return fail("a name has 1 to 64 bytes")
	case d.Capacity < Token || d.Capacity > MaxCapacity:
		return fail("capacity must be 1 to 1000000000 tokens")
	case d.Rate == Rate{}:
		return fail("refill rate must be positive")
	case d.Policy >= Policies:
		return fail("unknown policy")
	case d.TTL < 0 || d.TTL > maxTTL:
		return fail("ttl must be positive and at most ten years")
	case d.MaxBuckets == 0 || d.MaxBuckets > 16_000_000:
		return fail("max_buckets must be 1 to 16000000")
	case len(d.Key) > maxKeySpec:
		return fail("key is too long")
	case d.Backup != nil && (d.Backup.Capacity < Token || d.Backup.Capacity > MaxCapacity || d.Backup.Rate == Rate{}):
		return fail("backup needs a capacity of 1 to 1000000000 tokens and a positive refill rate")
	}
	return nil
}
