package persist

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"github.com/gofrs/flock"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// OpenBolt opens the file at path, or creates it. A damaged file is moved aside, to
// path.damaged-TIME (the newest three are kept), and an empty one is begun; see Bolt.Damaged.
// What has expired is dropped. The whole file is read.
func OpenBolt(path string, cfg BoltConfig) (*Bolt, error) {
	if cfg.Name == "" {
		cfg.Name = "kv"
	}
	if cfg.Lock <= 0 {
		cfg.Lock = time.Second
	}
	b := &Bolt{name: cfg.Name}
	err := b.open(path, cfg.Lock)
	if isDamage(err) {
		why := err
		if b.damaged, err = moveAside(path); err == nil {
			b.damaged = fmt.Sprintf("%s: %v", b.damaged, why)
			err = b.open(path, cfg.Lock)
		}
	}
	if err != nil {
		return nil, boltError(cfg.Name, "open", path, err)
	}
	return b, nil
}

func (b *Bolt) open(path string, lock time.Duration) error {
	if err := checkLocked(path, lock); err != nil {
		return err
	}
	err := noFault(func() (err error) {
		b.db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: lock, FreelistType: bolt.FreelistMapType, NoStatistics: true})
		return err
	})
	if err != nil {
		return err
	}
	err = noFault(func() error { return b.db.Update(prepareBolt) })
	if errors.Is(err, errUnchanged) {
		return nil
	}
	if err != nil {
		b.db.Close()
	}
	return err
}

// checkLocked checks the file under the lock that bbolt takes, too: one that another process
// is writing looks damaged.
func checkLocked(path string, lock time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), lock)
	defer cancel()
	l := flock.New(path, flock.SetPermissions(0o600), flock.SetFlag(os.O_CREATE|os.O_RDWR))
	ok, err := l.TryLockContext(ctx, 20*time.Millisecond)
	if !ok {
		if err == nil || errors.Is(err, context.DeadlineExceeded) {
			err = bolterrors.ErrTimeout
		}
		return err
	}
	defer l.Unlock()
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return checkBolt(f)
}

// errUnchanged rolls a transaction back that would change nothing but cost a sync.
var errUnchanged = errors.New("nothing to change")

// prepareBolt makes a new file ours, and drops from an old one what has expired.
func prepareBolt(tx *bolt.Tx) error {
	old := tx.Bucket(boltMeta)
	if old != nil {
		f := old.Get(boltKey)
		if len(f) != 1 {
			return errNotBolt
		}
		if f[0] > boltFormat {
			return fmt.Errorf("%w: format %d, this version reads up to %d: run the version that wrote it, or move the file away", errNotOurs, f[0], boltFormat)
		}
	} else if k, _ := tx.Cursor().First(); k != nil {
		return fmt.Errorf("%w: it is another program's: choose another --data-dir", errNotOurs)
	}
	meta, err := tx.CreateBucketIfNotExists(boltMeta)
	if err != nil {
		return err
	}
	heads, err := tx.CreateBucketIfNotExists(boltHeads)
	if err != nil {
		return err
	}
	values, err := tx.CreateBucketIfNotExists(boltValues)
	if err != nil {
		return err
	}
	now := time.Now()
	var expired [][]byte
	for k, v := range pairs(heads) {
		if h, ok := boltHeadOf(v); !ok || !h.live(now) {
			expired = append(expired, k)
		}
	}
	if old != nil && len(expired) == 0 {
		return errUnchanged
	}
	for _, k := range expired {
		if err := errors.Join(heads.Delete(k), values.Delete(k)); err != nil {
			return err
		}
	}
	return meta.Put(boltKey, []byte{boltFormat})
}

// pairs are a bucket's keys and values; nil values are buckets.
func pairs(b interface{ Cursor() *bolt.Cursor }) func(func(k, v []byte) bool) {
	return func(yield func(k, v []byte) bool) {
		c := b.Cursor()
		for k, v := c.First(); k != nil && yield(k, v); k, v = c.Next() {
		}
	}
}

// errNotOurs is an undamaged file that is not moved aside.
var errNotOurs = errors.New("left alone")

func isDamage(err error) bool {
	var fault *faultError
	for _, damage := range []error{errNotBolt, errCutOff, bolterrors.ErrInvalid, bolterrors.ErrChecksum, bolterrors.ErrVersionMismatch} {
		if errors.Is(err, damage) {
			return true
		}
	}
	return errors.As(err, &fault)
}

// faultError is a panic of bbolt's, or a fault in the file's mapping: the file is damaged or
// was cut off under us.
type faultError struct{ what any }

func (e *faultError) Error() string { return fmt.Sprintf("damaged: %v", e.what) }

func noFault(work func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if what := recover(); what != nil {
			err = &faultError{what}
		}
	}()
	return work()
}

const keepDamaged = 3

func moveAside(path string) (string, error) {
	aside := path + ".damaged-" + time.Now().UTC().Format("20060102T150405.000000000")
	if err := os.Rename(path, aside); err != nil {
		return "", fmt.Errorf("damaged, and cannot be moved aside: %w", err)
	}
	old, err := filepath.Glob(path + ".damaged-*") // a path with '[' in it keeps more than three
	if err == nil && len(old) > keepDamaged {
		slices.Sort(old)
		for _, f := range old[:len(old)-keepDamaged] {
			os.Remove(f)
		}
	}
	return aside, nil
}
