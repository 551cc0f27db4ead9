package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/openclaw/edge/testnet/certs"
)

// tlsNode serves with certificates of ca's in dir, and takes clients of clients'.
func tlsNode(t *testing.T, ca, clients *certs.Authority) (n running, dir string) {
	c := envoyConfig(t)
	dir = t.TempDir()
	c.TLS = TLS{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), ClientCA: filepath.Join(dir, "clients.pem")}
	renew(t, dir, ca, 1)
	write(t, c.TLS.ClientCA, clients.PEM)
	return startNode(t, c), dir
}

// renew writes the two files one after the other: in between they do not fit.
func renew(t *testing.T, dir string, ca *certs.Authority, serial int64) {
	cert, key := ca.Issue(serial, time.Hour)
	write(t, filepath.Join(dir, "cert.pem"), cert)
	write(t, filepath.Join(dir, "key.pem"), key)
}

// get returns the serial of the server's certificate and the body; each call is a connection.
func get(c *tls.Config, method, url string) (serial int64, body string, err error) {
	h := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: c.Clone(), DisableKeepAlives: true}}
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		return 0, "", err
	}
	a, err := h.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err == nil && a.StatusCode != 200 {
		err = fmt.Errorf("%s: %s", a.Status, b)
	}
	return a.TLS.PeerCertificates[0].SerialNumber.Int64(), string(b), err
}

func TestOnlyClientsOfTheAuthorityAreServed(t *testing.T) {
	ca, other := certs.New(t, "ours"), certs.New(t, "another")
	n, _ := tlsNode(t, ca, ca)
	for name, c := range map[string]struct {
		tls  *tls.Config
		good bool
	}{
		"ours":                     {ca.Client(ca), true},
		"no certificate":           {ca.Client(nil), false},
		"another's":                {ca.Client(other), false},
		"who does not trust us":    {other.Client(ca), false},
		"ours, two protocols late": {&tls.Config{RootCAs: ca.Client(ca).RootCAs, Certificates: ca.Client(ca).Certificates, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false},
	} {
		for _, url := range []string{"https://" + n.http + "/healthz", "https://" + n.metrics + "/metrics"} {
			if _, _, err := get(c.tls, "GET", url); (err == nil) != c.good {
				t.Errorf("%s, %s: %v", name, url, err)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		conn := dialGRPC(t, n.grpc, credentials.NewTLS(c.tls))
		_, err := asker{t, newEnvoyClient(conn)}.ShouldRateLimit(ctx, userAlice())
		if (err == nil) != c.good {
			t.Errorf("%s, gRPC: %v", name, err)
		}
		cancel()
	}
	for _, addr := range []string{n.http, n.metrics} {
		if a, err := http.Get("http://" + addr + "/healthz"); err == nil {
			a.Body.Close()
			if a.StatusCode != 400 { // net/http's way to say that it speaks TLS
				t.Errorf("plain text: %s", a.Status)
			}
		}
	}
	if _, err := newAsker(t, n).try(userAlice()); err == nil {
		t.Error("plain gRPC was answered")
	}
}

func TestCertificatesAreRotatedUnderLoadWithoutAFailedRequest(t *testing.T) {
	ca := certs.New(t, "ours")
	n, dir := tlsNode(t, ca, ca)
	mine := ca.Client(ca)
	ctx, stop := context.WithCancel(t.Context())
	var g sync.WaitGroup
	var asked atomic.Int64
	load := func(call func() error) {
		g.Go(func() {
			for ctx.Err() == nil {
				if err := call(); err != nil {
					t.Error(err)
					return
				}
				asked.Add(1)
			}
		})
	}
	load(func() error { // a handshake each
		_, _, err := get(mine, "POST", "https://"+n.http+"/v1/credit/per-user/alice")
		return err
	})
	kept := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: mine.Clone(), ForceAttemptHTTP2: true}}
	load(func() error { // one connection, of HTTP/2
		a, err := kept.Get("https://" + n.http + "/healthz")
		if err == nil {
			_, err = io.Copy(io.Discard, a.Body)
			a.Body.Close()
			if a.ProtoMajor != 2 || a.StatusCode != 200 {
				err = fmt.Errorf("%s %s", a.Proto, a.Status)
			}
		}
		return err
	})
	envoy := asker{t, newEnvoyClient(dialGRPC(t, n.grpc, credentials.NewTLS(mine)))}
	load(func() error { _, err := envoy.try(userAlice()); return err })
	for serial := int64(2); serial < 5; serial++ {
		renew(t, dir, ca, serial)
		eventually(t, "the new certificate", func() bool {
			now, _, err := get(mine, "GET", "https://"+n.http+"/healthz")
			if err != nil {
				t.Fatal(err)
			}
			return now == serial
		})
	}
	stop()
	g.Wait()
	kept.CloseIdleConnections()
	if asked.Load() < 10 {
		t.Errorf("only %d calls", asked.Load())
	}
}

func TestABadCertificateLeavesTheOldOneInForce(t *testing.T) {
	ca := certs.New(t, "ours")
	n, dir := tlsNode(t, ca, ca)
	mine := ca.Client(ca)
	see := func(metric string) func() bool {
		return func() bool {
			serial, body, err := get(mine, "GET", "https://"+n.metrics+"/metrics")
			return err == nil && serial == 1 && strings.Contains(body, "\nopenclaw_tls_last_reload_successful "+metric+"\n")
		}
	}
	if !see("1")() {
		t.Fatal("no metric of a good certificate")
	}
	cert, key := ca.Issue(2, -time.Minute)
	for what, spoil := range map[string]func(){
		"no PEM":       func() { write(t, filepath.Join(dir, "cert.pem"), "hello") },
		"gone":         func() { os.Remove(filepath.Join(dir, "key.pem")) },
		"no authority": func() { write(t, filepath.Join(dir, "clients.pem"), "hello") },
		"run out":      func() { write(t, filepath.Join(dir, "cert.pem"), cert); write(t, filepath.Join(dir, "key.pem"), key) },
	} {
		good := map[string]string{}
		for _, name := range []string{"cert.pem", "key.pem", "clients.pem"} {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			good[name] = string(b)
		}
		spoil()
		eventually(t, what+": the metric falls", see("0"))
		for name, text := range good {
			write(t, filepath.Join(dir, name), text)
		}
		eventually(t, what+": mended", see("1"))
	}
}

func TestHangupReadsTheCertificates(t *testing.T) {
	ca := certs.New(t, "ours")
	var c *certificates
	dir := t.TempDir()
	renew(t, dir, ca, 1)
	s := newTestServer(t, func() Config {
		cfg := testConfig(t)
		cfg.TLS = TLS{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
		return cfg
	}())
	if c = s.certs; c.config.Load().ClientCAs != nil {
		t.Error("clients need a certificate, though nobody said of whom")
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	hangup := make(chan os.Signal, 1)
	ended := make(chan error, 1)
	go func() { ended <- s.reload.watch(ctx, hangup, nil) }() // no events of files
	renew(t, dir, ca, 2)
	eventually(t, "the signal is heard", func() bool {
		select {
		case hangup <- syscall.SIGHUP:
		default:
		}
		return c.config.Load().Certificates[0].Leaf.SerialNumber.Int64() == 2
	})
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestTheFilesOfTLSAreCheckedWithLineAndColumn(t *testing.T) {
	dir, ca := t.TempDir(), certs.New(t, "ours")
	path := func(name string) string { return filepath.Join(dir, name) }
	cert, key := ca.Issue(1, time.Hour)
	_, otherKey := ca.Issue(2, time.Hour)
	late, lateKey := ca.Issue(3, -time.Minute)
	for name, text := range map[string]string{"cert": cert, "key": key, "other": otherKey, "late": late, "lateKey": lateKey, "ca": ca.PEM, "empty": ""} {
		write(t, path(name), text)
	}
	for _, c := range []struct{ cert, key, ca, want string }{
		{"cert", "key", "ca", ""},
		{path("cert"), path("key"), path("ca"), ""},
		{"cert", "other", "ca", ":3:13: tls.cert: no certificate that goes with the key in " + path("other")},
		{"late", "lateKey", "ca", ":3:13: tls.cert: " + path("late") + " ran out on "},
		{"cert", "key", "empty", "tls.client_ca: no PEM certificate in " + path("empty")},
		{"cert", "none", "ca", "tls.key: open " + path("none") + ": no such file"},
	} {
		file := path("edge.yaml")
		write(t, file, fmt.Sprintf("\nlimits: [{name: a, capacity: 1, refill_rate: 1}]\ntls: {cert: %s, key: %s, client_ca: %s}\n", c.cert, c.key, c.ca))
		_, _, err := ReadConfig(file)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%+v: %v", c, err)
		case c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), file+":3:") || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%+v: %v", c, err)
		}
	}
}
