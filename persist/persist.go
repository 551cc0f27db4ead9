package persist

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Value is what a store holds under a key. A key has one writer only, which numbers what it
// writes there: Version grows with every change, and the higher one is the newer.
type Value struct {
	Key     string
	Version uint64
	Data    []byte
	TTL     time.Duration // after which the store may drop it; 0: never
}

// Entry is what a listing tells of a key.
type Entry struct {
	Key     string
	Version uint64 // 0: not known without reading it
	Size    int    // bytes of Data; 0: not known
}

// Store keeps values under keys. Implementations are safe for concurrent use. Every error is
// an *Error, or for some keys of several a *Partial.
type Store interface {
	// Name is the label of metrics and logs: "kv", "redis".
	Name() string
	// Put stores all values, each at most once per call and key. On nil every one was
	// acknowledged; on a *Partial all but those that it names; on any other error it is
	// not known of any. A store that can never replaces a newer version by an older one.
	Put(ctx context.Context, values []Value) error
	// Get calls each for every value found, in any order; absent keys are left out. An error
	// of each ends it and is returned as it is.
	Get(ctx context.Context, keys []Entry, each func(Value) error) error
	// List is all keys that begin with prefix.
	List(ctx context.Context, prefix string) ([]Entry, error)
	// Delete removes keys; where the store can tell, only those still at the version given (0:
	// any). Absent keys are no error.
	Delete(ctx context.Context, keys []Entry) error
	// Lag is how long the store may show a reader what was there before: after an
	// acknowledged Put a Get may for so long find the old value, or nothing.
	Lag() time.Duration
	// Close releases what the store holds open.
	Close() error
}

// looker is a Store that tells of keys cheaply, without listing all: what it alone holds is
// looked after before a snapshot is acknowledged.
type looker interface {
	// Look is the entries of those keys that are there.
	Look(ctx context.Context, keys []string) ([]Entry, error)
}

// Kind says what an error of a store means for those who go on.
type Kind uint8

const (
	Failed        Kind = iota // refused for now: 5xx, no connection, out of memory
	Unknown                   // no answer: it may have been done, and may still be done later
	Throttled                 // too many calls; nothing until Error.Until
	Denied                    // wrong or insufficient credentials: alarm, slow retries
	Misconfigured             // no such account, namespace or database: alarm, slow retries
	Rejected                  // this payload, for ever: count and drop, never repeat
)

func (k Kind) String() string {
	switch k {
	case Failed:
		return "failed"
	case Unknown:
		return "unknown"
	case Throttled:
		return "throttled"
	case Denied:
		return "denied"
	case Misconfigured:
		return "misconfigured"
	case Rejected:
		return "rejected"
	}
	return fmt.Sprintf("Kind(%d)", k)
}

// Error is a store's. It never contains a secret.
type Error struct {
	Store string // Name
	Op    string // put, get, list, delete, open
	Kind  Kind
	Until time.Time // do not call before; zero: the caller decides
	Err   error     // says what to do where somebody can do something
}

func (e *Error) Error() string { return fmt.Sprintf("persist: %s %s: %v", e.Store, e.Op, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// Partial is the error of a call that was done for all keys but some.
type Partial struct {
	Keys map[string]*Error
}

func (p *Partial) Error() string {
	for key, err := range p.Keys {
		return fmt.Sprintf("%v (%d keys, %s among them)", err, len(p.Keys), key)
	}
	return "persist: nothing failed"
}

// KindOf is the kind of a store's error; Failed for one of others, Unknown for the end of a
// context.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return Unknown
	}
	return Failed
}
