package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// tokenEnv holds the operator's token: not a flag, as those are for all to see in ps.
const tokenEnv = "OPENCLAW_ADMIN_TOKEN"

// maxAnswer bounds what is read of an answer: a hundred members, limits or keys are some kilobytes.
const maxAnswer = 64 << 20

// api calls one node.
type api struct {
	base    string // http://HOST:PORT
	timeout time.Duration
	who     *identity
	http    *http.Client
}

func newAPI(f *flags) (*api, error) {
	scheme := "http://"
	if f.TLSCA != "" || f.TLSCert != "" {
		scheme = "https://"
	}
	base, err := baseURL(f.Addr, scheme)
	if err != nil {
		return nil, err
	}
	config, who, err := f.tls()
	if err != nil {
		return nil, err
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = config
	return &api{base: base, timeout: f.Timeout, who: who, http: &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// baseURL takes a URL, or HOST:PORT or :PORT of the scheme.
func baseURL(addr, scheme string) (string, error) {
	full := addr
	if !strings.Contains(addr, "://") {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return "", usageError{fmt.Errorf("--addr %q: write HOST:PORT or a URL, as in 127.0.0.1:8080 or https://edge-1.example", addr)}
		}
		if host == "" {
			host = "127.0.0.1"
		}
		full = scheme + net.JoinHostPort(host, port)
	}
	u, err := url.Parse(full)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" {
		return "", usageError{fmt.Errorf("--addr %q: write HOST:PORT or a URL, as in 127.0.0.1:8080 or https://edge-1.example", addr)}
	}
	return strings.TrimSuffix(u.String(), "/"), nil
}

// answer is a node's.
type answer struct {
	status int
	body   []byte
}

// problem is an answer that is an error.
type problem struct {
	answer
	detail string // the node's words
	advice string // ours
}

func (p *problem) Error() string {
	if p.advice == "" {
		return p.detail
	}
	return p.detail + "\n" + p.advice
}

// call asks the node. Everything but success and a refused take is an error that says what to do.
func (a *api) call(ctx context.Context, method, path string) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, nil)
	if err != nil {
		return nil, err
	}
	token := os.Getenv(tokenEnv)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, a.unreachable(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, a.unreachable(err)
	}
	a.who.asked.Store(false) // whoever answers has taken us for whom we are
	got := &answer{resp.StatusCode, body}
	if strings.HasPrefix(string(body), "Client sent an HTTP request to an HTTPS server") { // net/http's own words
		return nil, fmt.Errorf("%s speaks TLS\nWrite --addr https://…", a.base)
	}
	if !json.Valid(body) {
		return nil, fmt.Errorf("%s answered %s, and that is no JSON: is this the address of a node's API?", a.base, resp.Status)
	}
	kind := resp.Header.Get("Content-Type")
	if got.status < 300 || got.status == http.StatusTooManyRequests && !strings.HasPrefix(kind, "application/problem+json") {
		return got, nil
	}
	p := &problem{answer: *got}
	var said struct{ Detail string }
	if json.Unmarshal(body, &said); said.Detail == "" {
		return nil, fmt.Errorf("%s answered %s without a detail: is this the address of a node's API?", a.base, resp.Status)
	}
	p.detail, p.advice = said.Detail, a.advice(got.status, said.Detail, path, token != "")
	return nil, p
}
