package persist

import (
	"cmp"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cloudflare/cloudflare-go/v7/kv"
	"github.com/cloudflare/cloudflare-go/v7/option"
	"github.com/sony/gobreaker/v2"
)

// CloudflareConfig is where the namespace is and who asks.
type CloudflareConfig struct {
	AccountID   string
	NamespaceID string
	Token       string // of the API, with the right "Workers KV Storage: Edit" on the account
	// BaseURL is what stands before /accounts/…; with or without a slash at its end. "": Cloudflare's.
	BaseURL    string
	HTTPClient *http.Client // nil: an own one. Redirects are not followed, nor its cookies kept
	// Members is how many nodes share the account's 1,200 calls in five minutes; asked before
	// every call, so it must be quick. nil: 1. 0: not known yet, and calls wait. Too low a number
	// gets all of them blocked.
	Members func() int
	// Ledger is a file of this node's that remembers over restarts how many calls it has left.
	// "": a start has none, and waits for each: 0.3 s, times Members.
	Ledger string
}

// Cloudflare is a Workers KV namespace, by its REST API. What it costs: a Put is one call, and
// as many writes as there are values; a Get one call for 100 keys; a List one for 1,000.
//
//	Put, Get, List, Delete ─▶ exchange: again, shortly, after a 5xx, up to 3 times
//	                          └─▶ attempt: pause ─▶ budget ─▶ breaker ─▶ one HTTP request
//
// A pause is what an answer asked for (Retry-After, a daily quota, a wrong token), the breaker
// what silence and 5xx ask for. While either is on, calls return at once and cost nothing.
//
// A value is stored as base64 text, since bulk get is for text only; its version and size are
// in the metadata, as {"v": "17", "n": 1234}, where a listing shows them. KV cannot compare
// versions: the last write applied wins, Delete deletes whatever is there.
type Cloudflare struct {
	namespace string
	account   string
	token     string // to keep it out of messages only
	api       *kv.NamespaceService
	client    *http.Client
	budget    *budget
	gate      gate
	breaker   *gobreaker.CircuitBreaker[answer]
	getBytes  int // maxGetBytes, but in tests
}

const (
	cloudflareURL = "https://api.cloudflare.com/client/v4"
	// kvLag is the 60 s that Cloudflare names for a write to be seen everywhere ("or more"),
	// and a quarter for what it does not name.
	kvLag = 75 * time.Second
	// The breaker opens when so many requests in a row went unanswered or failed, and tries one
	// after so long.
	breakerFailures = 5
	breakerOpen     = 20 * time.Second
)

// NewCloudflare checks cfg; it calls nobody. The error is an *Error of kind Misconfigured or
// Denied.
func NewCloudflare(cfg CloudflareConfig) (*Cloudflare, error) {
	if problem := cfg.problem(); problem != "" {
		return nil, &Error{Store: "kv", Op: "open", Kind: Misconfigured, Err: errors.New(problem)}
	}
	if cfg.Token == "" || strings.ContainsFunc(cfg.Token, func(r rune) bool { return r <= ' ' || r >= 127 }) {
		return nil, &Error{Store: "kv", Op: "open", Kind: Denied, Err: errors.New("the token is empty, or has spaces or line ends in it: " + checkToken)}
	}
	client := http.Client{Transport: &once{Transport: newTransport()}}
	if cfg.HTTPClient != nil {
		client = *cfg.HTTPClient
	}
	client.Jar = nil
	// A redirected PUT would become a GET, and its answer a lie.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c := &Cloudflare{
		namespace: url.PathEscape(cfg.NamespaceID),
		account:   url.PathEscape(cfg.AccountID),
		token:     cfg.Token,
		client:    &client,
		budget:    newBudget(cfg.Members, &ledger{file: cfg.Ledger}),
		getBytes:  maxGetBytes,
	}
	c.api = kv.NewNamespaceService(
		option.WithBaseURL(strings.TrimSuffix(cmp.Or(cfg.BaseURL, cloudflareURL), "/")+"/"),
		option.WithAPIToken(cfg.Token),
		option.WithHTTPClient(&client),
		option.WithMaxRetries(0), // its own back-off sleeps a Retry-After of minutes
	)
	c.breaker = gobreaker.NewCircuitBreaker[answer](gobreaker.Settings{
		Timeout:       breakerOpen,
		ReadyToTrip:   func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= breakerFailures },
		OnStateChange: func(_ string, _, to gobreaker.State) { c.gate.turned(to == gobreaker.StateOpen, time.Now()) },
		IsSuccessful: func(err error) bool {
			kind := KindOf(err)
			return err == nil || kind != Failed && kind != Unknown || errors.Is(err, errKeyRate) // it is there, and says no
		},
		IsExcluded: func(err error) bool { return errors.Is(err, errAbandoned) },
	})
	return c, nil
}

// problem says what is wrong with cfg, without what may be a secret in it.
func (cfg CloudflareConfig) problem() string {
	if cfg.AccountID == "" || cfg.NamespaceID == "" {
		return "account_id and namespace_id are needed: copy them from the Workers KV page of the Cloudflare dashboard"
	}
	if cfg.BaseURL == "" {
		return ""
	}
	u, err := url.Parse(cfg.BaseURL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return "base_url is no http or https URL: leave it out, or set it to " + cloudflareURL
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "base_url must not have a user, a query or a fragment: the token goes elsewhere"
	}
	return ""
}

// newTransport is the default one with a shorter patience for connecting. How long a request
// may take in all depends on its size: see attempt.
func newTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = (&net.Dialer{Timeout: 3 * time.Second, KeepAlive: 15 * time.Second}).DialContext
	t.TLSHandshakeTimeout = 5 * time.Second
	t.MaxIdleConnsPerHost = 4
	return t
}

// once sends a request once. Over HTTP/1 the transport repeats a GET by itself when the connection
// that it took up again breaks, uncounted by the budget; not one that may have a body which it
// cannot rewind. That this one has none it finds out before it sends; over HTTP/2 only after, but
// there it repeats nothing that the server has seen.
type once struct {
	*http.Transport
	http1 atomic.Bool // the newest answer came so
}

func (o *once) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil && o.http1.Load() { // else there is no such connection
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(strings.NewReader(""))
	}
	res, err := o.Transport.RoundTrip(r)
	if err == nil {
		o.http1.Store(res.ProtoMajor == 1)
	}
	return res, err
}

// Name is "kv".
func (c *Cloudflare) Name() string { return "kv" }

// Lag is 75 s: Cloudflare says 60 s "or more" until a write is seen everywhere, and remembers a
// missing key as long as a value.
func (c *Cloudflare) Lag() time.Duration { return kvLag }

// Close closes idle connections, and remembers what is left of the calls. Those under way end with
// their contexts.
func (c *Cloudflare) Close() error {
	c.budget.stop()
	c.client.CloseIdleConnections()
	return nil
}
