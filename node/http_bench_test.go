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
// nothing themselves. The first benchmark asks the two in turns, so that other work on the
// machine slows both, and reports the median share:
//
//	go test -run - -bench HTTP -count 6 ./node

func BenchmarkHTTPTakeShareOfBare(b *testing.B) {
	take, bare := dial(b, takeServer(b)), dial(b, bareServer(b))
	const turn = 200 // requests per connection
	var shares []float64
	for i := 0; b.Loop(); i++ {
		var spent [2]time.Duration
		for j := range 2 {
			which := (i + j) % 2 // who goes first alternates too
			began := time.Now()
			ask(b, [][]net.Conn{take, bare}[which], turn)
			spent[which] = time.Since(began)
		}
		shares = append(shares, 100*spent[1].Seconds()/spent[0].Seconds())
	}
	slices.Sort(shares)
	b.ReportMetric(shares[len(shares)/2], "%ofbare")
}

func BenchmarkHTTPTake(b *testing.B) { benchmarkHTTP(b, takeServer(b)) }
func BenchmarkHTTPBare(b *testing.B) { benchmarkHTTP(b, bareServer(b)) }

func takeServer(b *testing.B) string {
	cfg := testConfig(b)
	cfg.Limits[0].Capacity = crdt.MaxCapacity
	return startNode(b, cfg).http
}

func bareServer(b *testing.B) string {
	body := []byte(`{"allowed":true,"limit":"per-user","key":"alice","cost":1,"remaining":999999999,"capacity":1000000000,"refill_rate":10,"retry_after_ms":0,"backup":false}` + "\n")
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write(body)
	}))
	b.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

func benchmarkHTTP(b *testing.B, addr string) {
	conns := dial(b, addr)
	b.ReportAllocs()
	b.ResetTimer()
	ask(b, conns, b.N/len(conns)+1)
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

// ask sends n takes over each connection, one after the other.
func ask(b *testing.B, conns []net.Conn, n int) {
	request := []byte("POST /v1/take/per-user/alice HTTP/1.1\r\nHost: bench\r\nContent-Length: 0\r\n\r\n")
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
