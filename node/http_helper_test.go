package node

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
)

// running is a node that serves, on free ports of loopback, until the test ends.
type running struct {
	*Node
	http, metrics, grpc string
}

func testConfig(t testing.TB) Config {
	c := DefaultConfig()
	c.Node, c.HTTP, c.GRPC, c.Gossip, c.MetricsPort = "edge-1", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", 0
	c.DataDir = t.TempDir()
	c.Logger = slog.New(slog.DiscardHandler)
	return c
}

// startNode waits until the node is ready.
func startNode(t testing.TB, c Config) running {
	t.Helper()
	bound := make(chan Addresses, 1)
	c.Started = func(a Addresses) { bound <- a }
	n, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		client.CloseIdleConnections()
	})
	select {
	case a := <-bound:
		eventually(t, "ready", func() bool { ok, _ := n.Ready(); return ok })
		return running{n, a.HTTP, a.Metrics, a.GRPC}
	case err := <-done:
		done <- err
		t.Fatalf("Run ended early: %v", err)
		panic("unreachable")
	}
}

var client = &http.Client{
	Transport:     &http.Transport{},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

type answer struct {
	*http.Response
	body string
}

func (n running) call(t testing.TB, method, path, body string, headers ...string) answer {
	t.Helper()
	return call(t, method, "http://"+n.http+path, body, headers...)
}

func call(t testing.TB, method, url, body string, headers ...string) answer {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp, string(b)}
}
