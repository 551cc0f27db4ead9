package node

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// handler answers a call and returns the status it answered with. rest is what follows the
// route's prefix in the path, still percent-encoded if the URL has a RawPath.
type handler func(w http.ResponseWriter, r *http.Request, rest string) (status int)

// route is one line of the contract's table. Its pattern is also the label of its requests
// in openclaw_http_requests_total, so series stay bounded whatever is asked for.
//
// Why not http.ServeMux: it cleans paths, so that a key such as ".." is redirected and not
// limited, and answers 404 and 405 in plain text.
type route struct {
	pattern string
	prefix  string // of the paths, up to the pattern's first brace
	methods map[string]*method
	allow   string
	took    classes
}

// method is what answers to one, and the two counters of a busy route, resolved once: a look-up
// by three labels costs as much as the take.
type method struct {
	handle      handler
	ok, limited prometheus.Counter
}

func (s *server) buildRoutes() {
	s.exact = map[string]*route{}
	s.unknown = s.newRoute("other", nil)
	for _, it := range []struct {
		method, pattern string
		handler         handler
	}{
		{"POST", "/v1/take/{limit}/{key}", s.take},
		{"GET POST", "/v1/check/{limit}", s.check},
		{"POST", "/v1/credit/{limit}/{key}", s.credit},
		{"GET", "/v1/buckets/{limit}/{key}", s.bucket},
		{"POST", "/v1/reserve/{limit}/{key}", s.reserve},
		{"POST", "/v1/settle/{id}", s.settle},
		{"POST", "/v1/ratings/{subject}", s.rate},
		{"GET", "/v1/ratings/{subject}", s.rating},
		{"POST", "/-/forget/{node}", s.guarded(s.forget)},
		{"POST", "/v1/take", s.takeAll},
		{"GET", "/v1/ratings", s.ranking},
		{"GET", "/v1/limits", s.limits},
		{"GET", "/v1/cluster", s.cluster},
		{"GET", "/v1/top", s.guarded(s.top)},
		{"GET", "/healthz", s.healthz},
		{"GET", "/readyz", s.readyz},
		{"POST", "/-/reload", s.guarded(s.reloadFile)},
		{"POST", "/-/refill", s.guarded(s.refill)},
		{"POST", "/-/failover", s.guarded(s.failover)},
		{"POST", "/-/snapshot", s.guarded(s.snapshot)},
	} {
		methods := map[string]handler{}
		for method := range strings.FieldsSeq(it.method) {
			methods[method] = it.handler
		}
		if it.method == "GET" {
			methods["HEAD"] = it.handler // net/http leaves the body out
		}
		r := s.newRoute(it.pattern, methods)
		if i := slices.IndexFunc(s.prefix, func(r *route) bool { return r.pattern == it.pattern }); i >= 0 {
			s.prefix[i].merge(r)
			continue
		}
		if strings.Contains(it.pattern, "{") {
			s.prefix = append(s.prefix, r)
		} else {
			s.exact[it.pattern] = r
		}
	}
}

func (s *server) newRoute(pattern string, methods map[string]handler) *route {
	r := &route{pattern: pattern, methods: map[string]*method{}}
	r.prefix, _, _ = strings.Cut(pattern, "{")
	for m, handle := range methods {
		r.methods[m] = &method{handle, s.metrics.requests("200", pattern, m), s.metrics.requests("429", pattern, m)}
	}
	r.allow = strings.Join(slices.Sorted(maps.Keys(r.methods)), ", ")
	return r
}

// merge adds the methods of another route at the same path.
func (r *route) merge(o *route) {
	maps.Copy(r.methods, o.methods)
	r.allow = strings.Join(slices.Sorted(maps.Keys(r.methods)), ", ")
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := elapsed()
	path := r.URL.RawPath
	if path == "" {
		path = r.URL.Path
	}
	at, rest := s.find(path)
	m := at.methods[r.Method]
	var status int
	switch {
	case m != nil:
		status = m.handle(w, r, rest)
	case at == s.unknown:
		status = problem(w, http.StatusNotFound, "nothing is at this path; POST /v1/take/{limit}/{key} takes a token, GET /v1/limits lists the limits")
	default:
		w.Header().Set("Allow", at.allow)
		status = problem(w, http.StatusMethodNotAllowed, at.pattern+" answers to "+at.allow+" only")
	}
	s.count(at, m, r.Method, status)
	at.took.observe(s.metrics.took, at.pattern, status, elapsed()-began)
}

func (s *server) find(path string) (at *route, rest string) {
	for _, r := range s.prefix {
		if rest, ok := strings.CutPrefix(path, r.prefix); ok { // nothing but it: /v1/take/ too
			return r, rest
		}
	}
	if r := s.exact[path]; r != nil {
		return r, ""
	}
	return s.unknown, ""
}

// count counts a request; m is nil if the route does not answer to its method.
func (s *server) count(at *route, m *method, name string, status int) {
	switch {
	case m != nil && status == http.StatusOK:
		m.ok.Inc()
	case m != nil && status == http.StatusTooManyRequests:
		m.limited.Inc()
	default:
		s.metrics.requests(statusLabel(status), at.pattern, methodLabel(name)).Inc()
	}
}

// methodLabel keeps a client's inventions out of the labels.
func methodLabel(method string) string {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return method
	}
	return "other"
}
