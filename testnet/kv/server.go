package kv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// BasePath is what stands before /accounts in the path, as at api.cloudflare.com.
const BasePath = "/client/v4"

// The documented limits.
const (
	maxPairs      = 10_000   // of a bulk put or delete
	maxGetKeys    = 100      // of a bulk get
	maxBody       = 100e6    // bytes of a bulk put
	maxAnswer     = 25 << 20 // bytes of the values of a bulk get
	maxValue      = 25 << 20
	maxKey        = 512
	maxMetadata   = 1024
	minTTL        = 60 // seconds
	maxPage       = 1000
	quotaWindow   = 5 * time.Minute
	logCapacity   = 1 << 16 // calls kept for Stats
	shutdownAfter = time.Second
)

// Config of a Server. The zero value works: account "account", namespace "namespace", token
// "token", no lag.
type Config struct {
	Account, Namespace, Token string
	Seed                      uint64        // of what Rate, Share and Stale draw
	Lag                       time.Duration // how old a state readers see; 0: the newest
	Stale                     float64       // 0–1, share of reads that see the old state; 0 is 1
	// AnswerLimit is how many bytes of values a bulk get gives, else 413. 0: 25 MiB, as documented.
	AnswerLimit int
	EmptyPages  bool // every page of a listing is preceded by an empty one with a cursor
	// Quota is how many calls five minutes take; the one beyond it, and all for five minutes
	// after it, are answered 429 with code 971. 0: no limit.
	Quota int
}

// Server is the stand-in. It is an http.Handler, safe for concurrent use, and starts nothing.
type Server struct {
	cfg     Config
	mux     *http.ServeMux
	control *http.ServeMux
	state   *state
	closed  chan struct{}
	once    sync.Once

	mu     sync.Mutex // guards what follows; never held while a call waits
	rng    *rand.Rand
	faults []*active
	stats  Stats
	recent []time.Time // calls of the last quotaWindow, when there is a Quota
	banned time.Time
}

// New is an empty namespace.
func New(cfg Config) *Server {
	for to, fallback := range map[*string]string{&cfg.Account: "account", &cfg.Namespace: "namespace", &cfg.Token: "token"} {
		if *to == "" {
			*to = fallback
		}
	}
	if cfg.AnswerLimit == 0 {
		cfg.AnswerLimit = maxAnswer
	}
	if cfg.Stale == 0 {
		cfg.Stale = 1
	}
	s := &Server{
		cfg:    cfg,
		state:  newState(cfg),
		closed: make(chan struct{}),
		rng:    rand.New(rand.NewPCG(cfg.Seed, 2)),
		stats:  Stats{Calls: map[string]int{}, Faults: map[Kind]int{}},
	}
	s.routes()
	s.controls()
	return s
}

// Close ends the calls that hang. What is to be applied late still is.
func (s *Server) Close() { s.once.Do(func() { close(s.closed) }) }

// Serve answers on l until ctx ends, then closes l, and the Server with it.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() {
		s.Close()
		bye, cancel := context.WithTimeout(context.Background(), shutdownAfter)
		defer cancel()
		if srv.Shutdown(bye) != nil {
			srv.Close()
		}
	})
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("kv: serve: %w", err)
	}
	return nil
}

// call is one request of the API, read.
type call struct {
	op, account, namespace string
	key                    string // of values and metadata
	query                  url.Values
	header                 http.Header
	body                   []byte
	unlucky                float64 // 0–1, share of the keys that a partial fault breaks
}

func (s *Server) routes() {
	s.mux = http.NewServeMux()
	in := BasePath + "/accounts/{account}/storage/kv/namespaces/{namespace}/"
	for pattern, h := range map[string]struct {
		op string
		do func(*Server, call) reply
	}{
		"PUT " + in + "bulk":            {"put", (*Server).bulkPut},
		"POST " + in + "bulk/get":       {"get", (*Server).bulkGet},
		"POST " + in + "bulk/delete":    {"delete", (*Server).bulkDelete},
		"DELETE " + in + "bulk":         {"delete", (*Server).bulkDelete},
		"GET " + in + "keys":            {"list", (*Server).list},
		"GET " + in + "values/{key}":    {"value", (*Server).valueGet},
		"PUT " + in + "values/{key}":    {"value", (*Server).valuePut},
		"DELETE " + in + "values/{key}": {"value", (*Server).valueDelete},
		"GET " + in + "metadata/{key}":  {"value", (*Server).metadata},
	} {
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, h.op, h.do) })
	}
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.answer(w, r, "other", func(_ *Server, _ call) reply {
			return failure(http.StatusNotFound, 7000, "No route for that URI")
		})
	})
}

// ServeHTTP answers one request, of the API or of the control.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/_/") {
		s.control.ServeHTTP(w, r)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// answer lets the fault that is on for op, if any, decide what becomes of the call.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, op string, do func(*Server, call) reply) {
	fault := s.arrived(op)
	if fault.Kind == Down || fault.Kind == Reset {
		s.drop(w, fault)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	c := call{
		op: op, account: r.PathValue("account"), namespace: r.PathValue("namespace"), key: r.PathValue("key"),
		query: r.URL.Query(), header: r.Header, body: body,
	}
	if fault.Kind == Partial {
		c.unlucky = fault.share()
	}
	switch fault.Kind {
	case Late:
		time.AfterFunc(time.Duration(fault.Delay), func() { s.admitted(c, do) })
		fallthrough
	case Hang:
		s.wait(r.Context(), -1)
		s.drop(w, fault)
		return
	case Slow:
		s.wait(r.Context(), time.Duration(fault.Delay))
	}
	out := fault.reply()
	switch {
	case err != nil:
		out = failure(http.StatusRequestEntityTooLarge, 10030, "request body too large")
	case out.status == 0:
		out = s.admitted(c, do)
	}
	if fault.Kind == Lost {
		s.drop(w, fault)
		return
	}
	s.served(len(c.body), len(out.body))
	out.write(w)
}

// admitted does the call, if its bearer may.
func (s *Server) admitted(c call, do func(*Server, call) reply) reply {
	token, bearer := strings.CutPrefix(c.header.Get("Authorization"), "Bearer ")
	switch {
	case c.header.Get("Authorization") == "":
		return failure(http.StatusBadRequest, 9106, "Missing X-Auth-Key, X-Auth-Email or Authorization headers")
	case !bearer || token == "" || strings.ContainsAny(token, " \t"):
		return failure(http.StatusBadRequest, 6003, "Invalid request headers")
	case token != s.cfg.Token:
		return failure(http.StatusUnauthorized, 10000, "Authentication error")
	}
	if out := s.overQuota(); out.status != 0 {
		return out
	}
	switch {
	case c.op == "other":
	case c.account != s.cfg.Account:
		return failure(http.StatusNotFound, 7003, "Could not route to the account, perhaps your object identifier is invalid?")
	case c.namespace != s.cfg.Namespace:
		return failure(http.StatusNotFound, 10013, "namespace not found")
	}
	return do(s, c)
}

// wait ends after d, or with ctx or the Server; a negative d never passes.
func (s *Server) wait(ctx context.Context, d time.Duration) {
	var passed <-chan time.Time
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		passed = t.C
	}
	select {
	case <-ctx.Done():
	case <-s.closed:
	case <-passed:
	}
}
