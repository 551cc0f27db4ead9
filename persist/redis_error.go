package persist

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

var errNoReply = errors.New("no reply")

// notBegunError is the end of a context before anything was sent.
type notBegunError struct{ error }

func (e *notBegunError) Unwrap() error { return e.error }

// redisReplies says what a server's refusals mean, by how they begin.
var redisReplies = []struct {
	prefix string
	kind   Kind
	do     string
}{
	{"NOAUTH", Denied, "the server wants a password: put it into the redis url, redis://:PASSWORD@host"},
	{"WRONGPASS", Denied, "check user and password in the redis url"},
	{"ERR invalid password", Denied, "check the password in the redis url"},
	{"ERR Client sent AUTH, but no password", Denied, "the server has no password: take it out of the redis url"},
	{"ERR AUTH", Denied, "the server has no password for this user: correct user and password in the redis url, or take them out"},
	{"NOPERM", Denied, "give the user the commands EVAL, HGET, HSET, HMGET, HSTRLEN, TYPE, PEXPIRE, PERSIST, DEL, SCAN, PING and the keys rating_*"},
	{"LOADING", Failed, "the server is reading its data; it comes by itself"},
	{"READONLY", Failed, "this is a replica: the url should name the master, or Sentinel"},
	{"OOM", Failed, "the server's memory is full: raise maxmemory, or choose an eviction policy that spares these keys"},
	{"CLUSTERDOWN", Failed, "a part of the Redis Cluster is down"},
	{"MASTERDOWN", Failed, "the server has lost its master"},
	{"TRYAGAIN", Failed, "the Redis Cluster is moving keys; it comes by itself"},
	{"NOREPLICAS", Failed, "the server has too few replicas to accept writes (min-replicas-to-write)"},
	{"MISCONF", Failed, "the server cannot write its own snapshots and refuses changes: see its log"},
	{"BUSY", Failed, "a script of somebody's is blocking the server"},
	{"ERR max number of clients", Failed, "raise the server's maxclients"},
	{"MOVED", Misconfigured, "the server is part of a Redis Cluster: set cluster: true"},
	{"ERR This instance has cluster support disabled", Misconfigured, "the server is not part of a Redis Cluster: set cluster: false"},
	{"ERR DB index is out of range", Misconfigured, "the server has no such database: correct /N at the end of the redis url"},
	{"ERR unknown command", Misconfigured, "the server must know EVAL and hashes (Redis 4 or later)"},
	{"ERR No such master", Misconfigured, "correct master_name in the redis url"},
	{"WRONGTYPE", Misconfigured, "another program uses this key: give this one a database of its own"},
}

// redisKind classifies an error that is not the breaker's, and says what to do.
func redisKind(err error, o *goredis.UniversalOptions) (Kind, string) {
	var notBegun *notBegunError
	var dial *net.OpError
	switch text := err.Error(); {
	case errors.As(err, &notBegun):
		return Failed, "it was not begun"
	case isTLS(err):
		return Misconfigured, tlsAdvice(err)
	case errors.Is(err, errTLS) && o.TLSConfig == nil:
		return Misconfigured, "the server wants TLS: write rediss:// instead of redis://"
	case errors.Is(err, errTLS):
		return Misconfigured, "the server does not speak TLS on this port: write redis:// instead of rediss://, or its TLS port"
	case o.MasterName != "" && errors.Is(err, goredis.Nil):
		return Misconfigured, "the sentinels know no such master: correct master_name in the redis url"
	case isReply(err):
		for _, r := range redisReplies {
			if goredis.HasErrorPrefix(err, r.prefix) || goredis.HasErrorPrefix(err, strings.TrimPrefix(r.prefix, "ERR ")) {
				return r.kind, r.do
			}
		}
		return Failed, "see the server's log"
	case o.MasterName != "" && strings.Contains(text, "sentinels specified in configuration are unreachable"):
		return Failed, "no sentinel answers: are they running, are the addresses right?"
	case errors.As(err, &dial) && dial.Op == "dial", errors.Is(err, syscall.ECONNREFUSED):
		return Failed, "no connection: is Redis running, is the address in the redis url right, is a firewall between?"
	case errors.Is(err, goredis.ErrPoolTimeout), errors.Is(err, goredis.ErrPoolExhausted):
		return Failed, "too many calls at once"
	case errors.Is(err, goredis.ErrClosed):
		return Failed, "the store is closed"
	case isTimeout(err):
		return Unknown, "the server did not answer in time"
	case errors.Is(err, context.Canceled), isEnd(err):
		return Unknown, "the connection ended before the answer"
	}
	return Unknown, "see the server's log"
}

// isReply tells what the server itself said.
func isReply(err error) bool {
	var reply goredis.Error
	return errors.As(err, &reply)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.As(err, &timeout) && timeout.Timeout()
}

func isTLS(err error) bool {
	var (
		record    tls.RecordHeaderError
		alert     tls.AlertError
		verify    *tls.CertificateVerificationError
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	return errors.As(err, &record) || errors.As(err, &alert) || errors.As(err, &verify) ||
		errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid)
}

func tlsAdvice(err error) string {
	var record tls.RecordHeaderError
	var host x509.HostnameError
	switch {
	case errors.As(err, &record):
		return "the server does not speak TLS on this port: write redis:// instead of rediss://, or its TLS port"
	case errors.As(err, &host):
		return "the certificate is for another name: write that one in the redis url"
	}
	return "the certificate is not trusted here: install the authority's (SSL_CERT_FILE names a file), or add ?skip_verify=true"
}

func isEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// errTLS: one side speaks TLS, and the other does not.
var errTLS = errors.New("TLS on one side only")

// mistakenTLS finds out what an error cannot tell: a TLS server ends a connection that begins
// in plain text, and a Redis without TLS waits for the end of a line that never comes. It sends
// no secret.
func (r *Redis) mistakenTLS(err error) bool {
	ask := tlsAsk
	switch {
	case r.opts.Dialer != nil: // a socket
		return false
	case r.opts.TLSConfig == nil && !isEnd(err), r.opts.TLSConfig != nil && !isEnd(err) && !isTimeout(err):
		return false
	case r.opts.TLSConfig != nil:
		ask = plainAsk
	}
	conn, err := net.DialTimeout("tcp", r.opts.Addrs[0], r.opts.DialTimeout)
	if err != nil {
		return false
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(r.opts.DialTimeout))
	return ask(conn)
}

func tlsAsk(conn net.Conn) bool {
	return tls.Client(conn, &tls.Config{InsecureSkipVerify: true}).Handshake() == nil
}

func plainAsk(conn net.Conn) bool {
	if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
		return false
	}
	b := make([]byte, 1)
	_, err := io.ReadFull(conn, b)
	return err == nil && (b[0] == '+' || b[0] == '-') // PONG, or an error in Redis' protocol
}
