package client_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"

	"github.com/openclaw/edge/crdt"
	"github.com/openclaw/edge/node"
)

// startNode runs a node with one limit, "uploads": two, and one more an hour. In a deployment it is
// openclaw-edge that runs it.
func startNode() (addr string, stop func()) { return startNodeWith(node.TLS{}) }

func startNodeWith(files node.TLS) (addr string, stop func()) {
	dir, err := os.MkdirTemp("", "client")
	if err != nil {
		panic(err)
	}
	rate, err := crdt.ParseRate("1/h")
	if err != nil {
		panic(err)
	}
	c := node.DefaultConfig()
	c.Node, c.DataDir, c.MetricsPort = "edge-1", dir, 0
	c.HTTP, c.GRPC, c.Gossip = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	c.Limits = []crdt.Definition{{Name: "uploads", Capacity: 2 * crdt.Token, Rate: rate, MaxBuckets: 1000}}
	c.TLS = files
	c.Logger = slog.New(slog.DiscardHandler)
	bound := make(chan node.Addresses, 1)
	c.Started = func(a node.Addresses) { bound <- a }
	n, err := node.New(c)
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	select {
	case a := <-bound:
		return "http://" + a.HTTP, func() { cancel(); <-done; os.RemoveAll(dir) }
	case err := <-done:
		panic(err)
	}
}

// fakeNode answers calls in the place of the network, so that time can be virtual.
type fakeNode func(r *http.Request) (*http.Response, error)

func (f fakeNode) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

const yes = `{"allowed":true,"limit":"uploads","key":"alice","cost":1,"remaining":1,"capacity":2,"refill_rate":0.5,"retry_after_ms":0,"backup":false}`

// hangs is a node that takes connections and answers nothing.
func hangs(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}
