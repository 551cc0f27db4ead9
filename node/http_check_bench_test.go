package node

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/openclaw/edge/crdt"
)

var checks = []struct {
	limit   string
	headers []string
}{
	{"user", []string{"X-User-Id", "alice"}},
	{"ip", []string{"X-Forwarded-For", "1.1.1.1, 2001:db8:ffff:ffff::1, 10.0.0.9"}},
	{"api", []string{"Authorization", "Bearer 0123456789012345678901234567890123456789"}},
	{"path", []string{"X-Original-Uri", "/v1/users/7?x=y"}},
	{"all", nil},
}

// roomy is for what is measured: nothing is refused.
func roomy(c *Config) {
	for i := range c.Limits {
		c.Limits[i].Capacity = crdt.MaxCapacity
	}
}

// What a check costs above a take's handler is finding the key: no allocation, unless the key
// has several parts or is longer than 32 bytes.
func TestACheckAllocatesNoMoreThanATake(t *testing.T) {
	s := checkServer(t, roomy)
	take := testing.AllocsPerRun(100, s.handling("POST", "/v1/take/user/alice"))
	for _, c := range checks {
		if n := testing.AllocsPerRun(100, s.handling("GET", "/v1/check/"+c.limit, c.headers...)); n > take {
			t.Errorf("%s: %v allocations, a take has %v", c.limit, n, take)
		}
	}
}

func BenchmarkHandlerCheck(b *testing.B) {
	s := checkServer(b, roomy)
	for _, c := range checks {
		b.Run(c.limit, func(b *testing.B) {
			handle := s.handling("GET", "/v1/check/"+c.limit, c.headers...)
			b.ReportAllocs()
			for b.Loop() {
				handle()
			}
		})
	}
}

// handling calls the handler as net/http would, without the network.
func (s *server) handling(method, path string, headers ...string) func() {
	r := httptest.NewRequestWithContext(context.Background(), method, path, nil)
	r.RemoteAddr = "10.0.0.1:1234"
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := &discard{h: http.Header{}}
	return func() { s.ServeHTTP(w, r) }
}

// As BenchmarkHTTPTakeShareOfBare, in turns: a check's requests per second as a share of a
// take's on the same node (it reads one header line more, and writes no body), by key.
func BenchmarkHTTPCheckShareOfTake(b *testing.B) {
	cfg := testConfig(b)
	cfg.Limits = nil
	for name, key := range map[string]string{"user": "header=X-User-ID", "api": "header=Authorization,hash", "ip": "ip"} {
		cfg.Limits = append(cfg.Limits, crdt.Definition{Name: name, Capacity: crdt.MaxCapacity, Rate: mustRate(b, "10"), MaxBuckets: 1000, Key: key})
	}
	addr := startNode(b, cfg).http
	const take = "POST /v1/take/user/alice HTTP/1.1\r\nHost: bench\r\nContent-Length: 0\r\n\r\n"
	requests := []string{take}
	for _, c := range checks[:3] {
		requests = append(requests, fmt.Sprintf("GET /v1/check/%s HTTP/1.1\r\nHost: bench\r\n%s: %s\r\n\r\n", c.limit, c.headers[0], c.headers[1]))
	}
	requests = append(requests, take)
	conns := make([][]net.Conn, len(requests))
	for i := range conns {
		conns[i] = dial(b, addr)
	}
	shares := make([][]float64, len(requests))
	for i := 0; b.Loop(); i++ {
		spent := make([]float64, len(requests))
		for j := range requests {
			which := (i + j) % len(requests) // who goes first alternates too
			began := time.Now()
			ask(b, conns[which], requests[which], 10)
			spent[which] = time.Since(began).Seconds()
		}
		for j := range requests {
			shares[j] = append(shares[j], 100*spent[0]/spent[j])
		}
	}
	for j, name := range []string{"", "%user", "%ip", "%api", "%noise"} {
		if name != "" {
			slices.Sort(shares[j])
			b.ReportMetric(shares[j][len(shares[j])/2], name)
		}
	}
	b.ReportMetric(0, "ns/op")
}
