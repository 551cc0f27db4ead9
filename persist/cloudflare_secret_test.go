package persist

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/openclaw/edge/testnet/kv"
)

// No error shows the token or a password of the URL, whatever the server or the network says.
func TestErrorsKeepSecrets(t *testing.T) {
	var said []error
	for _, f := range faults {
		synctest.Test(t, func(t *testing.T) {
			c, server := standIn(t, kv.Config{})
			server.Fault(f.fault)
			said = append(said, c.Put(t.Context(), values(1, 1)))
		})
	}
	echo := roundTrip(func(r *http.Request) (*http.Response, error) {
		return respond(r, 403, fmt.Sprintf(`{"success":false,"errors":[{"code":9109,"message":"Invalid access token %s"}]}`, r.Header.Get("Authorization"))), nil
	})
	said = append(said, clientOf(t, echo, nil).Put(t.Context(), values(1, 1)))
	loud := roundTrip(func(r *http.Request) (*http.Response, error) {
		return nil, fmt.Errorf("proxy refuses %v", r.Header)
	})
	said = append(said, clientOf(t, loud, nil).Put(t.Context(), values(1, 1)))
	for _, cfg := range []CloudflareConfig{
		{AccountID: "a", NamespaceID: "n", Token: secret, BaseURL: "https://user:passw0rd@kv.example/"},
		{AccountID: "a", NamespaceID: "n", Token: secret, BaseURL: "https://kv.example/?key=passw0rd"},
		{AccountID: "a", NamespaceID: "n", Token: secret, BaseURL: "https://passw0rd\x7f/"},
		{AccountID: "a", NamespaceID: "n", Token: secret, BaseURL: "ftp://passw0rd"},
		{AccountID: "a", NamespaceID: "n", Token: secret + "\n"},
		{AccountID: "a", NamespaceID: "n"},
		{AccountID: "a", Token: secret},
		{NamespaceID: "n", Token: secret},
	} {
		_, err := NewCloudflare(cfg)
		said = append(said, err)
	}
	for _, err := range said {
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%v is no *Error", err)
			continue
		}
		for _, text := range []string{err.Error(), fmt.Sprintf("%+v", err), fmt.Sprintf("%+v", *e)} {
			if strings.Contains(text, secret) || strings.Contains(text, "passw0rd") {
				t.Errorf("a secret in %q", text)
			}
		}
	}
}

// A mistake in the settings is answered with what to do.
func TestMistakesAreAnsweredWithWhatToDo(t *testing.T) {
	good := CloudflareConfig{AccountID: "account", NamespaceID: "namespace", Token: secret}
	server := kv.New(kv.Config{Token: secret})
	for _, mistake := range []struct {
		make func(*CloudflareConfig)
		kind Kind
		says string
	}{
		{func(c *CloudflareConfig) { c.Token = "" }, Denied, "token_env"},
		{func(c *CloudflareConfig) { c.Token = "other" }, Denied, "Workers KV Storage"},
		{func(c *CloudflareConfig) { c.AccountID = "" }, Misconfigured, "dashboard"},
		{func(c *CloudflareConfig) { c.AccountID = "other" }, Misconfigured, "account_id"},
		{func(c *CloudflareConfig) { c.NamespaceID = "" }, Misconfigured, "dashboard"},
		{func(c *CloudflareConfig) { c.NamespaceID = "other" }, Misconfigured, "namespace_id"},
		{func(c *CloudflareConfig) { c.NamespaceID = "../other" }, Misconfigured, "namespace_id"},
		{func(c *CloudflareConfig) { c.BaseURL = "api.cloudflare.com" }, Misconfigured, "base_url"},
		{func(c *CloudflareConfig) { c.BaseURL = "https://api.cloudflare.com/v4" }, Misconfigured, "base_url"},
	} {
		cfg := good
		cfg.HTTPClient = &http.Client{Transport: server.RoundTripper()}
		mistake.make(&cfg)
		c, err := NewCloudflare(cfg)
		if err == nil {
			rested(c.budget)
			err = c.Put(t.Context(), values(1, 1))
		}
		if KindOf(err) != mistake.kind || !strings.Contains(err.Error(), mistake.says) {
			t.Errorf("%v (%v), want %v and %q", err, KindOf(err), mistake.kind, mistake.says)
		}
	}
}
