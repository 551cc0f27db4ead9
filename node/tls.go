package node

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// certificates is the TLS of a node's listeners, read again by the reloader (watch.go) when
// the files change, and on SIGHUP. What cannot be used leaves what was in force in force, is
// logged and sets the metric to 0. Connections that are open keep what they began with.
//
// A nil *certificates is plain text.
type certificates struct {
	files  TLS
	log    *slog.Logger
	ok     prometheus.Gauge
	expiry prometheus.Gauge

	mu    sync.Mutex // one reload at a time
	texts [][]byte   // of the files, as last read, good or bad

	config atomic.Pointer[tls.Config] // in force
}

// newCertificates reads the files. Their metrics are there only if there is TLS.
func newCertificates(files TLS, log *slog.Logger, registry prometheus.Registerer) (*certificates, error) {
	if files.Cert == "" {
		return nil, nil
	}
	c := &certificates{files: files, log: log,
		ok: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "openclaw_tls_last_reload_successful",
			Help: "1 if the certificate, key and client CA were good when last read, 0 if those in force are older.",
		}),
		expiry: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "openclaw_tls_certificate_expiry_timestamp_seconds",
			Help: "When the certificate in force runs out.",
		}),
	}
	texts, err := files.read()
	if err == nil {
		err = c.use(texts)
	}
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	registry.MustRegister(c.ok, c.expiry)
	return c, nil
}

// reload reads the files again, whether or not they have changed.
func (c *certificates) reload(cause string) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	texts, err := c.files.read()
	if err == nil {
		err = c.use(texts)
	}
	if err != nil {
		c.texts = texts
		c.ok.Set(0)
		c.log.Error("tls: not reloaded; the certificate in force stays", "cause", cause, "err", err)
		return
	}
	c.log.Info("tls: reloaded", "cause", cause, "cert", c.files.Cert)
}

// changed reloads if the files are not what was last read.
func (c *certificates) changed() {
	if c == nil {
		return
	}
	c.mu.Lock()
	texts, err := c.files.read()
	same := err == nil && slices.EqualFunc(texts, c.texts, bytes.Equal)
	c.mu.Unlock()
	if !same {
		c.reload("file changed")
	}
}

// use puts what the files say in force, if it is good.
func (c *certificates) use(texts [][]byte) error {
	config, leaf, err := c.files.parse(texts, time.Now())
	if err != nil {
		return err
	}
	c.config.Store(config)
	c.texts = texts
	c.ok.Set(1)
	c.expiry.Set(float64(leaf.NotAfter.Unix()))
	return nil
}

// server is for listeners: each handshake gets what is in force then.
func (c *certificates) server() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         alpn,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.config.Load(), nil },
	}
}

// serve is srv.Serve, over TLS if there is any.
func (c *certificates) serve(srv *http.Server, l net.Listener) error {
	if c == nil {
		return srv.Serve(l)
	}
	srv.TLSConfig = c.server()
	return srv.ServeTLS(l, "", "")
}

// dirs are the directories to watch: files are replaced, and a watch on the old one would see
// nothing more.
func (c *certificates) dirs() (dirs []string) {
	if c != nil {
		for _, path := range c.files.paths() {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	return dirs
}

var alpn = []string{"h2", "http/1.1"}

func (f *TLS) paths() []string {
	if f.ClientCA == "" {
		return []string{f.Cert, f.Key}
	}
	return []string{f.Cert, f.Key, f.ClientCA}
}

func (f *TLS) read() (texts [][]byte, err error) {
	for _, path := range f.paths() {
		text, _, err := readFile(path)
		if err != nil {
			return nil, f.at(path, err)
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// check tells what is wrong with the files, and where in the config they are named.
func (f *TLS) check(now time.Time) error {
	if f.Cert == "" {
		return nil
	}
	texts, err := f.read()
	if err == nil {
		_, _, err = f.parse(texts, now)
	}
	return err
}

func (f *TLS) parse(texts [][]byte, now time.Time) (*tls.Config, *x509.Certificate, error) {
	pair, err := tls.X509KeyPair(texts[0], texts[1])
	if err != nil {
		return nil, nil, f.at(f.Cert, fmt.Errorf("no certificate that goes with the key in %s: %w", f.Key, err))
	}
	switch leaf := pair.Leaf; {
	case now.After(leaf.NotAfter):
		return nil, nil, f.at(f.Cert, fmt.Errorf("%s ran out on %s; renew the certificate", f.Cert, leaf.NotAfter.UTC().Format(time.DateTime)))
	case now.Before(leaf.NotBefore):
		return nil, nil, f.at(f.Cert, fmt.Errorf("%s is not good before %s; look at the clock of this machine", f.Cert, leaf.NotBefore.UTC().Format(time.DateTime)))
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: alpn, Certificates: []tls.Certificate{pair}}
	if f.ClientCA != "" {
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(texts[2]) {
			return nil, nil, f.at(f.ClientCA, errors.New("no PEM certificate in "+f.ClientCA))
		}
	}
	return config, pair.Leaf, nil
}

func (f *TLS) at(path string, err error) error {
	return fmt.Errorf("%s: %w", cmp.Or(f.where[path], "tls"), err)
}
