package node

import (
	"math"
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	envoyOK   = ratelimitv3.RateLimitResponse_OK
	envoyOver = ratelimitv3.RateLimitResponse_OVER_LIMIT
)

// envoyAnswer becomes the response to one request of Envoy.
type envoyAnswer struct {
	response ratelimitv3.RateLimitResponse
	statuses []envoyStatus // one allocation for all
	verdicts []verdict
	over     bool // some limit that is not in shadow mode
	detail   bool // some limit at all
}

type envoyStatus struct {
	status ratelimitv3.RateLimitResponse_DescriptorStatus
	reset  durationpb.Duration
}

type verdict struct {
	Decision
	descriptor int
	shadow     bool
}

func newEnvoyAnswer(descriptors int) *envoyAnswer {
	a := &envoyAnswer{statuses: make([]envoyStatus, 0, descriptors), verdicts: make([]verdict, 0, descriptors)}
	a.response.Statuses = make([]*ratelimitv3.RateLimitResponse_DescriptorStatus, 0, descriptors)
	return a
}

func (a *envoyAnswer) next() *envoyStatus {
	a.statuses = a.statuses[:len(a.statuses)+1]
	s := &a.statuses[len(a.statuses)-1]
	s.status.Code = envoyOK
	a.response.Statuses = append(a.response.Statuses, &s.status)
	return s
}

// unlimited is a descriptor that no limit is for.
func (a *envoyAnswer) unlimited() { a.next() }

func (a *envoyAnswer) judged(rule *envoyRule, d Decision) {
	a.verdicts = append(a.verdicts, verdict{d, len(a.statuses), rule.Shadow})
	s := a.next()
	if !d.Allowed {
		a.detail = true
		if !rule.Shadow {
			a.over, s.status.Code = true, envoyOver
		}
	}
	s.status.CurrentLimit = d.Limit.face.envoy
	s.status.LimitRemaining = uint32(min(wholeTokens(d.Level), math.MaxUint32))
	s.reset.Seconds, s.reset.Nanos = int64(d.ResetAfter/time.Second), int32(d.ResetAfter%time.Second)
	s.status.DurationUntilReset = &s.reset
}

func (a *envoyAnswer) finish() *ratelimitv3.RateLimitResponse {
	a.response.OverallCode = envoyOK
	if a.over {
		a.response.OverallCode = envoyOver
	}
	a.headers()
	if a.detail {
		a.metadata()
	}
	return &a.response
}

// headers are those of http_header.go, for Envoy to put on the response to its client. Of
// several descriptors on one limit the one that leaves least speaks for it; a limit in shadow
// mode is not the client's to know.
func (a *envoyAnswer) headers() {
	var policy, item, wait = make([]byte, 0, 64), make([]byte, 0, 64), int64(0)
	for i := range a.verdicts {
		v := &a.verdicts[i]
		if v.shadow || !a.speaks(i) {
			continue
		}
		if len(policy) > 0 {
			policy, item = append(policy, ", "...), append(item, ", "...)
		}
		policy, item = append(policy, v.Limit.face.policy[0]...), appendRateLimit(item, &v.Decision)
		if !v.Allowed {
			wait = max(wait, retryAfter(&v.Decision))
		}
	}
	if len(policy) == 0 {
		return
	}
	a.response.ResponseHeadersToAdd = append(make([]*corev3.HeaderValue, 0, 3),
		&corev3.HeaderValue{Key: "RateLimit-Policy", Value: string(policy)}, &corev3.HeaderValue{Key: "RateLimit", Value: string(item)})
	if wait > 0 {
		a.response.ResponseHeadersToAdd = append(a.response.ResponseHeadersToAdd,
			&corev3.HeaderValue{Key: "Retry-After", Value: strconv.FormatInt(wait, 10)})
	}
}

// speaks tells whether no other verdict on the same limit leaves less, or as much and earlier.
func (a *envoyAnswer) speaks(i int) bool {
	v := &a.verdicts[i]
	for j := range a.verdicts {
		o := &a.verdicts[j]
		if o.shadow || j == i || o.Limit.Name != v.Limit.Name {
			continue
		}
		if o.worse(v) || j < i && !v.worse(o) {
			return false
		}
	}
	return true
}

func (v *verdict) worse(o *verdict) bool {
	if v.Allowed != o.Allowed {
		return !v.Allowed
	}
	if v.ResetAfter != o.ResetAfter {
		return v.ResetAfter > o.ResetAfter
	}
	return v.Level < o.Level
}

// metadata says which descriptors are over which limit; for access logs and later filters. It
// does not name keys: they may be secrets, and Envoy has them.
//
//	{"over_limit": [{"descriptor": 0, "limit": "per-user", "retry_after_ms": 36000}], "shadow": […]}
func (a *envoyAnswer) metadata() {
	lists := map[string]*structpb.ListValue{}
	for i := range a.verdicts {
		v := &a.verdicts[i]
		if v.Allowed {
			continue
		}
		name := "over_limit"
		if v.shadow {
			name = "shadow"
		}
		if lists[name] == nil {
			lists[name] = &structpb.ListValue{}
		}
		lists[name].Values = append(lists[name].Values, structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
			"descriptor":     structpb.NewNumberValue(float64(v.descriptor)),
			"limit":          structpb.NewStringValue(v.Limit.Name),
			"retry_after_ms": structpb.NewNumberValue(float64(ceil(v.RetryAfter, time.Millisecond))),
		}}))
	}
	a.response.DynamicMetadata = &structpb.Struct{Fields: make(map[string]*structpb.Value, len(lists))}
	for name, list := range lists {
		a.response.DynamicMetadata.Fields[name] = structpb.NewListValue(list)
	}
}

// envoyLimit is a limit in Envoy's words: its capacity in the time in which it refills, as
// RateLimit-Policy has it, in the largest unit that this time is a multiple of. So what remains
// is never more than the limit, as it would be of the requests in one second.
func envoyLimit(name string, capacity, window int64) *ratelimitv3.RateLimitResponse_RateLimit {
	l := &ratelimitv3.RateLimitResponse_RateLimit{Name: name, RequestsPerUnit: uint32(min(capacity, math.MaxUint32))}
	window = max(1, window)
	for _, u := range []struct {
		unit    ratelimitv3.RateLimitResponse_RateLimit_Unit
		seconds int64
	}{
		{ratelimitv3.RateLimitResponse_RateLimit_DAY, 86400}, {ratelimitv3.RateLimitResponse_RateLimit_HOUR, 3600},
		{ratelimitv3.RateLimitResponse_RateLimit_MINUTE, 60}, {ratelimitv3.RateLimitResponse_RateLimit_SECOND, 1},
	} {
		if window%u.seconds == 0 {
			l.Unit = u.unit
			if n := window / u.seconds; n > 1 {
				l.UnitMultiplier = wrapperspb.UInt32(uint32(min(n, math.MaxUint32)))
			}
			return l
		}
	}
	panic("unreachable: every window is a multiple of one second")
}
