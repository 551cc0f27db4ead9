package node

import (
	"context"
	"sync/atomic"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"

	"github.com/openclaw/edge/crdt"
)

// envoy answers Envoy's rate limit service. A request's way: ShouldRateLimit finds the rule of
// each descriptor (envoy_rules.go), judge asks the node, and envoyAnswer (grpc_answer.go) writes
// the statuses down.
//
// Descriptors are judged in their order and each by itself, as Envoy's own service does: one
// that is over its limit does not give back what those before it took. (POST /v1/take with
// atomic takes all or none.)
//
// A descriptor's own limit (field limit) is ignored: a client may not choose what it is
// allowed, and all nodes must go by the same definition.
type envoy struct {
	node      *Node
	rules     atomic.Pointer[envoyRules]
	results   *prometheus.CounterVec
	unmatched map[string]prometheus.Counter // by what is missing
}

// maxDescriptors bounds one request. Envoy sends as many as its route has actions for.
const maxDescriptors = 100

func newEnvoy(n *Node, registry prometheus.Registerer) *envoy {
	e := &envoy{node: n, unmatched: map[string]prometheus.Counter{},
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "openclaw_envoy_descriptors_total",
			Help: "Descriptors of Envoy judged, by limit and result; shadow: over the limit, but in shadow mode and told to be OK.",
		}, []string{"bucket", "result"}),
	}
	missing := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "openclaw_envoy_unmatched_total",
		Help: "Descriptors of Envoy told to be OK because there is no such domain, rule or limit.",
	}, []string{"missing"})
	for _, what := range []string{"domain", "descriptor", "limit"} {
		e.unmatched[what] = missing.WithLabelValues(what)
	}
	registry.MustRegister(e.results, missing)
	e.replace(n.cfg.Envoy)
	return e
}

// replace puts other rules in force.
func (e *envoy) replace(domains map[string][]EnvoyRule) {
	e.rules.Store(newEnvoyRules(domains, e.results, e.rules.Load()))
}

// ShouldRateLimit is envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit. It returns an
// error only for what Envoy would not send: where Envoy fails open, an error admits.
func (e *envoy) ShouldRateLimit(_ context.Context, q *ratelimitv3.RateLimitRequest) (*ratelimitv3.RateLimitResponse, error) {
	switch n := len(q.GetDescriptors()); {
	case q.GetDomain() == "":
		return nil, status.Error(codes.InvalidArgument, "the domain is empty; write that of the config's section envoy")
	case n == 0:
		return nil, status.Error(codes.InvalidArgument, "no descriptors; send at least one")
	case n > maxDescriptors:
		return nil, status.Errorf(codes.InvalidArgument, "%d descriptors; send at most %d at once", n, maxDescriptors)
	}
	rules, limits := e.rules.Load(), e.node.force.Load().byName
	a := newEnvoyAnswer(len(q.Descriptors))
	for _, d := range q.Descriptors {
		rule, l, missing := rules.find(limits, q.Domain, d.GetEntries())
		if rule == nil {
			e.unmatched[missing].Inc()
			a.unlimited()
			continue
		}
		a.judged(rule, e.judge(l, rule, d, q.HitsAddend))
	}
	return a.finish(), nil
}

// judge takes what a descriptor asks for, gives back its negative hits, or only looks if it asks
// for 0: then at least one token has to be left. More than the capacity is over the limit, and
// takes nothing, like all that does not fit.
func (e *envoy) judge(l *Limit, rule *envoyRule, d *commonv3.RateLimitDescriptor, hits uint32) Decision {
	n, key := max(1, uint64(hits)), rule.key(d.GetEntries())
	if d.HitsAddend != nil {
		n = d.HitsAddend.GetValue()
	}
	capacity := uint64(l.Capacity / crdt.Token)
	var v Decision
	switch {
	case d.IsNegativeHits && n > 0:
		v, err := e.node.Credit(l.Name, key, int64(min(n, capacity)))
		if err != nil { // the limit was removed or became smaller just now
			v = e.node.peek(l, key, 1)
			v.Allowed = true
		}
		rule.credited.Inc()
		return v
	case n == 0:
		v = e.node.peek(l, key, 1)
	case n > capacity:
		v = e.node.peek(l, key, int64(capacity))
		v.Allowed = false
	default:
		v.Limit, v.Cost = l, int64(n)
		e.node.take(&v, key)
	}
	switch {
	case v.Allowed:
		rule.ok.Inc()
	case rule.Shadow:
		rule.shadow.Inc()
	default:
		rule.over.Inc()
	}
	return v
}
