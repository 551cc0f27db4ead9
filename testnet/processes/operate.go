package processes

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/world"
)

// Pause pauses a node's refill daemon, or lets it go on.
func (w *World) Pause(name string, paused bool) error {
	m, err := w.running(name)
	if err != nil {
		return err
	}
	if err := w.operate(m, fmt.Sprintf("/-/refill?paused=%v", paused)); err != nil {
		return err
	}
	detail := ""
	if !paused {
		detail = "off"
	}
	w.note(judge.Pause, detail, []string{name})
	return nil
}

// Skew is beyond this testnet.
func (w *World) Skew(name string, _ time.Duration) error {
	return fmt.Errorf("%w: %s has the wall clock of this machine, as all its processes do; play this on nodes in one process", world.ErrCannot, name)
}

// Reload gives one node a new file, and tells it so; the others have it at their next start, and
// hear of it by gossip.
func (w *World) Reload(via string, limits []crdt.Definition) error {
	m, err := w.running(via)
	if err != nil {
		return err
	}
	before := w.limits
	w.version++
	w.limits = slices.Clone(limits)
	text, err := w.configText()
	if err == nil {
		err = m.proc.WriteConfig(text)
	}
	if err == nil {
		err = w.operate(m, "/-/reload")
	}
	if err != nil {
		w.limits = before
		return err
	}
	w.observed.Redefine(limits, w.Now())
	w.note(judge.Reload, "", []string{via})
	return nil
}

// operate makes one of the operator's calls.
func (w *World) operate(m *machine, path string) error {
	status, body, err := m.proc.Do("POST", path, w.token)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("processes: %s: %s: %s", m.Name, path, detail(status, body))
	}
	return err
}
