package page

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/openclaw/edge/testnet/memnet"
	"github.com/openclaw/edge/testnet/world"
)

// Config is what a page shows. World, Link and Listener are required.
type Config struct {
	World    world.World                       // the page's from Run on; closed by who made it
	Link     func(from, to string) memnet.Link // between two regions, when all is well
	Flows    []*world.Flow                     // the normal load
	Flood    *world.Flow                       // what its switch adds; nil: nothing
	Stores   string                            // what plays KV and Redis, in words
	Listener net.Listener                      // closed when Run returns
	Logger   *slog.Logger                      // nil: discarded
}

// Page serves one testnet to browsers.
type Page struct {
	cfg Config
	hub *hub
}

// New makes a page; nothing runs yet.
func New(cfg Config) *Page {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Page{cfg: cfg, hub: newHub(cfg)}
}

// readHeader bounds how long a request may take to arrive, idle how long a connection is kept.
const (
	readHeader = 5 * time.Second
	idle       = time.Minute
)

// Run plays the World and serves the page until ctx ends. When it returns, nothing that it
// started is alive.
//
//	part   owns                              leaves
//	hub    the World, and what is known      when ctx ends, or serve has failed
//	serve  the listener, a request each      when the hub has left, which ends all event streams
func (p *Page) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	server := &http.Server{
		Handler: p.hub.handler(), ReadHeaderTimeout: readHeader, IdleTimeout: idle,
		ErrorLog: slog.NewLogLogger(p.cfg.Logger.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() {
		defer stop()
		served <- server.Serve(p.cfg.Listener)
	}()
	p.hub.run(ctx)

	late, done := context.WithTimeout(context.WithoutCancel(ctx), readHeader)
	defer done()
	if server.Shutdown(late) != nil {
		server.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
