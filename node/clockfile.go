package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/openclaw/edge/crdt"
)

// clockEvery is how often the refill clock goes to disk. What a restart forgets is refill
// not granted, and peers know it better.
const clockEvery = 2 * time.Second

// clockFile is DATA_DIR/clock, JSON; Sum is the xxhash of Clock's bytes in hex.
type clockFile struct {
	Clock json.RawMessage `json:"clock"`
	Sum   string          `json:"sum"`
}

// readClock reads the clock of an earlier run; nil if there is none that can be read.
func (n *Node) readClock() crdt.Clock {
	path := n.cfg.dataFile("clock")
	if path == "" {
		return nil
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	clock, err := decodeClock(raw, err)
	if err != nil {
		aside := path + ".damaged"
		n.log.Error("refill clock on disk not readable: kept aside, peers' is taken", "file", aside, "err", err, "rename", os.Rename(path, aside))
		return nil
	}
	return clock
}

func decodeClock(raw []byte, err error) (crdt.Clock, error) {
	if err != nil {
		return nil, err
	}
	var f clockFile
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, err
	}
	if f.Sum != checksum(f.Clock) {
		return nil, errors.New("checksum differs")
	}
	var c crdt.Clock
	if err := json.Unmarshal(f.Clock, &c); err != nil {
		return nil, err
	}
	if c == nil || len(c) > maxMembers {
		return nil, fmt.Errorf("%d components", len(c))
	}
	for node, v := range c {
		for _, r := range v {
			if r < 0 || r > 1<<61 {
				return nil, fmt.Errorf("impossible component of %s", node)
			}
		}
	}
	return c, nil
}

func checksum(b []byte) string { return fmt.Sprintf("%016x", xxhash.Sum64(b)) }

// writeClock saves the clock; the file is replaced whole.
func (n *Node) writeClock() {
	path := n.cfg.dataFile("clock")
	if path == "" {
		return
	}
	clock, err := json.Marshal(n.refill.snapshot())
	if err == nil {
		var raw []byte
		if raw, err = json.Marshal(clockFile{Clock: clock, Sum: checksum(clock)}); err == nil {
			if err = os.WriteFile(path+".new", raw, 0o600); err == nil {
				err = os.Rename(path+".new", path)
			}
		}
	}
	if err != nil {
		n.log.Error("refill clock not saved", "file", path, "err", err)
	}
}
