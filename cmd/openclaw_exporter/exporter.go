package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

// config is what the flags say.
type config struct {
	nodes    []string
	host     string
	port     int           // 0: any free one
	interval time.Duration // between rounds
	timeout  time.Duration // of a node, for both calls
	log      *slog.Logger
	started  func(addr string) // told once it listens; may be nil
}

// maxNodes bounds what a round costs: calls under way, answers held, series.
const maxNodes = 64

// exporter is the watcher and the page that shows what it saw.
type exporter struct {
	cfg     config
	watcher *watcher
}

func newExporter(c config) (*exporter, error) {
	switch {
	case len(c.nodes) == 0:
		return nil, errors.New("nobody to watch: give --nodes=http://HOST:PORT,…")
	case len(c.nodes) > maxNodes:
		return nil, fmt.Errorf("%d nodes are more than %d: watch a part of them with another exporter", len(c.nodes), maxNodes)
	case c.interval < 100*time.Millisecond || c.timeout <= 0:
		return nil, fmt.Errorf("--interval %v, --timeout %v: write at least 100ms between rounds, and some time to answer", c.interval, c.timeout)
	}
	seen := map[string]bool{}
	targets := make([]*target, len(c.nodes))
	for i, text := range c.nodes {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" {
			return nil, fmt.Errorf("--nodes: %q is no node: write http://HOST:PORT", text)
		}
		if seen[u.Host] {
			return nil, fmt.Errorf("--nodes: %s stands there twice", u.Host)
		}
		seen[u.Host] = true
		targets[i] = newTarget(u)
	}
	return &exporter{cfg: c, watcher: newWatcher(&c, targets)}, nil
}

// Run watches and serves until ctx ends.
//
//	goroutine   owns                        leaves
//	watch       the targets, the rounds     with ctx; its calls end with it
//	serve       the listener                on Shutdown
//	stop        the shutdown                when it is done
func (e *exporter) Run(ctx context.Context) error {
	listener, err := net.Listen("tcp", net.JoinHostPort(e.cfg.host, strconv.Itoa(e.cfg.port)))
	if err != nil {
		return fmt.Errorf("%w; another port is given by --metrics-port (0: any free one), another host by --host", err)
	}
	server := &http.Server{
		Handler: e.handler(), ReadTimeout: 5 * time.Second, WriteTimeout: 15 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(e.cfg.log.Handler(), slog.LevelDebug),
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return e.watcher.run(ctx) })
	g.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		late, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if server.Shutdown(late) != nil {
			server.Close()
		}
		return nil
	})
	e.cfg.log.Info("listening", "metrics", "http://"+listener.Addr().String()+"/metrics", "nodes", len(e.cfg.nodes))
	if e.cfg.started != nil {
		e.cfg.started(listener.Addr().String())
	}
	return g.Wait()
}
