package persist

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// A request that the budget let through once is sent once: net/http by itself repeats a GET whose
// connection breaks when it is not the first on it.
func TestACallIsOneRequest(t *testing.T) {
	var requests, fail atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
			t.Errorf("%s %s has a body", r.Method, r.URL)
		}
		if fail.Load() == 0 {
			w.Header().Set("Content-Type", "application/json")
			w.Write([]byte(`{"success": true, "errors": [], "messages": [], "result": []}`))
			return
		}
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		conn.Close()
	}))
	defer server.Close()
	c, err := NewCloudflare(CloudflareConfig{AccountID: "account", NamespaceID: "namespace", Token: secret, BaseURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	rested(c.budget)
	if _, err := c.List(t.Context(), "rating_bucket:"); err != nil {
		t.Fatal(err)
	}
	fail.Store(1)
	if _, err := c.List(t.Context(), "rating_bucket:"); KindOf(err) != Unknown {
		t.Fatalf("%v, want no answer", err)
	}
	if n := requests.Load(); n != 1+tries {
		t.Errorf("%d requests, want %d", n, 1+tries)
	}
}

// Over HTTP/2, where a GET can announce a body and then have none, it announces none.
func TestACallHasNoBodyOverHTTP2(t *testing.T) {
	var requests atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if r.ProtoMajor != 2 || r.ContentLength != 0 {
			t.Errorf("%s %s %s: content length %d", r.Method, r.URL, r.Proto, r.ContentLength)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"success": true, "errors": [], "messages": [], "result": []}`))
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	c, err := NewCloudflare(CloudflareConfig{AccountID: "account", NamespaceID: "namespace", Token: secret, BaseURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.client.Transport.(*once).TLSClientConfig = &tls.Config{RootCAs: server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	rested(c.budget)
	for range 3 {
		if _, err := c.List(t.Context(), "rating_bucket:"); err != nil {
			t.Fatal(err)
		}
	}
	if n := requests.Load(); n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
}
