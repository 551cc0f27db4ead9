package node

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
)

// The promise is at least 85 % of the requests/s of a bare net/http handler answering a
// body of the same size, asked over loopback by keep-alive clients that cost next to
// nothing themselves. The first benchmark asks in short turns, so that other work on the
// machine slows all alike, and reports the median share. %ofbare: of a server without any
// timeout, as http.ListenAndServe makes it; %ofguarded: of one with the timeouts of ours,
// which no server on the internet should be without; noise: of the bare one against itself.
//
//	go test -run - -bench HTTPTakeShare -benchtime 5s -count 6 ./node

func BenchmarkHTTPTakeShareOfBare(b *testing.B) {
	servers := [][]net.Conn{dial(b, takeServer(b)), dial(b, bareServer(b, &http.Server{})), dial(b, bareServer(b, &http.Server{
		ReadTimeout: callTimeout, WriteTimeout: scrapeTimeout + callTimeout, IdleTimeout: idleTimeout,
	})), dial(b, bareServer(b, &http.Server{}))}
	const turn = 10 // requests per connection
	shares := make([][]float64, len(servers))
	for i := 0; b.Loop(); i++ {
		spent := make([]float64, len(servers))
		for j := range servers {
			which := (i + j) % len(servers) // who goes first alternates too
			began := time.Now()
			ask(b, servers[which], takeRequest, turn)
			spent[which] = time.Since(began).Seconds()
		}
		for j := 1; j < len(servers); j++ {
			shares[j] = append(shares[j], 100*spent[j]/spent[0])
		}
		shares[0] = append(shares[0], 100*spent[3]/spent[1])
	}
	for j, name := range []string{"%noise", "%ofbare", "%ofguarded"} {
		slices.Sort(shares[j])
		b.ReportMetric(shares[j][len(shares[j])/2], name)
	}
	b.ReportMetric(0, "ns/op")
}

func BenchmarkHTTPTake(b *testing.B) { benchmarkHTTP(b, takeServer(b)) }
func BenchmarkHTTPBare(b *testing.B) { benchmarkHTTP(b, bareServer(b, &http.Server{})) }

func takeServer(b *testing.B) string {
	cfg := testConfig(b)
	cfg.Limits[0].Capacity = crdt.MaxCapacity
	return startNode(b, cfg).http
}

func bareServer(b *testing.B, settings *http.Server) string {
	body := []byte(`{"allowed":true,"limit":"per-user","key":"alice","cost":1,"remaining":999999999,"capacity":1000000000,"refill_rate":10,"retry_after_ms":0,"backup":false}` + "\n")
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(body)
	}))
	settings.Handler = srv.Config.Handler
	srv.Config = settings
	srv.Start()
	b.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

func benchmarkHTTP(b *testing.B, addr string) {
	conns := dial(b, addr)
	b.ReportAllocs()
	b.ResetTimer()
	ask(b, conns, takeRequest, b.N/len(conns)+1)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
}

func dial(b *testing.B, addr string) []net.Conn {
	conns := make([]net.Conn, 16)
	for i := range conns {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { conn.Close() })
		conns[i] = conn
	}
	return conns
}

const takeRequest = "POST /v1/take/per-user/alice HTTP/1.1\r\nHost: bench\r\nContent-Length: 0\r\n\r\n"

// ask sends a request n times over each connection, one after the other.
func ask(b *testing.B, conns []net.Conn, text string, n int) {
	request := []byte(text)
	var done sync.WaitGroup
	for _, conn := range conns {
		done.Go(func() {
			in := bufio.NewReader(conn)
			for range n {
				_, err := conn.Write(request)
				if err == nil {
					err = readResponse(in)
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	done.Wait()
}

// readResponse reads a response with a Content-Length and no more syntax than ours has.
func readResponse(in *bufio.Reader) error {
	length := -1
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !strings.HasPrefix(string(line), "HTTP/1.1 200") {
			return fmt.Errorf("answered %s", line)
		}
		if n, ok := strings.CutPrefix(string(line), "Content-Length: "); ok {
			length, _ = strconv.Atoi(strings.TrimSpace(n))
		}
		if len(line) == 2 {
			break
		}
	}
	_, err := in.Discard(length)
	return err
}

// The decision's way out, without the network: what a take costs above net/http.
func BenchmarkHandlerTake(b *testing.B) {
	cfg := testConfig(b)
	cfg.Limits[0].Capacity = crdt.MaxCapacity
	n, err := New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	s, err := newServer(n)
	if err != nil {
		b.Fatal(err)
	}
	r := httptest.NewRequestWithContext(context.Background(), "POST", "/v1/take/per-user/alice", nil)
	w := &discard{h: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		s.ServeHTTP(w, r)
	}
}

type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(b []byte) (int, error) { return io.Discard.Write(b) }
