package persist

import (
	"encoding/json"
	"os"
	"sync"
	"time"
)

// ledger is a file that remembers a budget over restarts, as JSON:
//
//	{"calls_left":12.5,"at_ms":1795341600000,"stopped":true}
//
// Stopped is there when the process came to an end of its own: it left the cluster, the others share
// what was its part, and nothing of it rises until it is back. Who was killed is still a member.
//
// It is written before each call, and not flushed: a machine that comes up again has waited.
// Where it cannot be written the snapshots beside it cannot be either, which is told.
type ledger struct {
	file    string     // "": it remembers nothing
	writing sync.Mutex // one write at a time, so that the newest stays
}

type ledgerDoc struct {
	Left float64 `json:"calls_left"`
	AtMS int64   `json:"at_ms"` // wall clock, Unix

	Stopped bool `json:"stopped,omitempty"`
}

// read is what was left, and since when it has risen; false: that is not known.
func (l *ledger) read() (left float64, at time.Time, ok bool) {
	if l.file == "" {
		return 0, time.Time{}, false
	}
	raw, err := os.ReadFile(l.file)
	var doc ledgerDoc
	if err != nil || json.Unmarshal(raw, &doc) != nil || doc.AtMS <= 0 || doc.Left < 0 || doc.Left > callBurst {
		return 0, time.Time{}, false
	}
	if doc.Stopped {
		return doc.Left, time.Now(), true
	}
	return doc.Left, time.UnixMilli(doc.AtMS), true
}

// write replaces the file whole by what is left now.
func (l *ledger) write(left func(time.Time) float64, stopped bool) {
	if l.file == "" {
		return
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	now := time.Now()
	raw, err := json.Marshal(ledgerDoc{max(0, left(now)), now.UnixMilli() + 1, stopped}) // rounded up: nothing rises twice
	if err == nil && os.WriteFile(l.file+".new", raw, 0o600) == nil {
		_ = os.Rename(l.file+".new", l.file)
	}
}
