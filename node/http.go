package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"
)

// The HTTP face. A request passes server.ServeHTTP (http_route.go), which finds its route;
// a take goes on to server.take (http_take.go), which asks Node.Take and writes the
// Decision; http_header.go renders the RateLimit fields. Refusals are http_problem.go,
// the operator's calls http_admin.go.
type server struct {
	node    *Node
	log     *slog.Logger
	metrics *metrics
	reload  *reloader
	admin   adminGate
	exact   map[string]*route // by path
	prefix  []*route          // by the path up to the first brace; takes first
	unknown *route

	ranks singleflight.Group // see top
}

// Bounds of one connection. A take is answered in microseconds: what is slower than this is
// the client, and is cut off. One deadline serves header and body: another one would cost
// every request a third of what the take does.
const (
	callTimeout = 10 * time.Second
	idleTimeout = 2 * time.Minute
	stopTimeout = 5 * time.Second
	maxHeader   = 32 << 10
	maxBody     = 1 << 20
)

func newServer(n *Node) (*server, error) {
	gate, err := newAdminGate(n.cfg.AdminTokenEnv)
	if err != nil {
		return nil, err
	}
	m := newMetrics(n)
	reload, err := newReloader(n, m.reloaded)
	if err != nil {
		return nil, err
	}
	s := &server{node: n, log: n.log, metrics: m, reload: reload, admin: gate}
	s.buildRoutes()
	return s, nil
}

// serve binds the HTTP and metrics listeners, writes addresses.json, watches the file, and
// returns when ctx is done and all of that has stopped, or when a listener failed.
//
//	goroutine        owns                  leaves
//	api, metrics     a listener each       on Shutdown, at most stopTimeout after ctx
//	stop             the two shutdowns     when they are done
//	watch            the file, SIGHUP      with ctx
//	watchdog         systemd's timer       with ctx; absent without systemd
func (n *Node) serve(ctx context.Context) error {
	s, err := newServer(n)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	if n.cfg.NoListen { // nor signals and file events: they do not enter a test's virtual time
		<-ctx.Done()
		return nil
	}
	watch := s.reload.watcher()
	g.Go(func() error { return watch(ctx) })
	if err := s.listen(ctx, g); err != nil {
		g.Go(func() error { return err })
	}
	return g.Wait()
}

// listen binds both listeners, and starts what serves and stops them.
func (s *server) listen(ctx context.Context, g *errgroup.Group) error {
	cfg := &s.node.cfg
	api, err := net.Listen("tcp", cfg.HTTP)
	if err != nil {
		return fmt.Errorf("http: %w; another address is given by --http", err)
	}
	host, _, err := net.SplitHostPort(cfg.HTTP)
	if err != nil {
		return errors.Join(fmt.Errorf("http: %w", err), api.Close())
	}
	metrics, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(cfg.MetricsPort)))
	if err != nil {
		return errors.Join(fmt.Errorf("metrics: %w; another port is given by --metrics-port (0: any free one)", err), api.Close())
	}
	bound := Addresses{HTTP: api.Addr().String(), Metrics: metrics.Addr().String(), Gossip: s.node.gossipAddr()}
	forget, err := writeAddresses(cfg.DataDir, bound)
	if err != nil {
		return errors.Join(err, api.Close(), metrics.Close())
	}
	servers := []*http.Server{s.httpServer(s), s.httpServer(s.metrics.handler())}
	for i, l := range []net.Listener{api, metrics} {
		g.Go(func() error {
			if err := servers[i].Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("http: %w", err)
			}
			return nil
		})
	}
	g.Go(func() error {
		<-ctx.Done()
		notifyStopping()
		forget()
		for _, srv := range servers {
			shutdown(srv)
		}
		return nil
	})
	g.Go(func() error { return watchdog(ctx, func() { s.node.Ready() }) })
	s.log.Info("listening", "http", bound.HTTP, "metrics", bound.Metrics, "gossip", bound.Gossip)
	if cfg.Started != nil {
		cfg.Started(bound)
	}
	notifyReady()
	return nil
}

func (s *server) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:        h,
		ReadTimeout:    callTimeout,
		WriteTimeout:   scrapeTimeout + callTimeout, // counted from the request's header
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// shutdown lets calls under way finish, and cuts off those that do not.
func shutdown(srv *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if srv.Shutdown(ctx) != nil {
		srv.Close()
	}
}
