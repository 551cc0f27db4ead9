package node

import (
	"context"
	"testing"
	"time"

	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/openclaw/edge/crdt"
)

// envoyNode is a node with limits that a test sees nothing refill of, and rules for each.
func envoyNode(t testing.TB) running { return startNode(t, envoyConfig(t)) }

func envoyConfig(t testing.TB) Config {
	c := testConfig(t)
	rate := mustRate(t, "100/h")
	c.Limits = []crdt.Definition{
		{Name: "per-user", Capacity: 100 * crdt.Token, Rate: rate, MaxBuckets: 1000},
		{Name: "logins", Capacity: 3 * crdt.Token, Rate: mustRate(t, "3/h"), MaxBuckets: 1000},
		{Name: "trial", Capacity: 2 * crdt.Token, Rate: rate, MaxBuckets: 1000},
	}
	c.Envoy = map[string][]EnvoyRule{"edge": {
		{Match: []EnvoyEntry{{"route", "/login"}, {"user", ""}}, Limit: "logins"},
		{Match: []EnvoyEntry{{"user", "robot"}}, Limit: "logins"},
		{Match: []EnvoyEntry{{"user", ""}}, Limit: "per-user"},
		{Match: []EnvoyEntry{{"tenant", ""}, {"user", ""}}, Limit: "per-user"},
		{Match: []EnvoyEntry{{"trial", ""}}, Limit: "trial", Shadow: true},
	}}
	return c
}

func dialGRPC(t testing.TB, addr string, creds ...credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	creds = append(creds, insecure.NewCredentials())
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(creds[0]))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

type descriptorPB = commonv3.RateLimitDescriptor

// descriptor has the entries k1, v1, k2, v2…
func descriptor(entries ...string) *commonv3.RateLimitDescriptor {
	d := &commonv3.RateLimitDescriptor{}
	for i := 0; i < len(entries); i += 2 {
		d.Entries = append(d.Entries, &commonv3.RateLimitDescriptor_Entry{Key: entries[i], Value: entries[i+1]})
	}
	return d
}

func hits(n uint64, d *commonv3.RateLimitDescriptor) *commonv3.RateLimitDescriptor {
	d.HitsAddend = wrapperspb.UInt64(n)
	return d
}

func givenBack(n uint64, d *commonv3.RateLimitDescriptor) *commonv3.RateLimitDescriptor {
	d.IsNegativeHits = true
	return hits(n, d)
}

// asker asks Envoy's service of a node.
type asker struct {
	t testing.TB
	ratelimitv3.RateLimitServiceClient
}

func (a asker) ask(domain string, ds ...*commonv3.RateLimitDescriptor) *ratelimitv3.RateLimitResponse {
	return a.request(&ratelimitv3.RateLimitRequest{Domain: domain, Descriptors: ds})
}

func (a asker) request(q *ratelimitv3.RateLimitRequest) *ratelimitv3.RateLimitResponse {
	a.t.Helper()
	r, err := a.try(q)
	if err != nil {
		a.t.Fatal(err)
	}
	return r
}

func (a asker) try(q *ratelimitv3.RateLimitRequest) (*ratelimitv3.RateLimitResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return a.ShouldRateLimit(ctx, q)
}

func newAsker(t testing.TB, n running) asker { return asker{t, newEnvoyClient(dialGRPC(t, n.grpc))} }

func newEnvoyClient(conn *grpc.ClientConn) ratelimitv3.RateLimitServiceClient {
	return ratelimitv3.NewRateLimitServiceClient(conn)
}

func userAlice() *ratelimitv3.RateLimitRequest {
	return &ratelimitv3.RateLimitRequest{Domain: "edge", Descriptors: []*descriptorPB{descriptor("user", "alice")}}
}
