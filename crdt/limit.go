package crdt

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Policy is what a cut does to a limit, and so which refill clock its buckets live on.
type Policy uint8

// The policies of design.md, section 4.
const (
	Quorum   Policy = iota // a side without a majority stops refilling
	Share                  // each side refills at (its members)/n
	Open                   // each side refills fully
	Policies = 3
)

var policyNames = [Policies]string{"quorum", "share", "open"}

func (p Policy) String() string {
	if int(p) < len(policyNames) {
		return policyNames[p]
	}
	return fmt.Sprintf("policy(%d)", uint8(p))
}

// ParsePolicy reads a policy's name.
func ParsePolicy(text string) (Policy, error) {
	for i, name := range policyNames {
		if text == name {
			return Policy(i), nil
		}
	}
	return 0, fmt.Errorf("policy %q: write quorum, share or open", text)
}

// MaxCapacity is the largest capacity that the arithmetic is made for.
const MaxCapacity = 1_000_000_000 * Token

// Backup is a node-local allowance for a dry bucket while authority is lost.
type Backup struct {
	Capacity Milli
	Rate     Rate
}

// Definition is a limit as its author wrote it.
type Definition struct {
	Name       string
	Capacity   Milli
	Rate       Rate
	Policy     Policy
	TTL        time.Duration // of the refill clock, untouched and full; 0: see IdleTTL
	MaxBuckets uint32        // on each node
	Backup     *Backup       // nil: none
	Key        string        // where a request carries the key, in the config's words; opaque here
}

// IdleTTL is how long a full bucket is kept untouched: TTL, or by default the larger of
// ten minutes and twice the time to fill.
func (d *Definition) IdleTTL() Instant {
	if d.TTL > 0 {
		return Instant(d.TTL)
	}
	return Instant(max(10*time.Minute, 2*d.Rate.Time(d.Capacity)))
}

// Epoch orders the states of one limit's buckets: a state of a later epoch replaces one
// of an earlier. It is the version of the set that last changed the limit's capacity or
// policy, in the upper 48 bits, and the highest 16 bits of that set's hash.
type Epoch uint64

// Draft tells whether what is of this epoch was taken before the cluster's limits were known.
// No set that a cluster obeys has such an epoch, and so a conversion from it keeps the slots:
// nobody has counted them.
func (e Epoch) Draft() bool { return e >= drafts }

// drafts are higher than every version's epochs: no decoder takes a set with one.
const drafts Epoch = 1 << 63

// draft is the epoch of a definition in a draft: nodes that know of no set but have the same
// capacity and policy share their buckets.
func (d *Definition) draft() Epoch {
	var b [9]byte
	binary.BigEndian.PutUint64(b[:], uint64(d.Capacity))
	b[8] = byte(d.Policy)
	return drafts | Epoch(xxhash.Sum64(b[:]))
}

// Piece is a rate from a reading of R on.
type Piece struct {
	From Instant
	Rate Rate
}

// MaxPieces bounds a limit's history of rates; older ones fall away, and a bucket left
// alone since then is credited at the oldest rate still known.
const MaxPieces = 8

// Terms are what a bucket obeys: a definition, the epoch of its states, and the rates
// it has had since, oldest first; the last piece's rate is the definition's.
type Terms struct {
	Definition
	Epoch  Epoch
	Pieces []Piece

	// MaxDebt and Idle are the node's, not replicated: they depend on who is a member.
	// A set leaves both 0, which no node should live with: it owns a copy and fills them in.
	MaxDebt Milli   // a level below −MaxDebt is raised to it; 0: every debt is forgiven
	Idle    Instant // eviction rule; Never while a member is unreachable; 0: full is absent
}

// Never is an Idle that does not pass.
const Never Instant = math.MaxInt64

// Fill is what refill grants between two readings.
func (t *Terms) Fill(from, to Instant) Milli {
	if len(t.Pieces) == 1 {
		rate := t.Pieces[0].Rate
		return rate.until(to) - rate.until(from)
	}
	return t.granted(to) - t.granted(from)
}

// granted is G over all pieces, from reading 0 (where the first piece is taken to begin).
func (t *Terms) granted(at Instant) Milli {
	var sum Milli
	for i, p := range t.Pieces {
		from, to := p.From, at
		if i == 0 {
			from = 0
		}
		if i+1 < len(t.Pieces) {
			to = min(at, t.Pieces[i+1].From)
		}
		if to > from {
			sum += p.Rate.until(to) - p.Rate.until(from)
		}
	}
	return sum
}
