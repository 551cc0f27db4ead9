package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/cespare/xxhash/v2"
)

// clockEvery is how often the refill clock goes to disk. What a restart forgets is refill
// not granted, and peers know it better.
const clockEvery = 2 * time.Second

// clockFile is DATA_DIR/clock, JSON; Sum is the xxhash of Refill's bytes in hex.
type clockFile struct {
	Refill json.RawMessage `json:"refill"`
	Sum    string          `json:"sum"`
}

// readClock reads what an earlier run knew; false if there is nothing that can be read.
func (n *Node) readClock() (k knowledge, ok bool) {
	path := n.cfg.dataFile("clock")
	if path == "" {
		return k, false
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return k, false
	}
	k, err = decodeClock(raw, err)
	if err != nil {
		n.setAside(path, "refill clock on disk not readable: the peers' is taken", err)
		return knowledge{}, false
	}
	if k.SavedMS > 0 {
		k.SavedMS -= n.cfg.WallAhead.Milliseconds()
	}
	return k, true
}

func decodeClock(raw []byte, err error) (k knowledge, _ error) {
	if err != nil {
		return k, err
	}
	var f clockFile
	if err := json.Unmarshal(raw, &f); err != nil {
		return k, err
	}
	if f.Sum != checksum(f.Refill) {
		return k, errors.New("checksum differs")
	}
	if err := json.Unmarshal(f.Refill, &k); err != nil {
		return k, err
	}
	if k.Clock == nil || len(k.Clock) > maxMembers || len(k.Confirmed) > maxMembers {
		return k, fmt.Errorf("%d components, %d confirmed members", len(k.Clock), len(k.Confirmed))
	}
	for node, v := range k.Clock {
		for _, r := range v {
			if r < 0 || r > 1<<61 {
				return k, fmt.Errorf("impossible component of %s", node)
			}
		}
	}
	return k, nil
}

func checksum(b []byte) string { return fmt.Sprintf("%016x", xxhash.Sum64(b)) }

// writeClock saves the clock; the file is replaced whole.
func (n *Node) writeClock() {
	path := n.cfg.dataFile("clock")
	if path == "" {
		return
	}
	k := n.refill.knowledge()
	k.SavedMS += n.cfg.WallAhead.Milliseconds()
	known, err := json.Marshal(k)
	if err == nil {
		var raw []byte
		if raw, err = json.Marshal(clockFile{Refill: known, Sum: checksum(known)}); err == nil {
			err = replaceFile(path, raw)
		}
	}
	if err != nil {
		n.log.Error("refill clock not saved", "file", path, "err", err)
	}
}
