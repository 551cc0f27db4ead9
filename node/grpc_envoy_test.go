package node

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
)

// tell writes an answer in few words: "OK: OK 99/100", a status for each descriptor.
func tell(r *ratelimitv3.RateLimitResponse) string {
	text := r.OverallCode.String() + ":"
	for _, s := range r.Statuses {
		text += " " + s.Code.String()
		if s.CurrentLimit != nil {
			text += fmt.Sprintf(" %d/%d", s.LimitRemaining, s.CurrentLimit.RequestsPerUnit)
		}
	}
	return text
}

func (a asker) expect(want string, r *ratelimitv3.RateLimitResponse) {
	a.t.Helper()
	if got := tell(r); got != want {
		a.t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestADescriptorTakesFromTheBucketOfItsValue(t *testing.T) {
	n := envoyNode(t)
	a := newAsker(t, n)
	a.expect("OK: OK 99/100", a.ask("edge", descriptor("user", "alice")))
	a.expect("OK: OK 99/100", a.ask("edge", descriptor("user", "bob")))
	if b := n.call(t, "GET", "/v1/buckets/per-user/alice", ""); !strings.Contains(b.body, `"tokens":99,`) {
		t.Errorf("HTTP sees another bucket: %s", b.body)
	}
	a.expect("OK: OK 2/3", a.ask("edge", descriptor("route", "/login", "user", "alice")))
	a.expect("OK: OK 2/3", a.ask("edge", descriptor("user", "robot")))
	a.expect("OK: OK", a.ask("edge", descriptor("route", "/logout", "user", "alice")))
	a.expect("OK: OK", a.ask("edge", descriptor("user", "alice", "route", "/login")))
}

func TestStatusesStandInTheOrderOfTheDescriptorsEachByItself(t *testing.T) {
	a := newAsker(t, envoyNode(t))
	login := descriptor("route", "/login", "user", "alice")
	for left := 2; left >= 0; left-- {
		a.expect(fmt.Sprintf("OK: OK %d/3", left), a.ask("edge", login))
	}
	r := a.ask("edge", descriptor("user", "alice"), login, descriptor("none", "x"), descriptor("user", "bob"))
	a.expect("OVER_LIMIT: OK 99/100 OVER_LIMIT 0/3 OK OK 99/100", r)
	a.expect("OK: OK 98/100", a.ask("edge", descriptor("user", "alice"))) // it was taken all the same

	over := r.Statuses[1]
	if s := over.DurationUntilReset.AsDuration().Seconds(); s < 1100 || s > 1200 {
		t.Errorf("a token takes 1200 s, not %v", s)
	}
	if l := over.CurrentLimit; l.Name != "logins" || l.Unit != ratelimitv3.RateLimitResponse_RateLimit_HOUR || l.UnitMultiplier != nil {
		t.Errorf("current limit %v, want 3 an hour", l)
	}
	detail, err := protojson.Marshal(r.DynamicMetadata)
	var wait int64
	text := strings.ReplaceAll(string(detail), " ", "")
	if _, scan := fmt.Sscanf(text, `{"over_limit":[{"descriptor":1,"limit":"logins","retry_after_ms":%d}]}`, &wait); scan != nil || err != nil || wait < 1_100_000 || wait > 1_200_000 {
		t.Errorf("metadata %s: %v %v", text, err, scan)
	}
	headers := map[string]string{}
	for _, h := range r.ResponseHeadersToAdd {
		headers[h.Key] = h.Value
	}
	if p := headers["RateLimit-Policy"]; p != `"per-user";q=100;w=3600, "logins";q=3;w=3600` {
		t.Errorf("RateLimit-Policy: %s", p)
	}
	var left, reset, retry int64
	fmt.Sscanf(headers["RateLimit"], `"per-user";r=99;t=0, "logins";r=%d;t=%d`, &left, &reset)
	fmt.Sscan(headers["Retry-After"], &retry)
	if left != 0 || reset < 1100 || retry < reset || retry > 1200 {
		t.Errorf("RateLimit: %s, Retry-After: %s", headers["RateLimit"], headers["Retry-After"])
	}
}

func TestHitsAreAddedPerRequestAndPerDescriptor(t *testing.T) {
	a := newAsker(t, envoyNode(t))
	alice, bob := descriptor("user", "alice"), descriptor("user", "bob")
	five := &ratelimitv3.RateLimitRequest{Domain: "edge", HitsAddend: 5, Descriptors: append([]*descriptorPB{alice}, hits(7, bob))}
	a.expect("OK: OK 95/100 OK 93/100", a.request(five))

	// An explicit 0 only looks: at least one token has to be left.
	login := descriptor("route", "/login", "user", "alice")
	a.expect("OK: OK 3/3", a.ask("edge", hits(0, descriptor("route", "/login", "user", "alice"))))
	a.expect("OK: OK 0/3", a.ask("edge", hits(3, login)))
	for range 2 {
		a.expect("OVER_LIMIT: OVER_LIMIT 0/3", a.ask("edge", hits(0, login)))
	}

	// What does not fit takes nothing, nor does what could never fit.
	a.expect("OVER_LIMIT: OVER_LIMIT 95/100", a.ask("edge", hits(96, alice)))
	a.expect("OVER_LIMIT: OVER_LIMIT 95/100", a.ask("edge", hits(101, alice)))
	a.expect("OVER_LIMIT: OVER_LIMIT 95/100", a.ask("edge", hits(1<<63, alice)))
	a.expect("OK: OK 0/100", a.ask("edge", hits(95, alice)))

	// Negative hits give back, never more than there is room for, and are never over the limit.
	a.expect("OK: OK 40/100", a.ask("edge", givenBack(40, alice)))
	a.expect("OK: OK 100/100", a.ask("edge", givenBack(1<<63, alice)))
	a.expect("OK: OK 100/100", a.ask("edge", givenBack(0, alice)))
	negative := descriptor("route", "/login", "user", "alice")
	negative.IsNegativeHits = true
	a.expect("OK: OK 1/3", a.ask("edge", negative)) // one, as nothing else is said
}

func TestShadowModeCountsAndSaysOK(t *testing.T) {
	n := envoyNode(t)
	a := newAsker(t, n)
	a.expect("OK: OK 0/2", a.ask("edge", hits(2, descriptor("trial", "alice"))))
	r := a.ask("edge", descriptor("trial", "alice"))
	a.expect("OK: OK 0/2", r)
	if len(r.ResponseHeadersToAdd) > 0 {
		t.Errorf("a client is told of a limit in shadow mode: %v", r.ResponseHeadersToAdd)
	}
	if d, _ := protojson.Marshal(r.DynamicMetadata); !strings.Contains(string(d), `"shadow"`) || strings.Contains(string(d), "over_limit") {
		t.Errorf("metadata %s", d)
	}
	a.ask("elsewhere", descriptor("user", "alice"))
	a.ask("edge", descriptor("user", "alice"), descriptor("unknown", "x"), givenBack(1, descriptor("user", "alice")))
	body := call(t, "GET", "http://"+n.metrics+"/metrics", "").body
	for _, want := range []string{
		`openclaw_envoy_descriptors_total{bucket="trial",result="ok"} 1`,
		`openclaw_envoy_descriptors_total{bucket="trial",result="shadow"} 1`,
		`openclaw_envoy_descriptors_total{bucket="trial",result="over_limit"} 0`,
		`openclaw_envoy_descriptors_total{bucket="per-user",result="credited"} 1`,
		`openclaw_envoy_unmatched_total{missing="domain"} 1`,
		`openclaw_envoy_unmatched_total{missing="descriptor"} 1`,
		`openclaw_token_bucket_takes_total{bucket="trial",result="rejected"} 1`,
		`openclaw_grpc_request_duration_seconds_count{route="envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",status="OK"} 4`,
	} {
		if !strings.Contains(body, "\n"+want+"\n") {
			t.Errorf("no %s", want)
		}
	}
}

// What Envoy would not send is refused; what a stranger can make it send is not.
func TestOnlyWhatEnvoyWouldNotSendIsAnError(t *testing.T) {
	a := newAsker(t, envoyNode(t))
	many := &ratelimitv3.RateLimitRequest{Domain: "edge"}
	for range maxDescriptors + 1 {
		many.Descriptors = append(many.Descriptors, descriptor("user", "alice"))
	}
	for name, q := range map[string]*ratelimitv3.RateLimitRequest{
		"no domain":      {Descriptors: many.Descriptors[:1]},
		"no descriptors": {Domain: "edge"},
		"too many":       many,
	} {
		if _, err := a.try(q); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := a.try(&ratelimitv3.RateLimitRequest{Domain: strings.Repeat("x", maxMessage)}); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a message over the bound: %v", err)
	}
	many.Descriptors = many.Descriptors[1:]
	if r := a.request(many); len(r.Statuses) != maxDescriptors || r.Statuses[maxDescriptors-1].LimitRemaining != 0 || len(r.ResponseHeadersToAdd) != 2 {
		t.Errorf("%s %v", tell(r), r.ResponseHeadersToAdd)
	}
	long := strings.Repeat("x", 60<<10)
	a.expect("OK: OK 98/100", a.request(&ratelimitv3.RateLimitRequest{Domain: "edge", HitsAddend: 2, Descriptors: []*descriptorPB{descriptor("user", long)}}))
	a.expect("OK: OK 97/100", a.ask("edge", descriptor("user", long)))
	a.expect("OK: OK 99/100", a.ask("edge", descriptor("user", long+"y")))
	a.expect("OK: OK 99/100", a.ask("edge", descriptor("user", "")))
	a.expect("OK: OK", a.ask("edge", &descriptorPB{}))
}

func TestNoTwoDescriptorsShareAKey(t *testing.T) {
	a := newAsker(t, envoyNode(t))
	for _, d := range [][2]string{{"a", "b"}, {"a|b", ""}, {"", "a|b"}, {`a\`, "b"}, {"a|", "b"}, {"a", "|b"}, {`a\|b`, ""}, {"", ""}} {
		a.expect("OK: OK 99/100", a.ask("edge", descriptor("tenant", d[0], "user", d[1])))
	}
}

func TestAFaultInACallIsAnAnswer(t *testing.T) {
	took := newGRPCLatency()
	call := unary(took, slog.New(slog.DiscardHandler))
	_, err := call(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: "/service/Method"}, func(context.Context, any) (any, error) { panic("a fault") })
	if status.Code(err) != codes.Internal {
		t.Errorf("%v", err)
	}
	if n := testutil.CollectAndCount(took); n != 1 {
		t.Errorf("%d series of a failed call", n)
	}
}
