package persist

import (
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/openclaw/edge/testnet/kv"
)

// Over a real socket the faults mean what they mean in process, and nothing is left open.
func TestFaultsOverASocket(t *testing.T) {
	server := kv.New(kv.Config{Token: secret})
	listener := httptest.NewServer(server)
	defer listener.Close()
	defer server.Close()
	for _, f := range []struct {
		fault kv.Fault
		kind  Kind
		calls int
		says  string
	}{
		{kv.Fault{Kind: kv.Reset}, Unknown, 1, "broke"},
		{kv.Fault{Kind: kv.Lost}, Unknown, 1, "broke"},
		{kv.Fault{Kind: kv.Down}, Unknown, 1, "broke"}, // accepted and closed: not a refusal here
		{kv.Fault{Kind: kv.Hang}, Unknown, 1, "deadline"},
		{kv.Fault{Kind: kv.HTML}, Failed, 3, "HTTP 502"},
		{kv.Fault{Kind: kv.Failure, Status: 429, Code: 971, RetryAfter: "9"}, Throttled, 1, "HTTP 429"},
	} {
		c, err := NewCloudflare(CloudflareConfig{AccountID: "account", NamespaceID: "namespace", Token: secret, BaseURL: listener.URL + kv.BasePath})
		if err != nil {
			t.Fatal(err)
		}
		rested(c.budget)
		before := server.Stats().Calls["put"]
		server.Fault(f.fault)
		limit := 30 * time.Second
		if f.fault.Kind == kv.Hang {
			limit = 300 * time.Millisecond
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		err = c.Put(ctx, values(1, 100_000))
		cancel()
		if n := server.Stats().Calls["put"] - before; KindOf(err) != f.kind || n != f.calls || !strings.Contains(err.Error(), f.says) {
			t.Errorf("%s: %v (%v) for %d requests, want %v for %d", f.fault.Kind, err, KindOf(err), n, f.kind, f.calls)
		}
		server.Heal()
		if f.kind != Throttled {
			if err := c.Put(t.Context(), values(2, 100_000)); err != nil {
				t.Errorf("after %s: %v", f.fault.Kind, err)
			}
			same(t, mustGet(t, c, entries(values(2, 100_000))), values(2, 100_000))
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A server that is not there, or not who it says, got nothing: Failed, not Unknown.
func TestNobodyThere(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	stranger := httptest.NewUnstartedServer(http.NotFoundHandler())
	stranger.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshake that fails
	stranger.StartTLS()
	defer stranger.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	for url, says := range map[string]string{
		gone.URL:     "no connection",
		stranger.URL: "certificate",
		strings.Replace(plain.URL, "http", "https", 1): "no secure connection",
	} {
		c, err := NewCloudflare(CloudflareConfig{AccountID: "account", NamespaceID: "namespace", Token: secret, BaseURL: url})
		if err != nil {
			t.Fatal(err)
		}
		rested(c.budget)
		if err := c.Put(t.Context(), values(1, 1)); KindOf(err) != Failed || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v (%v), want failed and %q", url, err, KindOf(err), says)
		}
		c.Close()
	}
}
