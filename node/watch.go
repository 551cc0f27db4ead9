package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
	"github.com/prometheus/client_golang/prometheus"
)

// reloader reads the configuration file again: on SIGHUP, on POST /-/reload, and when its
// content changes. A bad file leaves the limits in force, is logged and sets the metric to 0.
// Limits, gossip keys and Envoy's rules are reloaded; other changes need a restart, and are logged as such.
type reloader struct {
	node  *Node
	ok    prometheus.Gauge
	certs *certificates // nil: none; read again together with the file
	envoy *envoy        // told the file's rules; nil: nobody

	mu   sync.Mutex // one reload at a time
	text []byte     // as last read, good or bad: editors and config maps raise many events for one change
	last Config     // as last read and good
}

// settle is how long the directory must be quiet before the file is read: editors write
// in several steps.
const settle = 100 * time.Millisecond

var errNoFile = errors.New("this node was started without a config file; start it with --config FILE")

func newReloader(n *Node, ok prometheus.Gauge) (*reloader, error) {
	r := &reloader{node: n, ok: ok}
	if n.cfg.File == "" {
		return r, nil
	}
	c, err := r.read()
	if c.LimitsVersion != n.cfg.LimitsVersion {
		r.text = nil // it has changed since the node was configured: changed will see that
	}
	return r, err
}

// read reads and checks the file, and keeps it if it is good.
func (r *reloader) read() (Config, error) {
	text, modified, err := readFile(r.node.cfg.File)
	if err != nil {
		return Config{}, fmt.Errorf("config: %w", err)
	}
	r.text = text
	c, _, err := parseConfig(r.node.cfg.File, text, modified)
	if err == nil {
		r.last = c
	}
	return c, err
}

// now reloads, whether or not the file has changed.
func (r *reloader) now(cause string) (version uint64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.certs.reload(cause)
	if r.node.cfg.File == "" {
		return 0, errNoFile
	}
	before := r.last
	c, err := r.read()
	rotate := len(before.GossipKeys) > 0 && len(c.GossipKeys) > 0 && !reflect.DeepEqual(before.GossipKeys, c.GossipKeys)
	if err == nil && rotate {
		err = r.node.gossip.SetKeys(c.GossipKeys)
	}
	if err == nil {
		err = r.node.Replace(c.Limits, c.LimitsVersion)
	}
	if err != nil {
		r.ok.Set(0)
		r.node.log.Error("config: not reloaded; the limits in force stay", "cause", cause, "err", err)
		return 0, err
	}
	if r.envoy != nil {
		r.envoy.replace(c.Envoy)
	}
	r.ok.Set(1)
	r.node.log.Info("config: reloaded", "cause", cause, "file", c.File, "version", c.LimitsVersion, "limits", len(c.Limits))
	if rotate {
		before.GossipKeys = c.GossipKeys
	}
	if !sameButLimits(before, c) {
		r.node.log.Warn("config: something other than the limits has changed; restart to apply it", "file", c.File)
	}
	return c.LimitsVersion, nil
}

// changed reloads if the content is not what was last read.
func (r *reloader) changed() {
	r.certs.changed()
	if r.node.cfg.File == "" {
		return
	}
	r.mu.Lock()
	text, _, err := readFile(r.node.cfg.File)
	same := err == nil && bytes.Equal(text, r.text)
	r.mu.Unlock()
	if !same {
		r.now("file changed") // it logs
	}
}

func sameButLimits(a, b Config) bool {
	for _, c := range []*Config{&a, &b} {
		c.Limits, c.LimitsVersion, c.Envoy, c.TLS.where = nil, 0, nil, nil
	}
	return reflect.DeepEqual(a, b)
}

// watcher listens to SIGHUP and to the file's directory from now on; the function returned
// acts on both until its context is done.
func (r *reloader) watcher() func(context.Context) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	var events chan fsnotify.Event
	closeDir := func() error { return nil }
	dirs := r.certs.dirs()
	if r.node.cfg.File != "" {
		dirs = append(dirs, filepath.Dir(r.node.cfg.File))
	}
	if len(dirs) > 0 {
		if w, err := watchDirs(dirs...); err == nil {
			events, closeDir = w.Events, w.Close
		} else {
			r.node.log.Warn("config: file changes go unnoticed; SIGHUP and POST /-/reload still work", "err", err)
		}
	}
	return func(ctx context.Context) error {
		defer signal.Stop(hangup)
		defer closeDir()
		return r.watch(ctx, hangup, events)
	}
}

func (r *reloader) watch(ctx context.Context, hangup <-chan os.Signal, events <-chan fsnotify.Event) error {
	quiet := time.NewTimer(0) // the first look catches what changed during the start
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangup:
			if _, err := r.now("SIGHUP"); errors.Is(err, errNoFile) {
				r.node.log.Warn("config: SIGHUP, but " + err.Error())
			}
		case _, ok := <-events:
			if !ok {
				events = nil
				continue
			}
			quiet.Reset(settle)
		case <-quiet.C:
			r.changed()
		}
	}
}

// watchDirs watches the directories of files: editors and config maps replace the file, and a
// watch on the old one would see nothing more.
func watchDirs(dirs ...string) (*fsnotify.Watcher, error) {
	w, err := fsnotify.NewBufferedWatcher(64)
	if err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		if err := w.Add(dir); err != nil {
			w.Close()
			return nil, err
		}
	}
	return w, nil
}
