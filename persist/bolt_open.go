package persist

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// OpenBolt opens the file at path, or creates it. A damaged file is moved aside, to
// path.damaged-TIME (the newest three are kept), and an empty one is begun; see Bolt.Damaged.
// What has expired is dropped. The time it takes grows with the number of pages: some 10 ms a
// 100 MB.
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
	err := noFault(func() (err error) {
		b.db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: lock, FreelistType: bolt.FreelistMapType, NoStatistics: true})
		return err
	})
	if err != nil {
		return err
	}
	err = noFault(func() error { return b.db.View(checkBolt) })
	if err == nil {
		err = noFault(func() error { return b.db.Update(prepareBolt) })
	}
	if err != nil {
		b.db.Close()
	}
	return err
}

// prepareBolt makes a new file ours, and drops from an old one what has expired.
func prepareBolt(tx *bolt.Tx) error {
	if meta := tx.Bucket(boltMeta); meta != nil {
		f := meta.Get(boltKey)
		if len(f) != 1 {
			return errNotBolt
		}
		if f[0] > boltFormat {
			return fmt.Errorf("format %d, this version reads up to %d: run the version that wrote it, or move the file away", f[0], boltFormat)
		}
	} else if k, _ := tx.Cursor().First(); k != nil {
		return errors.New("a bbolt file of another program: choose another --data-dir")
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

var (
	errNotBolt = errors.New("not a snapshot file")
	errCutOff  = errors.New("cut off")
)

// checkBolt finds damage before it does harm. bbolt checks only its two newest pages itself;
// its own Check reads pages in a goroutine, where the fault of a wild page number would end
// the process: so every page is touched here first.
func checkBolt(tx *bolt.Tx) error {
	info, err := os.Stat(tx.DB().Path())
	if err != nil {
		return err
	}
	if info.Size() < tx.Size() {
		return fmt.Errorf("%w: %d bytes of %d", errCutOff, info.Size(), tx.Size())
	}
	touched := 0
	for name := range pairs(tx) {
		bucket := tx.Bucket(name)
		if bucket == nil {
			return errNotBolt
		}
		for k, v := range pairs(bucket) {
			for _, c := range k {
				touched += int(c)
			}
			if len(v) > 0 {
				touched += int(v[len(v)-1])
			}
		}
	}
	runtime.KeepAlive(touched)  // else the compiler leaves the reads out
	for e := range tx.Check() { // to its end: its goroutine waits for a reader
		if err == nil {
			err = fmt.Errorf("%w: %w", errNotBolt, e)
		}
	}
	return err
}

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
