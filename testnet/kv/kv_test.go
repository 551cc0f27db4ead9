package kv

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const namespace = BasePath + "/accounts/account/storage/kv/namespaces/namespace/"

// do makes one call and returns the status, or 0 and the error's text.
func do(t *testing.T, s *Server, method, path, body string, header ...string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://kv"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer token")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := s.RoundTripper().RoundTrip(r)
	if err != nil {
		return 0, err.Error()
	}
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

func put(t *testing.T, s *Server, key, value string) (int, string) {
	t.Helper()
	return do(t, s, "PUT", namespace+"bulk", fmt.Sprintf(`[{"key":%q,"value":%q}]`, key, value))
}

func get(t *testing.T, s *Server, key string) string {
	t.Helper()
	_, text := do(t, s, "POST", namespace+"bulk/get", fmt.Sprintf(`{"keys":[%q]}`, key))
	var answer struct {
		Result struct{ Values map[string]*string }
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if v := answer.Result.Values[key]; v != nil {
		return *v
	}
	return "absent"
}

// Every call answers in the documented form, word for word.
func TestTheDocumentedForms(t *testing.T) {
	const ok = `{"result":{},"success":true,"errors":[],"messages":[]}`
	failed := func(code int, text string) string {
		return fmt.Sprintf(`{"result":null,"success":false,"errors":[{"code":%d,"message":%q}],"messages":[]}`, code, text)
	}
	s := New(Config{})
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"PUT", "bulk", `[{"key":"a","value":"1","metadata":{"m":1}},{"key":"b/c","value":"eA==","base64":true}]`, 200, `{"result":{"successful_key_count":2,"unsuccessful_keys":[]},"success":true,"errors":[],"messages":[]}`},
		{"POST", "bulk/get", `{"keys":["a","b/c","d"]}`, 200, `{"result":{"values":{"a":"1","b/c":"x","d":null}},"success":true,"errors":[],"messages":[]}`},
		{"POST", "bulk/get", `{"keys":["a","d"],"type":"text","withMetadata":true}`, 200, `{"result":{"values":{"a":{"metadata":{"m":1},"value":"1"},"d":null}},"success":true,"errors":[],"messages":[]}`},
		{"GET", "keys?limit=10", ``, 200, `{"result":[{"metadata":{"m":1},"name":"a"},{"name":"b/c"}],"success":true,"errors":[],"messages":[],"result_info":{"count":2,"cursor":""}}`},
		{"GET", "keys?prefix=b", ``, 200, `{"result":[{"name":"b/c"}],"success":true,"errors":[],"messages":[],"result_info":{"count":1,"cursor":""}}`},
		{"GET", "values/b%2Fc", ``, 200, `x`},
		{"GET", "metadata/a", ``, 200, `{"result":{"m":1},"success":true,"errors":[],"messages":[]}`},
		{"PUT", "values/v?expiration_ttl=60", `raw`, 200, ok},
		{"GET", "values/v", ``, 200, `raw`},
		{"DELETE", "values/v", ``, 200, ok},
		{"GET", "values/v", ``, 404, failed(10009, "get: 'key not found'")},
		{"POST", "bulk/delete", `["a","nobody"]`, 200, `{"result":{"successful_key_count":2,"unsuccessful_keys":[]},"success":true,"errors":[],"messages":[]}`},
		{"DELETE", "bulk", `["b/c"]`, 200, `{"result":{"successful_key_count":1,"unsuccessful_keys":[]},"success":true,"errors":[],"messages":[]}`},
		{"GET", "keys", ``, 200, `{"result":[],"success":true,"errors":[],"messages":[],"result_info":{"count":0,"cursor":""}}`},
		{"PUT", "bulk", `{}`, 400, ""},
		{"PUT", "bulk", `[{"key":"a"}]`, 400, ""},
		{"PUT", "bulk", `[{"key":"a","value":"1"},{"key":"b","value":"1","expiration_ttl":59}]`, 400, failed(10047, "expiration_ttl must be at least 60")},
		{"PUT", "bulk", `[{"key":"` + strings.Repeat("k", 513) + `","value":""}]`, 400, ""},
		{"PUT", "bulk", `[{"key":"a","value":"","metadata":"` + strings.Repeat("m", 1023) + `"}]`, 400, ""},
		{"PUT", "bulk", "[" + strings.Repeat(`{"key":"a","value":""},`, 10_000) + `{"key":"a","value":""}]`, 400, ""},
		{"POST", "bulk/get", `{"keys":[` + strings.Repeat(`"a",`, 100) + `"a"]}`, 400, ""},
		{"GET", "keys?limit=1001", ``, 400, ""},
		{"GET", "keys?cursor=!", ``, 400, ""},
		{"GET", "elsewhere", ``, 404, failed(7000, "No route for that URI")},
	} {
		status, text := do(t, s, c.method, namespace+c.path, c.body)
		if status != c.status || c.want != "" && text != c.want || c.want == "" && !strings.Contains(text, `"success":false`) {
			t.Errorf("%s %s: %d %s, want %d %s", c.method, c.path, status, text, c.status, c.want)
		}
	}
	if left := s.Dump(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestWhoMayAsk(t *testing.T) {
	s := New(Config{})
	for _, c := range []struct {
		path, auth string
		status     int
		code       string
	}{
		{namespace, "", 400, "9106"},
		{namespace, "Basic x", 400, "6003"},
		{namespace, "Bearer other", 401, "10000"},
		{strings.Replace(namespace, "accounts/account", "accounts/other", 1), "Bearer token", 404, "7003"},
		{strings.Replace(namespace, "namespaces/namespace", "namespaces/other", 1), "Bearer token", 404, "10013"},
		{strings.TrimPrefix(namespace, BasePath), "Bearer token", 404, "7000"},
		{namespace, "Bearer token", 200, ""},
	} {
		if status, text := do(t, s, "GET", c.path+"keys", "", "Authorization", c.auth); status != c.status || !strings.Contains(text, c.code) {
			t.Errorf("%s as %q: %d %s, want %d with %s", c.path, c.auth, status, text, c.status, c.code)
		}
	}
}

// A form's value and metadata are stored, as the single put of the documents sends them.
func TestASinglePutTakesAForm(t *testing.T) {
	s := New(Config{})
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	form.WriteField("value", "\xff\x00")
	form.WriteField("metadata", `{"m":1}`)
	form.Close()
	if status, text := do(t, s, "PUT", namespace+"values/a%2Fb", body.String(), "Content-Type", form.FormDataContentType()); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	if p := s.Dump()["a/b"]; string(p.Value) != "\xff\x00" || string(p.Metadata) != `{"m":1}` {
		t.Errorf("stored %q %s", p.Value, p.Metadata)
	}
}

// A listing comes in pages; each may be preceded by an empty one.
func TestPages(t *testing.T) {
	for _, empty := range []bool{false, true} {
		s := New(Config{EmptyPages: empty})
		for i := range 25 {
			put(t, s, fmt.Sprintf("k%02d", i), "v")
		}
		cursor, pages, names := "", 0, ""
		for {
			_, text := do(t, s, "GET", namespace+"keys?limit=10&cursor="+url.QueryEscape(cursor), "")
			var page struct {
				Result     []struct{ Name string }
				ResultInfo struct{ Cursor string } `json:"result_info"`
			}
			if err := json.Unmarshal([]byte(text), &page); err != nil {
				t.Fatal(err)
			}
			pages++
			for _, k := range page.Result {
				names += k.Name
			}
			if cursor = page.ResultInfo.Cursor; cursor == "" {
				break
			}
		}
		if want := map[bool]int{false: 3, true: 6}[empty]; pages != want || len(names) != 75 || !strings.HasSuffix(names, "k24") {
			t.Errorf("%d pages with %s", pages, names)
		}
	}
}

// Readers see what was there a lag ago, a missing key included; the truth is in Dump.
func TestReadersLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Lag: time.Minute})
		time.Sleep(time.Hour)
		see := func(want, truth string) {
			t.Helper()
			if got := get(t, s, "k"); got != want {
				t.Errorf("%v: a reader sees %s, want %s", time.Now(), got, want)
			}
			if p, ok := s.Dump()["k"]; ok != (truth != "absent") || ok && string(p.Value) != truth {
				t.Errorf("%v: the truth is %s, want %s", time.Now(), p.Value, truth)
			}
		}
		put(t, s, "k", "1")
		see("absent", "1")
		time.Sleep(30 * time.Second)
		put(t, s, "k", "2")
		see("absent", "2")
		time.Sleep(30 * time.Second)
		see("1", "2")
		do(t, s, "POST", namespace+"bulk/delete", `["k"]`)
		time.Sleep(30 * time.Second)
		see("2", "absent")
		time.Sleep(30 * time.Second)
		see("absent", "absent")
		put(t, s, "k", "3")
		s.Lag(0)
		see("3", "3")
	})
}

// A fault meets its op, for its calls and its time, at its rate; Heal ends it.
func TestFaultsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{})
		status := func() int { code, _ := put(t, s, "k", "v"); return code }
		s.Fault(Fault{Op: "put", Kind: Failure, Calls: 2})
		s.Fault(Fault{Op: "list", Kind: Failure})
		if a, b, c := status(), status(), status(); a != 500 || b != 500 || c != 200 {
			t.Errorf("two calls: %d %d %d", a, b, c)
		}
		if code, _ := do(t, s, "GET", namespace+"keys", ""); code != 500 {
			t.Errorf("a listing: %d", code)
		}
		s.Heal()
		s.Fault(Fault{Kind: HTML, For: Duration(time.Minute)})
		time.Sleep(time.Minute - 1)
		a := status()
		time.Sleep(time.Nanosecond)
		if b := status(); a != 502 || b != 200 {
			t.Errorf("a minute: %d, then %d", a, b)
		}
		s.Fault(Fault{Kind: Failure, Rate: 0.25})
		broken := 0
		for range 1000 {
			if status() != 200 {
				broken++
			}
		}
		if broken < 200 || broken > 300 {
			t.Errorf("%d of 1000 at a rate of a quarter", broken)
		}
		if got := s.Stats(); got.Faults[Failure] != broken+3 || got.Calls["put"] != 1005 || got.Total() != 1006 || len(got.Log) != 1006 {
			t.Errorf("stats: %v %v %d", got.Faults, got.Calls, len(got.Log))
		}
	})
}

// What becomes of a write under each fault that breaks the connection.
func TestWhatABrokenPutLeaves(t *testing.T) {
	for kind, want := range map[Kind]struct{ says, now, later string }{
		Down:  {"refused", "absent", "absent"},
		Reset: {"reset", "absent", "absent"},
		Hang:  {"deadline", "absent", "absent"},
		Lost:  {"reset", "v", "v"},
		Late:  {"deadline", "absent", "v"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := New(Config{})
			s.Fault(Fault{Kind: kind, Delay: Duration(30 * time.Second), Calls: 1})
			if status, text := put(t, s, "k", "v"); status != 0 || !strings.Contains(text, want.says) {
				t.Errorf("%s: %d %s", kind, status, text)
			}
			if got := get(t, s, "k"); got != want.now {
				t.Errorf("%s: at once %s", kind, got)
			}
			time.Sleep(30 * time.Second)
			if got := get(t, s, "k"); got != want.later {
				t.Errorf("%s: later %s", kind, got)
			}
		})
	}
}

// A write that is applied late is the newest, whatever was written since.
func TestALateWriteWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{})
		s.Fault(Fault{Kind: Late, Delay: Duration(30 * time.Second), Calls: 1})
		put(t, s, "k", "old")
		put(t, s, "k", "new")
		time.Sleep(30 * time.Second)
		if got := get(t, s, "k"); got != "old" {
			t.Errorf("got %s", got)
		}
	})
}

// Beyond the quota everything is refused for five minutes, and says for how long.
func TestTheQuotaBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Quota: 100})
		for i := range 100 {
			if status, _ := put(t, s, "k", "v"); status != 200 {
				t.Fatalf("call %d: %d", i, status)
			}
		}
		status, text := put(t, s, "k", "v")
		if status != 429 || !strings.Contains(text, "971") {
			t.Errorf("%d %s", status, text)
		}
		time.Sleep(5*time.Minute - 1)
		if status, _ := put(t, s, "k", "v"); status != 429 {
			t.Errorf("before five minutes: %d", status)
		}
		time.Sleep(time.Nanosecond)
		if status, _ := put(t, s, "k", "v"); status != 200 {
			t.Errorf("after five minutes: %d", status)
		}
	})
}

// A process is switched and read over HTTP; Serve ends with its context, calls that hang too.
func TestTheControlOverHTTP(t *testing.T) {
	s := New(Config{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	call := func(method, path, body string) (int, string) {
		r, _ := http.NewRequest(method, "http://"+l.Addr().String()+path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer token")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			return 0, err.Error()
		}
		defer res.Body.Close()
		text, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(text)
	}
	for _, c := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"POST", "/_/fault", `{"op":"put","kind":"error","status":429,"code":971,"retry_after":"30","calls":1,"for":"1m"}`, 200, `"for":"1m0s"`},
		{"POST", "/_/fault", `{"kindd":"error"}`, 400, "unknown field"},
		{"PUT", namespace + "bulk", `[{"key":"a","value":"b"}]`, 429, "971"},
		{"PUT", namespace + "bulk", `[{"key":"a","value":"b"}]`, 200, "true"},
		{"GET", "/_/stats", ``, 200, `"calls":{"put":2}`},
		{"GET", "/_/dump", ``, 200, `{"a":{"value":"Yg=="}}`},
		{"POST", "/_/lag", `{"lag":"60s"}`, 200, ""},
		{"GET", namespace + "values/a", ``, 404, "10009"},
		{"POST", "/_/fault", `{"kind":"down"}`, 200, ""},
		{"GET", namespace + "keys", ``, 0, ""},
		{"POST", "/_/heal", ``, 200, ""},
		{"GET", namespace + "keys", ``, 200, ""},
		{"POST", "/_/fault", `{"kind":"hang"}`, 200, ""},
	} {
		if status, text := call(c.method, c.path, c.body); status != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%s %s: %d %s, want %d and %s", c.method, c.path, status, text, c.status, c.says)
		}
	}
	hung := make(chan int, 1)
	go func() { status, _ := call("GET", namespace+"keys", ""); hung <- status }()
	for s.Stats().Faults[Hang] == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if status := <-hung; status != 0 {
		t.Errorf("a call that hung was answered %d", status)
	}
}
