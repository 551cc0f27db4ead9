package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
)

// identity is our side of TLS.
type identity struct {
	pair  *tls.Certificate // nil: we have none
	asked atomic.Bool      // a node wanted to see one, and has not answered since
}

// tls is what the flags say of it. None of them: what the system trusts, and no certificate.
func (f *flags) tls() (*tls.Config, *identity, error) {
	c, who := &tls.Config{}, &identity{}
	if f.TLSCA != "" {
		pem, err := os.ReadFile(f.TLSCA)
		if err != nil {
			return nil, nil, usageError{fmt.Errorf("--tls-ca: %w", err)}
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, nil, usageError{fmt.Errorf("--tls-ca: no certificate in %s; PEM is expected", f.TLSCA)}
		}
	}
	if f.TLSCert != "" || f.TLSKey != "" {
		pair, err := tls.LoadX509KeyPair(f.TLSCert, f.TLSKey)
		if err != nil {
			return nil, nil, usageError{fmt.Errorf("--tls-cert and --tls-key belong together: %w", err)}
		}
		who.pair = &pair
	}
	c.GetClientCertificate = who.show
	return c, who, nil
}

// show answers a node that asks for a certificate. Why not tls.Config.Certificates: of these none
// is shown that the node would not take, and then its answer is that there was none.
func (who *identity) show(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	who.asked.Store(true)
	if who.pair == nil {
		return &tls.Certificate{}, nil
	}
	return who.pair, nil
}

// refused explains a connection that ended after we were asked who we are. The node's word for it
// may be lost on the way: then all there is is a reset.
func (who *identity) refused(base string, err error) error {
	if who.pair == nil {
		return fmt.Errorf("%s asks for a client's certificate: %w\n--tls-cert and --tls-key name ours, as do OPENCLAW_TLS_CERT and OPENCLAW_TLS_KEY", base, err)
	}
	return fmt.Errorf("%s does not take our certificate: %w\nIs it of an authority in the node's tls.client_ca, made for clients, and has it not run out?", base, err)
}

// distrusted explains a node whose certificate we do not take; nil: that was not it.
func distrusted(base string, err error) error {
	var name x509.HostnameError
	var invalid *tls.CertificateVerificationError
	switch {
	case errors.As(err, &name):
		return fmt.Errorf("%s: %w\nWrite --addr with a name that its certificate is for", base, err)
	case errors.As(err, &invalid):
		return fmt.Errorf("%s: %w\n--tls-ca names the certificates to trust, as does OPENCLAW_TLS_CA", base, err)
	}
	return nil
}
