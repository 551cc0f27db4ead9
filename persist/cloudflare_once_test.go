package persist

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/openclaw/edge/testnet/kv"
)

// A request that the budget let through once is sent once: net/http by itself repeats a GET whose
// connection breaks when it is not the first on it. Over HTTP/2 it does not, and there the remedy
// would announce a body that a GET must not have.
func TestACallIsOneRequest(t *testing.T) {
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		server := kv.New(kv.Config{Token: secret})
		defer server.Close()
		listener := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Proto != proto || r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
				t.Errorf("%s %s %s: content length %d, transfer encoding %v; want %s and no body", r.Method, r.URL, r.Proto, r.ContentLength, r.TransferEncoding, proto)
			}
			server.ServeHTTP(w, r)
		}))
		listener.EnableHTTP2 = proto == "HTTP/2.0"
		listener.StartTLS()
		defer listener.Close()
		c, err := NewCloudflare(CloudflareConfig{AccountID: "account", NamespaceID: "namespace", Token: secret, BaseURL: listener.URL + kv.BasePath})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.client.Transport.(*once).TLSClientConfig = &tls.Config{RootCAs: listener.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
		rested(c.budget)
		for range 2 {
			if _, err := c.List(t.Context(), "rating_bucket:"); err != nil {
				t.Fatalf("%s: %v", proto, err)
			}
		}
		server.Fault(kv.Fault{Kind: kv.Reset})
		if _, err := c.List(t.Context(), "rating_bucket:"); KindOf(err) != Unknown {
			t.Fatalf("%s: %v, want no answer", proto, err)
		}
		if n := server.Stats().Calls["list"]; n != 2+tries {
			t.Errorf("%s: %d requests, want %d", proto, n, 2+tries)
		}
	}
}
