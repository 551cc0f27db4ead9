package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// DATA_DIR/aside keeps what was found in a store and could not be used, for a person to look
// at: the store's key with its colons as underscores, and a hash of the content, so that the
// next start does not keep it again. Beyond the bounds things are only logged.
const (
	asideDir   = "aside"
	maxAside   = 64
	asideBytes = 64 << 20
)

// keepAside keeps one value; persist has logged why it is of no use.
func (n *Node) keepAside(key string, data []byte, why error) {
	dir := n.cfg.dataFile(asideDir)
	if dir == "" {
		return
	}
	name := filepath.Join(dir, fmt.Sprintf("%s-%016x", asideName(key), xxhash.Sum64(data)))
	switch err := writeAside(dir, name, data); {
	case errors.Is(err, fs.ErrExist): // kept at an earlier start
	case err != nil:
		n.log.Warn("restored value of no use, and not kept aside", "key", key, "why", why, "err", err)
	default:
		n.log.Warn("restored value of no use, kept aside", "key", key, "why", why, "kept", name)
	}
}

// asideName is a key as a file's name: keys come from a store that others write to.
func asideName(key string) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r) {
			return r
		}
		return '_'
	}, key)
	return strings.TrimLeft(clean[:min(len(clean), 180)], ".")
}

func writeAside(dir, name string, data []byte) error {
	if _, err := os.Stat(name); err == nil {
		return fs.ErrExist
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	held, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	size := int64(len(data))
	for _, e := range held {
		if info, err := e.Info(); err == nil {
			size += info.Size()
		}
	}
	if len(held) >= maxAside || size > asideBytes {
		return fmt.Errorf("%s holds %d files, with this one %d bytes; at most %d and %d: look at them, then delete them", dir, len(held), size, maxAside, asideBytes)
	}
	return os.WriteFile(name, data, 0o600)
}
