package node

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"

	"github.com/cespare/xxhash/v2"

	"github.com/openclaw/edge/crdt"
)

// DATA_DIR/limits is the set of limits that was in force last: its bytes, then their xxhash
// in 8 bytes, big-endian. A node that starts alone behind a cut goes on from it, and so its
// file is the set's successor, not a set without a past that would reset every bucket.

// readLimits reads the set of an earlier run; nil if there is none that can be read.
func (n *Node) readLimits() *crdt.Set {
	path := n.cfg.dataFile("limits")
	if path == "" {
		return nil
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	set, err := decodeLimits(raw, err)
	if err != nil {
		n.setAside(path, "limits on disk not readable: this node's file holds until a peer is heard", err)
		return nil
	}
	return set
}

func decodeLimits(raw []byte, err error) (*crdt.Set, error) {
	if err != nil {
		return nil, err
	}
	body := len(raw) - 8
	if body < 0 || xxhash.Sum64(raw[:body]) != binary.BigEndian.Uint64(raw[body:]) {
		return nil, errors.New("checksum differs")
	}
	return crdt.DecodeSet(raw[:body])
}

// writeLimits saves the set in force, if there is another than last time.
func (n *Node) writeLimits() {
	agreed := n.agreed.Load() // before the limits: see agree
	set := n.force.Load().set
	path := n.cfg.dataFile("limits")
	if path == "" || set == n.savedLimits || !agreed {
		return
	}
	n.savedLimits = set
	raw := binary.BigEndian.AppendUint64(set.Bytes()[:len(set.Bytes()):len(set.Bytes())], xxhash.Sum64(set.Bytes()))
	if err := replaceFile(path, raw); err != nil {
		n.log.Error("limits in force not saved", "file", path, "err", err)
	}
}

// replaceFile puts a file in place whole, or leaves the old one.
func replaceFile(path string, b []byte) error {
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// setAside keeps a damaged file under another name, and says so.
func (n *Node) setAside(path, what string, err error) {
	aside := path + ".damaged"
	if failed := os.Rename(path, aside); failed != nil {
		aside = "not kept: " + failed.Error()
	}
	n.log.Error(what, "kept", aside, "err", err)
}
