package page

import (
	"embed"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/openclaw/edge/testnet/world"
)

// Assets is the page's files. Reports plot with the same charts.
//
//go:embed assets
var Assets embed.FS

const (
	maxBody   = 4 << 10 // bytes of a command
	readBody  = 5 * time.Second
	maxOrders = 16 // commands that wait for the hub
)

// handler serves the page. Nothing of it is for other origins.
//
//	GET /          the page
//	GET /assets/…  what it needs
//	GET /events    server-sent events
//	POST /do       a command
func (h *hub) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFileFS(w, r, Assets, "assets/page.html")
	})
	mux.Handle("GET /assets/", http.FileServerFS(Assets))
	mux.HandleFunc("GET /events", h.stream.events)
	waiting := make(chan struct{}, maxOrders)
	mux.HandleFunc("POST /do", func(w http.ResponseWriter, r *http.Request) {
		select {
		case waiting <- struct{}{}:
			defer func() { <-waiting }()
			h.take(w, r)
		default:
			problem(w, http.StatusServiceUnavailable, "too many commands wait already: send it again in a second")
		}
	})
	return guard(mux)
}

// guard lets only this page's own origin pass, asked for by a loopback name.
func guard(next http.Handler) http.Handler {
	origins := http.NewCrossOriginProtection()
	origins.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		problem(w, http.StatusForbidden, "this came from a page of another origin: only the testnet's own page may give commands")
	}))
	next = origins.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Content-Security-Policy", "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("Referrer-Policy", "no-referrer")
		head.Set("Cache-Control", "no-cache")
		switch {
		case !loopback(r.Host):
			problem(w, http.StatusForbidden, "this page answers on loopback names only: open it as http://127.0.0.1:PORT or http://localhost:PORT")
		case r.Header.Get("Sec-Fetch-Site") == "cross-site" && r.Header.Get("Sec-Fetch-Mode") != "navigate":
			problem(w, http.StatusForbidden, "this came from a page of another origin: open the testnet's page itself")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// loopback tells whether a Host header names this machine, and nothing that a name server could.
func loopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.IsLoopback()
}

// take hands a command to the hub and waits for what came of it.
func (h *hub) take(w http.ResponseWriter, r *http.Request) {
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); kind != "application/json" {
		problem(w, http.StatusUnsupportedMediaType, "send the command as Content-Type: application/json")
		return
	}
	http.NewResponseController(w).SetReadDeadline(time.Now().Add(readBody)) // who sends no body waits for himself alone
	c, err := readCommand(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		problem(w, http.StatusBadRequest, err.Error())
		return
	}
	reply := make(chan answer, 1)
	select {
	case h.orders <- order{c, reply}:
	case <-h.over:
		problem(w, http.StatusServiceUnavailable, errOver.Error())
		return
	case <-r.Context().Done():
		return
	}
	a := <-reply // the hub answers every order that it has taken
	var m *mistake
	switch {
	case errors.As(a.err, &m):
		problem(w, http.StatusBadRequest, m.detail)
	case errors.Is(a.err, world.ErrCannot):
		problem(w, http.StatusNotImplemented, a.err.Error())
	case a.err != nil:
		problem(w, http.StatusConflict, a.err.Error())
	default:
		respond(w, http.StatusOK, "application/json", map[string]string{"done": a.done})
	}
}

// problem answers as RFC 9457 has it; detail says what to do.
func problem(w http.ResponseWriter, status int, detail string) {
	respond(w, status, "application/problem+json", map[string]any{"title": http.StatusText(status), "status": status, "detail": detail})
}

func respond(w http.ResponseWriter, status int, kind string, body any) {
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body) // what cannot be written, nobody reads
}
