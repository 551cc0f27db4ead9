package persist

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/cloudflare/cloudflare-go/v7/option"
	"github.com/sony/gobreaker/v2"
)

const (
	tries      = 3 // of one call, the first included
	firstPause = 200 * time.Millisecond
	// A request may take patience, and a second for every MiB that goes or comes.
	patience = 10 * time.Second
	// fairTime is what a caller must have left a request for its silence to count against the
	// server.
	fairTime = 2 * time.Second
	// What is read of an answer: 25 MB of values is Cloudflare's limit, JSON adds to it.
	maxAnswerBytes  = 34 << 20
	maxFailureBytes = 64 << 10
)

// errAbandoned is in the error of a request that its caller did not wait for: it says nothing
// about the server.
var errAbandoned = errors.New("given up by the caller")

// request is one call of the API.
type request struct {
	op    string
	size  int  // bytes that go or come, as far as known
	write bool // if it gets no answer, it may have been done
	into  any  // what the result is decoded into, a pointer; nil: it is left as it stands
	do    func(context.Context, ...option.RequestOption) error
}

// exchange makes a call, again after a short pause while that may help. What it repeats is
// idempotent: a key has one writer.
func (c *Cloudflare) exchange(ctx context.Context, r request) (answer, *Error) {
	var last *Error
	doubt := false // an earlier try may have been done, or may still be
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.Multiplier, pauses.RandomizationFactor = firstPause, 3, 0.5
	a, _ := backoff.Retry(ctx, func() (answer, error) {
		a, e, again := c.attempt(ctx, r)
		if e == nil {
			last = nil
			return a, nil
		}
		if doubt && e.Kind != Rejected {
			doubtful := *e // e itself may be the gate's
			doubtful.Kind = Unknown
			e = &doubtful
		}
		doubt = doubt || r.write && e.Kind == Unknown
		last = e
		if !again {
			return a, backoff.Permanent(e)
		}
		return a, e
	}, backoff.WithBackOff(pauses), backoff.WithMaxTries(tries))
	if last != nil && last.Until.IsZero() {
		if shut := c.gate.closed(r.op, time.Now()); shut != nil { // this call opened the breaker
			timed := *last
			timed.Until = shut.Until
			last = &timed
		}
	}
	return a, last
}

// attempt makes one HTTP request, if pause, budget and breaker let it. again: another may help.
func (c *Cloudflare) attempt(ctx context.Context, r request) (a answer, e *Error, again bool) {
	if e := c.gate.closed(r.op, time.Now()); e != nil {
		return a, e, false
	}
	if until, err := c.budget.spend(ctx); err != nil {
		e := &Error{Store: "kv", Op: r.op, Kind: Throttled, Until: until, Err: err}
		if until.IsZero() {
			e.Kind = Failed // nothing was sent
		}
		return a, e, false
	}
	if e := c.gate.closed(r.op, time.Now()); e != nil { // while waiting for the budget
		return a, e, false
	}
	a, err := c.breaker.Execute(func() (answer, error) {
		a, e, again = c.send(ctx, r)
		if e == nil {
			c.gate.learn(nil, time.Now())
			return a, nil
		}
		if !errors.Is(e, errAbandoned) {
			c.gate.learn(e, time.Now())
		}
		return a, e
	})
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		return a, c.gate.busy(r.op, time.Now()), false
	}
	return a, e, again
}

// send makes one HTTP request and judges what comes of it.
func (c *Cloudflare) send(ctx context.Context, r request) (answer, *Error, bool) {
	limit := patience + time.Duration(r.size>>20)*time.Second
	timed, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	started := time.Now()
	var res *http.Response
	// The library forms the request. The answer is taken raw: its types lose keys, take HTML for
	// an empty success, and "success": false for a success.
	err := r.do(timed, option.WithResponseBodyInto(&res), option.WithMiddleware(bounded))
	var body []byte
	if res != nil {
		defer res.Body.Close()
		if res.StatusCode >= 400 {
			body, _ = io.ReadAll(res.Body) // bounded, and read by the library before
			err = nil
		} else if err == nil {
			body, err = io.ReadAll(io.LimitReader(res.Body, maxAnswerBytes+1))
		}
	}
	if err == nil && res != nil {
		a, e, again := c.judge(r, res, body)
		return a, e, again
	}
	if cause := ctx.Err(); cause != nil {
		if errors.Is(cause, context.Canceled) || time.Since(started) < fairTime {
			cause = fmt.Errorf("%w: %w", errAbandoned, cause)
		}
		return answer{}, c.failed(r.op, Unknown, cause), false
	}
	return c.broken(r.op, err, limit)
}

// bounded keeps the library from reading an endless error page.
func bounded(req *http.Request, next option.MiddlewareNext) (*http.Response, error) {
	res, err := next(req)
	if err == nil && res.StatusCode >= 400 {
		res.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(res.Body, maxFailureBytes), res.Body}
	}
	return res, err
}

// broken judges a request that got no answer, or only a part of one.
func (c *Cloudflare) broken(op string, err error, limit time.Duration) (answer, *Error, bool) {
	var (
		at      *url.Error // names the URL, which may be long; its cause does not
		network *net.OpError
		name    *net.DNSError
		waited  net.Error
		cert    *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		unknown x509.UnknownAuthorityError
	)
	if errors.As(err, &at) {
		err = at.Err
	}
	switch {
	case errors.As(err, &name), errors.As(err, &network) && (network.Op == "dial" || network.Op == "proxyconnect"):
		return answer{}, c.failed(op, Failed, fmt.Errorf("no connection: %w", err)), true
	case errors.As(err, &cert), errors.As(err, &record), errors.As(err, &unknown), errors.Is(err, http.ErrSchemeMismatch):
		return answer{}, c.failed(op, Failed, fmt.Errorf("no secure connection: %w: check base_url, the clock and the certificates of this machine", err)), false
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &waited) && waited.Timeout():
		return answer{}, c.failed(op, Unknown, fmt.Errorf("no answer within %v", limit)), false
	}
	return answer{}, c.failed(op, Unknown, fmt.Errorf("the connection broke: %w", err)), true
}

// failed is an *Error whose text is free of the token.
func (c *Cloudflare) failed(op string, kind Kind, err error) *Error {
	if strings.Contains(err.Error(), c.token) {
		err = errors.New(strings.ReplaceAll(err.Error(), c.token, "…"))
	}
	return &Error{Store: "kv", Op: op, Kind: kind, Err: err}
}
