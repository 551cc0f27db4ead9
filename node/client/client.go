// Package client asks a node of OpenClaw Edge, for servers written in Go: as middleware around an
// http.Handler, or call by call. It knows the node by its HTTP API alone and imports none of it.
//
//	request ─▶ Middleware ─▶ Take ─▶ breaker ─▶ POST /v1/take/{limit}/{key} ─▶ node
//	              │            (client.go)        pooled, each at most Timeout
//	              ├─ allowed:            next handler, RateLimit fields set
//	              ├─ refused:            429 problem+json, Retry-After
//	              └─ no decision:        as OnFailure says: next handler, or 503
//
// A node that is down costs its callers a few timeouts, not one each: after failuresToOpen in a row
// the breaker answers at once, and lets one call a second through to see whether it is back.
package client

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// Fallback is what becomes of a request that no node has decided on.
type Fallback int

// There is no default: a server that serves everybody while its limiter is down, and one that
// serves nobody, both have to be meant.
const (
	FailOpen   Fallback = iota + 1 // admit it, without a limit
	FailClosed                     // refuse it with 503
)

// Config of a Client. Addr and OnFailure are required, Limit for Middleware only.
type Config struct {
	Addr      string   // of a node: http://HOST:PORT or https://HOST:PORT
	OnFailure Fallback // when the node does not decide in time

	Limit string                       // that requests are counted against
	Key   func(r *http.Request) string // who is limited; nil: the peer's address, of IPv6 its /64. "" is refused with 400
	Cost  int64                        // tokens for each request; 0: 1

	Timeout   time.Duration     // of one call; 0: 250 ms. More rides out slow moments, and costs a request as much when the node hangs
	MaxConns  int               // to the node, kept open; 0: 128. What finds none free waits, within Timeout
	TLS       *tls.Config       // to an https node: authorities to trust, our certificate; nil: what the system trusts, and none
	Transport http.RoundTripper // nil: a pool of MaxConns, with TLS
	Logger    *slog.Logger      // nil: slog.Default(). Says when the node does not decide, every ten seconds at most
}

// Client asks one node; any number of goroutines may use it. Make it with New.
type Client struct {
	cfg     Config
	base    string
	http    *http.Client
	breaker *gobreaker.CircuitBreaker[*Result]
	said    atomic.Int64 // when the last complaint was logged, Unix nanoseconds
}

// What the breaker goes by.
const (
	failuresToOpen = 5
	openFor        = time.Second
	maxReply       = 64 << 10 // bytes: many times what a node says
)

// New checks the configuration. It starts nothing and calls nobody.
func New(cfg Config) (*Client, error) {
	at, err := url.Parse(cfg.Addr)
	switch {
	case err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https":
		return nil, fmt.Errorf("client: Addr %q: write http://HOST:PORT, the address of a node's API", cfg.Addr)
	case cfg.OnFailure != FailOpen && cfg.OnFailure != FailClosed:
		return nil, errors.New("client: OnFailure is not set: choose FailOpen or FailClosed")
	case cfg.TLS != nil && (cfg.Transport != nil || at.Scheme != "https"):
		return nil, errors.New("client: TLS is for an Addr of https, and for the pool; a Transport brings its own")
	case cfg.Cost < 0 || cfg.Timeout < 0 || cfg.MaxConns < 0:
		return nil, errors.New("client: Cost, Timeout and MaxConns are positive, or 0 for the default")
	}
	if cfg.Cost == 0 {
		cfg.Cost = 1
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 250 * time.Millisecond
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = 128
	}
	if cfg.Key == nil {
		cfg.Key = peer
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Transport == nil {
		cfg.Transport = &http.Transport{ // no proxy of the environment: it is for the world, not for a neighbour
			MaxConnsPerHost: cfg.MaxConns, MaxIdleConnsPerHost: cfg.MaxConns, IdleConnTimeout: time.Minute, TLSClientConfig: cfg.TLS,
		}
	}
	c := &Client{cfg: cfg, base: strings.TrimSuffix(cfg.Addr, "/")}
	c.http = &http.Client{Transport: cfg.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	c.breaker = gobreaker.NewCircuitBreaker[*Result](gobreaker.Settings{
		Timeout:      openFor,
		ReadyToTrip:  func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= failuresToOpen },
		IsSuccessful: func(err error) bool { return err == nil || errors.As(err, new(*CallError)) }, // it answered
		IsExcluded:   func(err error) bool { return errors.Is(err, errAbandoned) },
	})
	return c, nil
}

// Close closes the connections that nobody uses.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Result is a node's decision.
type Result struct {
	Allowed    bool    `json:"allowed"`
	Limit      string  `json:"limit"`
	Key        string  `json:"key"`
	Cost       int64   `json:"cost"`      // tokens, as all below
	Remaining  int64   `json:"remaining"` // whole
	Capacity   float64 `json:"capacity"`
	RefillRate float64 `json:"refill_rate"` // a second
	RetryMS    int64   `json:"retry_after_ms"`
	Backup     bool    `json:"backup"` // served by the backup bucket

	policy, state, retryAfter string // header fields, as the node wrote them
}

// CallError is the answer of a node to a call that can never succeed: an unknown limit, a cost
// over the capacity.
type CallError struct {
	Status int
	Detail string // what to do about it, in the node's words
}

func (e *CallError) Error() string { return fmt.Sprintf("client: %d: %s", e.Status, e.Detail) }

// errAbandoned: whoever asked did not wait for the answer. That says nothing about the node.
var errAbandoned = errors.New("client: abandoned by its caller")

// Take takes cost tokens of key's bucket. A dry bucket is a Result that is not Allowed. The error is
// a *CallError, or says why the node did not answer; nobody knows then whether it has taken.
func (c *Client) Take(ctx context.Context, limit, key string, cost int64) (*Result, error) {
	return c.breaker.Execute(func() (*Result, error) {
		res, err := c.ask(ctx, limit, key, cost)
		if err != nil && ctx.Err() != nil {
			return nil, fmt.Errorf("%w: %w", errAbandoned, ctx.Err())
		}
		return res, err
	})
}

func (c *Client) ask(ctx context.Context, limit, key string, cost int64) (*Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeout, fmt.Errorf("no answer within %v", c.cfg.Timeout))
	defer cancel()
	resp, body, err := c.post(ctx, "/v1/take/"+url.PathEscape(limit)+"/"+url.PathEscape(key)+"?cost="+strconv.FormatInt(cost, 10))
	if err != nil {
		return nil, err
	}
	return decode(resp, body)
}

// post is one call, without a body; the answer's is read and closed.
func (c *Client) post(ctx context.Context, path string) (*http.Response, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("client: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, nil, fmt.Errorf("client: %s: %w", c.base, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return nil, nil, fmt.Errorf("client: %s: %w", c.base, err)
	}
	return resp, body, nil
}

// decode reads the answer. What is neither a decision nor a node's refusal is no node's.
func decode(resp *http.Response, body []byte) (*Result, error) {
	switch resp.StatusCode {
	case http.StatusOK, http.StatusTooManyRequests:
		r := &Result{policy: resp.Header.Get("RateLimit-Policy"), state: resp.Header.Get("RateLimit"), retryAfter: resp.Header.Get("Retry-After")}
		if err := json.Unmarshal(body, r); err != nil || r.Limit == "" || r.Allowed != (resp.StatusCode == http.StatusOK) {
			return nil, fmt.Errorf("client: %s is not the answer of a node; is Addr that of its API?", resp.Status)
		}
		return r, nil
	case http.StatusBadRequest, http.StatusNotFound:
		var p struct{ Detail string }
		if json.Unmarshal(body, &p) == nil && p.Detail != "" {
			return nil, &CallError{resp.StatusCode, p.Detail}
		}
	}
	return nil, fmt.Errorf("client: the node answered %s", resp.Status)
}
