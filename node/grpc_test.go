package node

import (
	"context"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
)

func TestHealthGoesWithReadiness(t *testing.T) {
	d, err := newTestServer(t, envoyConfig(t)).listenGRPC()
	if err != nil {
		t.Fatal(err)
	}
	var ready atomic.Bool
	d.ready = func() (bool, string) { return ready.Load(), "" }
	ctx, stop := context.WithCancel(t.Context())
	var g errgroup.Group
	g.Go(d.serve)
	g.Go(func() error { d.watch(ctx); return nil })
	t.Cleanup(func() {
		stop()
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
	})
	health := grpc_health_v1.NewHealthClient(dialGRPC(t, d.addr()))
	is := func(service string, want grpc_health_v1.HealthCheckResponse_ServingStatus) func() bool {
		return func() bool {
			a, err := health.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
			return err == nil && a.Status == want
		}
	}
	for _, now := range []bool{false, true, false} {
		ready.Store(now)
		want := grpc_health_v1.HealthCheckResponse_NOT_SERVING
		if now {
			want = grpc_health_v1.HealthCheckResponse_SERVING
		}
		for _, service := range []string{"", "envoy.service.ratelimit.v3.RateLimitService"} {
			eventually(t, want.String(), is(service, want))
		}
	}
	if _, err := health.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "another"}); status.Code(err) != codes.NotFound {
		t.Errorf("a service that is not there: %v", err)
	}
}

func TestReflectionNamesTheServices(t *testing.T) {
	n := envoyNode(t)
	stream, err := grpc_reflection_v1.NewServerReflectionClient(dialGRPC(t, n.grpc)).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	a, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range a.GetListServicesResponse().GetService() {
		names = append(names, s.Name)
	}
	for _, want := range []string{"envoy.service.ratelimit.v3.RateLimitService", "grpc.health.v1.Health"} {
		if !slices.Contains(names, want) {
			t.Errorf("no %s in %v", want, names)
		}
	} // the stream stays open: the node's stop, at the end of this test, must cut it off
}

func TestARulesFileIsReloaded(t *testing.T) {
	const file = `
version: 7
limits: [{name: old, capacity: 5, refill_rate: 1/h}]
envoy: {domains: {edge: [{match: [{key: user}], limit: old}]}}
`
	path := filepath.Join(t.TempDir(), "edge.yaml")
	write(t, path, file)
	c, _, err := ReadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	d := testConfig(t)
	d.File, d.Limits, d.LimitsVersion, d.Envoy = c.File, c.Limits, c.LimitsVersion, c.Envoy
	d.Doubt = 300 * time.Millisecond
	n := startNode(t, d)
	a := newAsker(t, n)
	a.expect("OK: OK 4/5", a.ask("edge", descriptor("user", "alice")))

	// The new rules hold at once, their limits after the doubt: no request meets a gap.
	write(t, path, strings.NewReplacer("version: 7", "version: 8", "old", "new").Replace(file))
	if r := n.call(t, "POST", "/-/reload", ""); r.StatusCode != 200 {
		t.Fatal(r.body)
	}
	eventually(t, "the new limit", func() bool {
		r := a.ask("edge", hits(0, descriptor("user", "alice")))
		if r.Statuses[0].CurrentLimit == nil {
			t.Fatal("a descriptor without a limit")
		}
		return r.Statuses[0].CurrentLimit.Name == "new"
	})
}

func TestATakenDefaultAddressStopsOnlyWhoNeedsIt(t *testing.T) {
	n := envoyNode(t)
	c := testConfig(t)
	c.GRPC = n.grpc
	other, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "--grpc") {
		t.Errorf("an address that was asked for is in use: %v", err)
	}
	_, taken := net.Listen("tcp", n.grpc)
	for _, it := range []struct {
		what string
		cfg  Config
		err  error
		want bool
	}{
		{"the default, taken", DefaultConfig(), taken, true},
		{"the default, with a section envoy", envoyConfig(t), taken, false},
		{"another, taken", c, taken, false},
		{"the default, not there", DefaultConfig(), &net.AddrError{}, false},
	} {
		if it.cfg.Envoy != nil {
			it.cfg.GRPC = DefaultConfig().GRPC
		}
		if got := grpcDispensable(&it.cfg, it.err); got != it.want {
			t.Errorf("%s: %v, want %v", it.what, got, it.want)
		}
	}
}
