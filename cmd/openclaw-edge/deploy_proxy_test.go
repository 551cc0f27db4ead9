package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/openclaw/edge/node"
	"github.com/openclaw/edge/testnet/process"
	"github.com/openclaw/edge/testnet/program"
)

// mains are what a distribution's own files around the shipped one would be.
var mains = map[string]string{
	"main.conf": `daemon off; worker_processes 1; pid nginx.pid; error_log stderr info;
events { worker_connections 256; }
http { access_log off;
client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
include shipped/nginx.conf; }`,
}

type proxiedAPI struct {
	*testing.T
	*proxy
	binary, dir, url string
	api              *httptest.Server
	stopNode         func()
	stop             func()
	config           string
	log              program.Output
}

const limitsOfTheTest = `
limits:
  - {name: per-user, capacity: 3, refill_rate: 1/d, key: {header: X-User-ID}}
  - {name: per-ip, capacity: 3, refill_rate: 1/d, key: {ip: true}}
`

func newProxied(t *testing.T, p *proxy, binary string) *proxiedAPI {
	w := &proxiedAPI{T: t, proxy: p, binary: binary, dir: t.TempDir(), stop: func() {}}
	w.api = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/broken" {
			rw.WriteHeader(500)
		}
		if r.URL.Path == "/forbidden" {
			rw.WriteHeader(403)
		}
		fmt.Fprintf(rw, "%s %s %s", r.Method, r.URL.RequestURI(), body)
	}))
	t.Cleanup(func() {
		w.api.Close()
		if t.Failed() {
			t.Log(w.log.String())
		}
	})
	front := process.FreeAddr(t)
	w.url = "http://" + front

	addresses := map[string]string{"127.0.0.1:8080": w.startNode(), "127.0.0.1:3000": w.api.Listener.Addr().String(), "127.0.0.1:8000": front}
	if err := os.Mkdir(filepath.Join(w.dir, "shipped"), 0o755); err != nil {
		t.Fatal(err)
	}
	shipped := map[string]string{p.file: p.file}
	for name := range mains {
		if p.program == "nginx" {
			w.write(name, mains[name])
			if os.Getuid() == 0 {
				w.write(name, "user root; "+mains[name]) // else its workers may not write here
			}
			shipped[p.file] = filepath.Join("shipped", p.file)
		}
	}
	for from, to := range shipped {
		w.config = to
		w.write(to, w.read(filepath.Join("deploy", from)))
	}
	for old, now := range addresses {
		w.replace(old, now)
	}
	if p.program == "haproxy" {
		w.replace("127.0.0.1:8089", process.FreeAddr(t))
		lua := filepath.Join(w.dir, "openclaw.lua")
		w.write("openclaw.lua", w.read("deploy/openclaw.lua"))
		w.replace("lua-load openclaw.lua", "lua-load "+lua)
	}
	return w
}

func (w *proxiedAPI) read(name string) string {
	w.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		w.Fatal(err)
	}
	return string(text)
}

func (w *proxiedAPI) write(name, text string) {
	w.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o644); err != nil {
		w.Fatal(err)
	}
}

// replace changes the configuration, which must hold what is replaced.
func (w *proxiedAPI) replace(old, now string) {
	w.Helper()
	text := w.read(filepath.Join(w.dir, w.config))
	if !strings.Contains(text, old) {
		w.Fatalf("%s does not speak of %s", w.file, old)
	}
	w.write(w.config, strings.ReplaceAll(text, old, now))
}

// startNode runs a node in this process, and returns its address.
func (w *proxiedAPI) startNode() string {
	w.write("edge.yaml", limitsOfTheTest)
	c, _, err := node.ReadConfig(filepath.Join(w.dir, "edge.yaml"))
	if err != nil {
		w.Fatal(err)
	}
	c.Node, c.HTTP, c.GRPC, c.Gossip, c.MetricsPort = "edge-1", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", 0
	c.DataDir, c.Logger = filepath.Join(w.dir, "data"), slog.New(slog.DiscardHandler)
	bound := make(chan node.Addresses, 1)
	c.Started = func(a node.Addresses) { bound <- a }
	n, err := node.New(c)
	if err != nil {
		w.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	w.stopNode = sync.OnceFunc(func() {
		stop()
		if err := <-done; err != nil {
			w.Error(err)
		}
	})
	w.Cleanup(func() { w.stopNode() })
	a := <-bound
	w.eventually("the node is ready", func() bool { ready, _ := n.Ready(); return ready })
	return a.HTTP
}

// start runs the proxy until stop, and returns when it answers.
func (w *proxiedAPI) start() {
	cmd := exec.Command(w.binary, w.args(w.dir)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = w.dir, &w.log, &w.log
	cmd.Env = append(os.Environ(), "HOME="+w.dir, "XDG_DATA_HOME="+w.dir, "XDG_CONFIG_HOME="+w.dir)
	if err := cmd.Start(); err != nil {
		w.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		cmd.Wait()
	}()
	w.stop = sync.OnceFunc(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		<-exited
	})
	w.Cleanup(w.stop)
	w.eventually("the proxy listens", func() bool {
		select {
		case <-exited:
			w.Fatalf("%s does not start", w.program)
		default:
		}
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

func (w *proxiedAPI) eventually(what string, is func() bool) {
	w.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("never: %s\n%s", what, w.log.String())
		}
	}
}

// from is a client with an address of its own, of which 127.0.0.0/8 has many.
func from(ip string) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: patience}
	return &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}, Timeout: patience}
}

type reply struct {
	status int
	header http.Header
	body   string
}

func (w *proxiedAPI) call(c *http.Client, method, path, body string, headers ...string) reply {
	w.Helper()
	r, err := http.NewRequest(method, w.url+path, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	resp, err := c.Do(r)
	if err != nil {
		w.Fatalf("%v\n%s", err, w.log.String())
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, string(text)}
}
