package processes

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/openclaw/edge/node"
	"github.com/openclaw/edge/testnet/judge"
	"github.com/openclaw/edge/testnet/process"
	"github.com/openclaw/edge/testnet/world"
)

// The same on every node: each has an address of its own.
const (
	apiPort     = 8080
	metricsPort = 9100
	gossipPort  = 7946
)

// machine is where the lives of one node run, one after the other.
type machine struct {
	world.Machine
	index   int
	proc    *process.Process
	life    int           // so far
	watched chan struct{} // closed when nobody watches the last life any more; nil before the first
	asked   atomic.Bool   // to end: its end is no surprise
	fit     atomic.Bool   // was fit for traffic once in this life

	// Guarded by World.mu.
	writer   string // of this life; "": not yet known
	learning bool   // somebody is finding out
}

func (w *World) add(name, region, dir string) error {
	i := len(w.machines)
	host := w.net.Addr(i)
	m := &machine{index: i, Machine: world.Machine{
		Name: name, Region: region, HTTP: fmt.Sprintf("%s:%d", host, apiPort), Metrics: fmt.Sprintf("%s:%d", host, metricsPort),
	}}
	m.proc = process.New(process.Options{
		Node: name, Region: region, Binary: w.cfg.Binary, Dir: filepath.Join(dir, name), Log: "info",
		Host: host, API: m.HTTP, Gossip: fmt.Sprintf("%s:%d", host, gossipPort), MetricsPort: metricsPort,
		Env: append(w.stores.env(), adminEnv+"="+w.token), Wrap: w.net.Wrap(i),
	})
	m.proc.Addresses = process.Addresses{HTTP: m.HTTP, Metrics: m.Metrics, Gossip: m.proc.Options.Gossip}
	w.machines = append(w.machines, m)
	return os.MkdirAll(m.proc.Dir, 0o755)
}

func (w *World) machine(name string) (*machine, error) {
	for _, m := range w.machines {
		if m.Name == name {
			return m, nil
		}
	}
	return nil, fmt.Errorf("processes: no node is called %q; there are %s", name, strings.Join(w.names(), ", "))
}

func (w *World) names() (names []string) {
	for _, m := range w.machines {
		names = append(names, m.Name)
	}
	return names
}

// Start starts a new life of a node, with the newest file. It does not wait until that is ready.
func (w *World) Start(name string) error {
	m, err := w.machine(name)
	if err == nil {
		err = w.start(m)
	}
	if err == nil {
		w.note(judge.Start, "", []string{name})
	}
	return err
}

func (w *World) start(m *machine) error {
	switch {
	case m.proc.Running() && m.asked.Load():
		return fmt.Errorf("processes: %s is still stopping: start it a little later", m.Name)
	case m.proc.Running():
		return fmt.Errorf("processes: %s runs already", m.Name)
	}
	text, err := w.configText()
	if err != nil {
		return err
	}
	if m.watched != nil {
		<-m.watched
	}
	m.proc.Config = text
	m.proc.Advertise = w.links.fronts[m.index].Addr()
	m.proc.Join = nil // the first start of all founds the cluster
	for _, o := range w.machines {
		if o.life > 0 {
			m.proc.Join = append(m.proc.Join, w.links.fronts[o.index].Addr())
		}
	}
	m.asked.Store(false)
	m.fit.Store(false)
	if err := m.proc.Start(); err != nil {
		return err
	}
	m.life++
	w.mu.Lock()
	m.writer, m.learning = "", false
	w.mu.Unlock()
	m.watched = make(chan struct{})
	go w.watch(m, m.watched)
	return nil
}

// watch goes with a life from its start to its end.
func (w *World) watch(m *machine, watched chan struct{}) {
	defer close(watched)
	for {
		select {
		case <-m.proc.Ended():
			if !m.asked.Load() {
				w.fail(fmt.Errorf("processes: %s ended by itself:\n%s", m.Name, m.proc.Logs()))
			}
			return
		case <-time.After(50 * time.Millisecond):
		}
		if !m.fit.Load() {
			ready, reason, _ := m.ready()
			// One that has lost its majority says that it is not fit. It is asked all the same: that is
			// where mistakes would show.
			m.fit.Store(ready || strings.HasPrefix(reason, "no refill authority"))
		}
	}
}

// ready is what /readyz says; ok is false if it says nothing.
func (m *machine) ready() (ready bool, reason string, ok bool) {
	status, body, err := m.proc.Do("GET", "/readyz", "")
	if err != nil {
		return false, "does not answer", false
	}
	return status == http.StatusOK, detail(status, body), true
}

func (m *machine) cluster() (c node.Cluster, ok bool) {
	ok = m.proc.Get("/v1/cluster", &c)
	return c, ok
}

// answers tells whether a take may be sent to it.
func (m *machine) answers() bool { return m.proc.Running() && !m.asked.Load() && m.fit.Load() }

// Stop tells a node to stop, with SIGTERM. It is asked nothing any more.
func (w *World) Stop(name string) error {
	m, err := w.running(name)
	if err != nil {
		return err
	}
	m.asked.Store(true)
	m.proc.Term()
	w.note(judge.Stop, "", []string{name})
	return nil
}

// Crash kills a node with SIGKILL.
func (w *World) Crash(name string) error {
	m, err := w.running(name)
	if err != nil {
		return err
	}
	w.observed.Crash(judge.Life{Machine: m.Name, Number: m.life}, w.Now())
	m.end()
	w.note(judge.Crash, "", []string{name})
	return nil
}

// end kills what runs, and waits until nobody watches it.
func (m *machine) end() {
	m.asked.Store(true)
	m.proc.Kill()
	if m.watched != nil {
		<-m.watched
	}
}

func (w *World) running(name string) (*machine, error) {
	m, err := w.machine(name)
	if err == nil && (!m.proc.Running() || m.asked.Load()) {
		err = fmt.Errorf("processes: %s does not run", name)
	}
	return m, err
}
