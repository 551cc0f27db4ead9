// Package redis starts real redis-server processes for tests and for a testnet: on free ports,
// each in a directory of its own, alone, with TLS, as a cluster, or watched by a sentinel. They
// end with the process that started them, even when that one is killed.
//
//	Start(t, Options) ─▶ *Server: URL, Kill, Stop, Cont, Restart, Do
//	StartCluster(t, 3, Options) ─▶ *Cluster: Servers, URL
//	StartSentinel(t, *Server) ─▶ *Sentinel: URL
//
// New, NewCluster and NewSentinel are the same without a test, and then Close is the caller's.
package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/openclaw/edge/testnet/program"
)

// ErrMissing is returned where redis-server is not installed.
var ErrMissing = errors.New("redis: redis-server is not installed (Debian: apt-get install redis-server)")

// Options say how to start a server. The zero value is one without password, TLS and limit.
type Options struct {
	TLS       bool   // with a certificate for 127.0.0.1 and localhost that CA has signed
	Password  string // of the default user
	MaxMemory string // such as "4mb"; what does not fit is refused
	Args      []string
	Dir       string // parent of the server's directory; "": the system's for temporary files

	trust *Server // whose certificate to use; nil: an own one
}

// Server is one redis-server. What it acknowledged is in its append-only file, and is there
// again after Restart(false).
type Server struct {
	Options
	Addr string // HOST:PORT
	CA   string // file of the authority, with TLS

	dir    string
	binary string
	args   []string
	cmd    *exec.Cmd
	done   chan struct{}
	client *goredis.Client
}

// tb is what is needed of a test. It is not testing.TB, so that programs do not link that package.
type tb interface {
	Helper()
	Skip(args ...any)
	Fatal(args ...any)
	Logf(format string, args ...any)
	Failed() bool
	Cleanup(f func())
}

// Skip skips the test where redis-server is missing.
func Skip(t tb) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip(ErrMissing)
	}
}

// Start starts a server that ends with the test.
func Start(t tb, o Options) *Server {
	t.Helper()
	Skip(t)
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of redis-server %s:\n%s", s.Addr, s.Log())
		}
		s.Close()
	})
	return s
}

// New starts a server and waits until it answers, for 10 s at most.
func New(o Options) (*Server, error) { return start("redis-server", o, nil) }

func start(binary string, o Options, more func(s *Server, port int) ([]string, error)) (*Server, error) {
	path, err := exec.LookPath(binary)
	if err != nil {
		return nil, ErrMissing
	}
	for try := 0; ; try++ {
		s, err := startOnce(path, o, more)
		if err == nil || try == 4 {
			return s, err
		}
	}
}

func startOnce(path string, o Options, more func(s *Server, port int) ([]string, error)) (*Server, error) {
	dir, err := os.MkdirTemp(o.Dir, "redis-*")
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &Server{Options: o, Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), dir: dir, binary: path}
	if more != nil {
		s.args, err = more(s, port)
	} else {
		s.args, err = s.serverArgs(port)
	}
	if err == nil {
		err = s.launch()
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) serverArgs(port int) ([]string, error) {
	args := []string{
		"--bind", "127.0.0.1", "--dir", s.dir, "--logfile", filepath.Join(s.dir, "log"), "--daemonize", "no",
		"--save", "", "--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0",
	}
	if s.TLS {
		from := s
		if s.trust != nil {
			from, s.CA = s.trust, s.trust.CA
		} else if err := s.makeCertificates(); err != nil {
			return nil, err
		}
		args = append(args, "--port", "0", "--tls-port", strconv.Itoa(port), "--tls-auth-clients", "no",
			"--tls-cert-file", filepath.Join(from.dir, "cert.pem"), "--tls-key-file", filepath.Join(from.dir, "key.pem"),
			"--tls-ca-cert-file", s.CA)
	} else {
		args = append(args, "--port", strconv.Itoa(port))
	}
	if s.Password != "" {
		args = append(args, "--requirepass", s.Password)
	}
	if s.MaxMemory != "" {
		args = append(args, "--maxmemory", s.MaxMemory, "--maxmemory-policy", "noeviction")
	}
	return append(args, s.Args...), nil
}

// launch starts the process and waits until it answers.
func (s *Server) launch() error {
	s.cmd = exec.Command(s.binary, s.args...)
	s.done = make(chan struct{})
	err := program.Child(s.cmd, func() {
		s.cmd.Wait()
		close(s.done)
	})
	if err != nil {
		close(s.done)
		return fmt.Errorf("redis: %w", err)
	}
	s.client = goredis.NewClient(s.options())
	until := time.Now().Add(10 * time.Second)
	for {
		conn, err := net.DialTimeout("tcp", s.Addr, time.Second) // the client would log what it cannot dial
		if err == nil {
			conn.Close()
			if err = s.Do("PING"); err == nil {
				return nil
			}
		}
		select {
		case <-s.done:
			return fmt.Errorf("redis: the server ended at once: %s", s.Log())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(until) {
			return fmt.Errorf("redis: no answer within 10 s: %w\n%s", err, s.Log())
		}
	}
}

func (s *Server) options() *goredis.Options {
	o := &goredis.Options{
		Addr: s.Addr, Password: s.Password, Protocol: 2, DisableIdentity: true,
		MaxRetries: -1, DialerRetries: 1, ContextTimeoutEnabled: true, MaxIdleConns: 1,
		PoolSize:    4096, // after so many failed dials the pool waits a second between them
		DialTimeout: time.Second, ReadTimeout: 5 * time.Second,
	}
	if s.TLS {
		o.TLSConfig = &tls.Config{InsecureSkipVerify: true} // of a server that this process has started
	}
	return o
}

// Do runs one command past the program under test.
func (s *Server) Do(args ...any) error {
	_, err := s.Ask(args...)
	return err
}

// Ask is Do with the reply.
func (s *Server) Ask(args ...any) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return s.client.Do(ctx, args...).Result()
}

// URL is the server's, with the password.
func (s *Server) URL() string {
	scheme, user := "redis", ""
	if s.TLS {
		scheme = "rediss"
	}
	if s.Password != "" {
		user = ":" + s.Password + "@"
	}
	return scheme + "://" + user + s.Addr
}

// Log is what the server wrote.
func (s *Server) Log() string {
	b, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Kill ends the server with SIGKILL and waits for its end.
func (s *Server) Kill() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	s.cmd.Process.Kill()
	<-s.done
}

// Stop makes the server hang: connections are accepted by the kernel, and nothing answers.
func (s *Server) Stop() { s.cmd.Process.Signal(syscall.SIGSTOP) }

// Cont ends Stop; the server then does what has come meanwhile.
func (s *Server) Cont() { s.cmd.Process.Signal(syscall.SIGCONT) }

// Restart kills the server, if it runs, and starts it on the same address: empty, or with what
// it held.
func (s *Server) Restart(empty bool) error {
	s.Kill()
	s.client.Close()
	if empty {
		if err := os.RemoveAll(filepath.Join(s.dir, "appendonlydir")); err != nil {
			return fmt.Errorf("redis: %w", err)
		}
	}
	return s.launch()
}

// Close kills the server and removes its directory.
func (s *Server) Close() {
	s.Kill()
	if s.client != nil {
		s.client.Close()
	}
	os.RemoveAll(s.dir)
}

// freePort is below those that the kernel gives to outgoing connections, so that a server that
// was killed gets its own again.
func freePort() (int, error) {
	for range 100 {
		port := 10_000 + rand.IntN(10_000)
		if program.Unused(port) {
			return port, nil
		}
	}
	return 0, errors.New("redis: no free port between 10000 and 20000")
}
