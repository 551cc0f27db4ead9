package node

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// Addresses are those really bound, as DATA_DIR/addresses.json holds them while the node
// listens.
type Addresses struct {
	HTTP    string `json:"http"`
	GRPC    string `json:"grpc"` // "": off
	Metrics string `json:"metrics"`
	Gossip  string `json:"gossip"`
}

// lockDataDir makes dir this process's own, until unlock or its death. "" is nobody's.
func lockDataDir(dir string) (unlock func(), err error) {
	if dir == "" {
		return func() {}, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("data directory: %w; another is given by --data-dir", err)
	}
	lock := flock.New(filepath.Join(dir, "lock"))
	locked, err := lock.TryLock()
	switch {
	case err != nil:
		return nil, fmt.Errorf("data directory %s: %w", dir, err)
	case !locked:
		return nil, fmt.Errorf("data directory %s is in use by another openclaw-edge; give this one its own with --data-dir", dir)
	}
	return func() { lock.Unlock() }, nil
}

// writeAddresses puts the file in place whole: who polls for it never reads half of it.
// forget removes it, so that nobody talks to a node that is gone.
func writeAddresses(dir string, a Addresses) (forget func(), err error) {
	if dir == "" {
		return func() {}, nil
	}
	b, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "addresses.json")
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o644); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	return func() { os.Remove(path) }, nil
}
