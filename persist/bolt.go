package persist

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Bolt is a Store in one file, by bbolt: every Put is on the disk before it returns, and a
// crash leaves either what was there before or what came after. Two buckets have the same keys:
//
//	heads   version (8) · expires, ms since 1970, 0: never (8) · bytes of the value (8)
//	values  the value
//
// so that listing reads no value. Pages that are free are used again; the file does not shrink.
type Bolt struct {
	db      *bolt.DB
	name    string
	damaged string
}

// BoltConfig configures a Bolt.
type BoltConfig struct {
	Name string        // of the store; "": "kv"
	Lock time.Duration // how long to wait for another process to let go of the file; 0: 1 s
}

const (
	boltFormat = 1
	boltHead   = 24
	boltBatch  = 16 << 20 // bytes of one transaction: bbolt holds them twice until it ends
)

var (
	boltMeta   = []byte("openclaw")
	boltKey    = []byte("format")
	boltHeads  = []byte("heads")
	boltValues = []byte("values")
)

// Damaged is where a damaged file was moved when this one was opened, and why; "" if it was not.
func (b *Bolt) Damaged() string { return b.damaged }

func (b *Bolt) Name() string { return b.name }

// Lag is 0: what is written is seen.
func (b *Bolt) Lag() time.Duration { return 0 }

// Close waits for calls under way.
func (b *Bolt) Close() error {
	if err := b.db.Close(); err != nil {
		return b.fail("close", err)
	}
	return nil
}

func (b *Bolt) Put(ctx context.Context, values []Value) error {
	for len(values) > 0 {
		n, size := 0, 0
		for n < len(values) && (n == 0 || size+len(values[n].Data) <= boltBatch) {
			size += len(values[n].Data)
			n++
		}
		err := b.update(ctx, "put", func(heads, data *bolt.Bucket) error {
			now := time.Now()
			for _, v := range values[:n] {
				if err := putBolt(heads, data, v, now); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		values = values[n:]
	}
	return nil
}

func putBolt(heads, data *bolt.Bucket, v Value, now time.Time) error {
	key := []byte(v.Key)
	if held, ok := boltHeadOf(heads.Get(key)); ok && held.live(now) && held.version > v.Version {
		return nil // acknowledged: a newer one stands here
	}
	h := boltEntry{version: v.Version, size: uint64(len(v.Data))}
	if v.TTL > 0 {
		h.expires = uint64(now.Add(v.TTL).UnixMilli())
	}
	return errors.Join(heads.Put(key, h.bytes()), data.Put(key, v.Data))
}

// Get's values have no TTL. each may use the store.
func (b *Bolt) Get(ctx context.Context, keys []Entry, each func(Value) error) error {
	for _, k := range keys {
		var v *Value
		err := b.view(ctx, "get", func(heads, data *bolt.Bucket) error {
			key := []byte(k.Key)
			if h, ok := boltHeadOf(heads.Get(key)); ok && h.live(time.Now()) {
				v = &Value{Key: k.Key, Version: h.version, Data: bytes.Clone(data.Get(key))}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if v != nil {
			if err := each(*v); err != nil {
				return err
			}
		}
	}
	return nil
}

// List also drops what has expired.
func (b *Bolt) List(ctx context.Context, prefix string) ([]Entry, error) {
	var found []Entry
	var expired []string
	err := b.view(ctx, "list", func(heads, _ *bolt.Bucket) error {
		now, c := time.Now(), heads.Cursor()
		for k, v := c.Seek([]byte(prefix)); k != nil && strings.HasPrefix(string(k), prefix); k, v = c.Next() {
			switch h, ok := boltHeadOf(v); {
			case ok && h.live(now):
				found = append(found, Entry{string(k), h.version, int(h.size)})
			default:
				expired = append(expired, string(k))
			}
		}
		return nil
	})
	if err != nil || len(expired) == 0 {
		return found, err
	}
	return found, b.update(ctx, "list", func(heads, data *bolt.Bucket) error {
		for _, k := range expired {
			key := []byte(k)
			if h, ok := boltHeadOf(heads.Get(key)); ok && h.live(time.Now()) {
				continue // written again meanwhile
			}
			if err := errors.Join(heads.Delete(key), data.Delete(key)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (b *Bolt) Delete(ctx context.Context, keys []Entry) error {
	if len(keys) == 0 {
		return nil
	}
	return b.update(ctx, "delete", func(heads, data *bolt.Bucket) error {
		for _, k := range keys {
			key := []byte(k.Key)
			if h, ok := boltHeadOf(heads.Get(key)); !ok || k.Version != 0 && h.version != k.Version {
				continue
			}
			if err := errors.Join(heads.Delete(key), data.Delete(key)); err != nil {
				return err
			}
		}
		return nil
	})
}

// boltEntry is what stands in heads.
type boltEntry struct{ version, expires, size uint64 }

func boltHeadOf(b []byte) (h boltEntry, ok bool) {
	if len(b) != boltHead {
		return h, false
	}
	u := binary.BigEndian
	return boltEntry{u.Uint64(b), u.Uint64(b[8:]), u.Uint64(b[16:])}, true
}

func (h boltEntry) bytes() []byte {
	b := binary.BigEndian.AppendUint64(nil, h.version)
	b = binary.BigEndian.AppendUint64(b, h.expires)
	return binary.BigEndian.AppendUint64(b, h.size)
}

func (h boltEntry) live(now time.Time) bool {
	return h.expires == 0 || uint64(now.UnixMilli()) < h.expires
}

type boltWork func(heads, values *bolt.Bucket) error

func (b *Bolt) update(ctx context.Context, op string, work boltWork) error {
	return b.do(ctx, op, b.db.Update, work)
}

func (b *Bolt) view(ctx context.Context, op string, work boltWork) error {
	return b.do(ctx, op, b.db.View, work)
}

// do runs a transaction. It does not stop in the middle when ctx ends.
func (b *Bolt) do(ctx context.Context, op string, run func(func(*bolt.Tx) error) error, work boltWork) error {
	err := ctx.Err()
	if err == nil {
		err = noFault(func() error {
			return run(func(tx *bolt.Tx) error { return work(tx.Bucket(boltHeads), tx.Bucket(boltValues)) })
		})
	}
	if err != nil {
		return b.fail(op, err)
	}
	return nil
}

func (b *Bolt) fail(op string, err error) *Error { return boltError(b.name, op, b.db.Path(), err) }

// boltError says what to do.
func boltError(name, op, path string, err error) *Error {
	kind, do := Failed, "see what is wrong with the disk"
	var fault *faultError
	switch {
	case errors.As(err, &fault):
		do = "the file is damaged: restart the node, which moves it aside and begins a new one"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &Error{Store: name, Op: op, Kind: Failed, Err: err} // it was not begun
	case errors.Is(err, errNotOurs):
		return &Error{Store: name, Op: op, Kind: Misconfigured, Err: fmt.Errorf("%s: %w", path, err)}
	case errors.Is(err, bolterrors.ErrTimeout):
		kind, do = Misconfigured, "another process has it open: stop that one, or give this node its own --data-dir"
	case errors.Is(err, bolterrors.ErrDatabaseNotOpen):
		do = "the store is closed"
	case errors.Is(err, bolterrors.ErrKeyTooLarge), errors.Is(err, bolterrors.ErrKeyRequired), errors.Is(err, bolterrors.ErrValueTooLarge):
		kind, do = Rejected, "it can never be stored"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		do = "the disk is full: make room"
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		kind, do = Misconfigured, "make its directory writable for the user that runs the node, or choose another --data-dir"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR):
		kind, do = Misconfigured, "create its directory, or choose another --data-dir"
	}
	return &Error{Store: name, Op: op, Kind: kind, Err: fmt.Errorf("%s: %w: %s", path, err, do)}
}
