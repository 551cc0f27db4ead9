package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
)

// The gRPC face: Envoy's rate limit service (grpc_envoy.go), health and reflection.
type grpcDoor struct {
	server   *grpc.Server
	health   *health.Server
	listener net.Listener
	ready    func() (bool, string)
}

// Bounds of one connection. A message has room for the largest headers that Envoy accepts by
// default (60 KiB), several times: what is refused for its size Envoy may let through.
const (
	maxMessage    = 1 << 20
	maxStreams    = 1024
	pingTimeout   = 10 * time.Second
	pingIdle      = 30 * time.Second
	maxConnAge    = 30 * time.Minute // then GOAWAY: clients spread anew, and show their certificates
	healthEvery   = 200 * time.Millisecond
	grpcStopAfter = time.Second // for calls under way; streams of health and reflection never end by themselves
)

// listenGRPC binds the door. It returns nil if that cannot be and need not.
func (s *server) listenGRPC() (*grpcDoor, error) {
	cfg := &s.node.cfg
	l, err := net.Listen("tcp", cfg.GRPC)
	switch {
	case err != nil && grpcDispensable(cfg, err):
		s.log.Warn("grpc: off, its default address is in use; another is given by --grpc", "address", cfg.GRPC)
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("grpc: %w; another address is given by --grpc", err)
	}
	d := &grpcDoor{listener: l, health: health.NewServer(), ready: s.node.Ready}
	options := []grpc.ServerOption{
		grpc.UnaryInterceptor(unary(s.metrics.grpc, s.log)),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxHeaderListSize(maxHeader), grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(callTimeout), grpc.WaitForHandlers(true), grpc.NumStreamWorkers(uint32(runtime.GOMAXPROCS(0))),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingIdle, Timeout: pingTimeout, MaxConnectionAge: maxConnAge, MaxConnectionAgeGrace: callTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingTimeout / 2, PermitWithoutStream: true}),
	}
	if s.certs != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(s.certs.server())))
	}
	d.server = grpc.NewServer(options...)
	ratelimitv3.RegisterRateLimitServiceServer(d.server, s.envoy)
	grpc_health_v1.RegisterHealthServer(d.server, d.health)
	reflection.Register(d.server)
	return d, nil
}

// grpcDispensable tells whether the default address is taken, and no section envoy asks for the
// door: a second node on one machine works without a flag for what it does not use.
func grpcDispensable(cfg *Config, err error) bool {
	return errors.Is(err, syscall.EADDRINUSE) && cfg.Envoy == nil && cfg.GRPC == DefaultConfig().GRPC
}

func (d *grpcDoor) addr() string {
	if d == nil {
		return ""
	}
	return d.listener.Addr().String()
}

func (d *grpcDoor) close() error {
	if d == nil {
		return nil
	}
	return d.listener.Close()
}

func (d *grpcDoor) serve() error {
	if err := d.server.Serve(d.listener); err != nil {
		return fmt.Errorf("grpc: %w", err)
	}
	return nil
}

// watch keeps the health service to what /readyz says until ctx is done, then stops the door:
// calls under way finish, those that do not are cut off.
func (d *grpcDoor) watch(ctx context.Context) {
	tick := time.NewTicker(healthEvery)
	defer tick.Stop()
	for {
		now := grpc_health_v1.HealthCheckResponse_NOT_SERVING
		if ok, _ := d.ready(); ok {
			now = grpc_health_v1.HealthCheckResponse_SERVING
		}
		d.health.SetServingStatus("", now)
		d.health.SetServingStatus(ratelimitv3.RateLimitService_ServiceDesc.ServiceName, now)
		select {
		case <-tick.C:
		case <-ctx.Done():
			d.health.Shutdown()
			late := time.AfterFunc(grpcStopAfter, d.server.Stop)
			d.server.GracefulStop()
			late.Stop()
			return
		}
	}
}

// unary measures calls, and keeps a fault in one from ending the process, as net/http does.
func unary(took *latencies, log *slog.Logger) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, q any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (a any, err error) {
		began := elapsed()
		defer func() {
			if fault := recover(); fault != nil {
				log.Error("grpc: a call failed", "method", info.FullMethod, "fault", fault, "stack", string(debug.Stack()))
				a, err = nil, status.Error(codes.Internal, "a fault of this node, not of the request; its log says more")
			}
			took.of(strings.TrimPrefix(info.FullMethod, "/"), status.Code(err).String()).observe(elapsed() - began)
		}()
		return handle(ctx, q)
	}
}
