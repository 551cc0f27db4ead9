package page

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

// serve runs a page of a toy until the test ends, and then nothing of it is left.
func serve(t *testing.T) (url string, toy *toy, stop func() error) {
	t.Helper()
	toy = newToy()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := newTestHub(toy)
	cfg := h.cfg
	cfg.Listener = l
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- New(cfg).Run(ctx) }()
	var ended bool
	stop = func() error {
		if ended {
			return nil
		}
		ended = true
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(10 * time.Second):
			t.Fatal("the page does not stop")
			return nil
		}
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String(), toy, stop
}

func post(t *testing.T, url, body string, head ...string) (status int, reply map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "POST", url+"/do", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(head); i += 2 {
		if head[i] == "Host" {
			r.Host = head[i+1]
		} else {
			r.Header.Set(head[i], head[i+1])
		}
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(&reply); err != nil {
		t.Fatalf("%d: %v", res.StatusCode, err)
	}
	return res.StatusCode, reply
}

// sse reads one event.
func sse(t *testing.T, r *bufio.Reader) (name, data string) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "event: "):
			name = line[7:]
		case strings.HasPrefix(line, "data: "):
			data = line[6:]
		case line == "" && name != "":
			return name, data
		}
	}
}

func watchEvents(t *testing.T, url string) *bufio.Reader {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", url+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if kind := res.Header.Get("Content-Type"); res.StatusCode != 200 || kind != "text/event-stream" {
		t.Fatalf("%d, %s", res.StatusCode, kind)
	}
	return bufio.NewReader(res.Body)
}

// A browser hears hello once and first, states in order, and every point without a gap.
func TestEventsComeInOrder(t *testing.T) {
	url, _, _ := serve(t)
	events := watchEvents(t, url)
	if name, data := sse(t, events); name != "hello" || !strings.Contains(data, `"regions":["eu","us","ap"]`) {
		t.Fatalf("first comes %s: %s", name, data)
	}
	var seq, points uint64
	var at float64
	for states := 0; states < 8; {
		switch name, data := sse(t, events); name {
		case "state":
			var s state
			if err := json.Unmarshal([]byte(data), &s); err != nil {
				t.Fatal(err)
			}
			if s.Seq <= seq || s.At <= at && seq > 0 {
				t.Fatalf("state %d of %g s comes after %d of %g s", s.Seq, s.At, seq, at)
			}
			seq, at = s.Seq, s.At
			states++
		case "points":
			var list []point
			if err := json.Unmarshal([]byte(data), &list); err != nil {
				t.Fatal(err)
			}
			for _, p := range list {
				if p.Seq != points+1 {
					t.Fatalf("point %d comes after %d", p.Seq, points)
				}
				points = p.Seq
			}
		case "log":
		default:
			t.Fatalf("event %s: %s", name, data)
		}
	}
	if points < seq {
		t.Errorf("%d points of %d", points, seq)
	}
}

// A browser that reads nothing holds nobody up; when it reads again it gets the newest state
// and all points that are kept.
func TestASlowBrowserGetsTheNewest(t *testing.T) {
	h := newTestHub(newToy())
	frames, leave, err := h.stream.join()
	if err != nil {
		t.Fatal(err)
	}
	defer leave()
	const turns = 50
	for range turns {
		turnOnce(t, h)
	}
	var out strings.Builder
	b := browser{w: &out}
	if err := b.tell(<-frames); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "event: state"); n != 1 || !strings.Contains(out.String(), `"seq":50,"t":5,`) {
		t.Errorf("%d states, the last one %d: %s", n, turns, out.String()[:200])
	}
	if b.points != turns {
		t.Errorf("points up to %d, want %d", b.points, turns)
	}
	out.Reset()
	turnOnce(t, h)
	if err := b.tell(<-frames); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "hello") || strings.Count(out.String(), `"rates"`) != 4 { // one point, three limits
		t.Errorf("told again: %s", out.String())
	}
}

func TestBrowsersAreFew(t *testing.T) {
	s := newStream()
	for range maxBrowsers {
		if _, _, err := s.join(); err != nil {
			t.Fatal(err)
		}
	}
	w := httptest.NewRecorder()
	gone, leave := context.WithCancel(t.Context())
	leave() // who is let in by mistake does not stay
	s.events(w, httptest.NewRequestWithContext(gone, "GET", "/events", nil))
	if w.Code != 503 || !strings.Contains(w.Body.String(), "close one of them") {
		t.Errorf("one too many gets %d: %s", w.Code, w.Body)
	}
	s.close()
	if _, _, err := s.join(); err != errOver {
		t.Errorf("after the end: %v", err)
	}
}

// flushed is a ResponseWriter that can do what the stream asks for.
type flushed struct{ *httptest.ResponseRecorder }

func (flushed) SetWriteDeadline(time.Time) error { return nil }

func TestSilenceHasAHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStream()
		w := flushed{httptest.NewRecorder()}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s.events(w, httptest.NewRequest("GET", "/events", nil))
		}()
		time.Sleep(heartbeat + heartbeat/2)
		s.close()
		<-ended
		if n := strings.Count(w.Body.String(), ": still here\n\n"); n != 1 {
			t.Errorf("%d heartbeats in seven seconds, want 1: %q", n, w.Body)
		}
	})
}

func TestCommandsAreObeyed(t *testing.T) {
	url, _, _ := serve(t)
	events := watchEvents(t, url)
	status, reply := post(t, url, `{"do":"region","name":"eu","mode":"both"}`)
	if status != 200 || reply["done"] != "eu is cut off" {
		t.Fatalf("%d: %v", status, reply)
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		if name, data := sse(t, events); name == "state" && strings.Contains(data, "eu hears 2 of 6 members: no majority") {
			return
		}
	}
	t.Error("the page never says why")
}

func TestBadCommandsAreAnsweredWithWhatToDo(t *testing.T) {
	url, _, _ := serve(t)
	for body, want := range map[string]string{
		``:                           "send one JSON object",
		`{`:                          "send one JSON object",
		`[]`:                         "send one JSON object",
		`{"do":"heal"} {}`:           "send one at a time",
		`{"do":"heal","on":1}`:       "send one JSON object",
		`{"do":"heal","extra":true}`: "extra",
		`{"do":"explode"}`:           "write region, link, node",
		`{"do":"region","name":"mars","mode":"both"}`:               "there are eu, us, ap",
		`{"do":"region","name":"eu","mode":"back"}`:                 `write "both", "in", "out", "flap"`,
		`{"do":"link","from":"eu","to":"eu"}`:                       "there are the regions",
		`{"do":"link","from":"eu","to":"us","mode":"in"}`:           `write "both", "there", "back", "flap"`,
		`{"do":"node","name":"eu-9","act":"crash"}`:                 "no node",
		`{"do":"node","name":"eu-1","act":"explode"}`:               "write crash, start",
		`{"do":"store","name":"disk","fault":"down"}`:               "write kv or redis",
		`{"do":"load","times":1000}`:                                "is possible",
		`{"do":"heal","name":"` + strings.Repeat("x", 1<<13) + `"}`: "too large",
	} {
		if status, reply := post(t, url, body); status != 400 || !strings.Contains(reply["detail"].(string), want) {
			t.Errorf("%.60s: %d %v, want 400 and %q", body, status, reply, want)
		}
	}
	if status, _ := post(t, url, `{"do":"heal"}`, "Content-Type", "text/plain"); status != 415 {
		t.Errorf("text is answered %d, want 415", status)
	}
	if status, _ := post(t, url, `{"do":"store","name":"kv","fault":"mad"}`); status != 501 {
		t.Errorf("what the World cannot do is answered %d, want 501", status)
	}
}

// A web page from elsewhere must not be able to cut links, nor to look on.
func TestStrangersAreRefused(t *testing.T) {
	url, toy, stop := serve(t)
	cut := `{"do":"region","name":"eu","mode":"both"}`
	for _, head := range [][]string{
		{"Origin", "http://evil.example"},
		{"Origin", "null"},
		{"Sec-Fetch-Site", "cross-site"},
		{"Sec-Fetch-Site", "same-site", "Origin", "http://127.0.0.1:1"},
		{"Host", "evil.example"},
		{"Host", "127.0.0.1.evil.example:8088"},
		{"Host", "10.0.0.1:8088"},
	} {
		status, reply := post(t, url, cut, head...)
		if status != 403 || reply["detail"] == "" {
			t.Errorf("%v: %d %v, want 403", head, status, reply)
		}
	}
	for _, path := range []string{"/", "/events", "/assets/app.js"} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "evil.example"
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 403 {
			t.Errorf("%s by a foreign name: %d, want 403", path, res.StatusCode)
		}
	}
	if err := stop(); err != nil { // then the toy is ours
		t.Fatal(err)
	}
	if len(toy.cut) > 0 {
		t.Errorf("a stranger has cut %v", toy.cut)
	}
}

func TestItsOwnPageIsObeyed(t *testing.T) {
	url, _, _ := serve(t)
	for _, head := range [][]string{{}, {"Origin", url}, {"Origin", url, "Sec-Fetch-Site", "same-origin"}, {"Host", "localhost:1"}, {"Host", "[::1]"}} {
		if status, reply := post(t, url, `{"do":"heal"}`, head...); status != 200 {
			t.Errorf("%v: %d %v, want 200", head, status, reply)
		}
	}
}

// Everything that the page asks for is there, and nothing comes from elsewhere.
func TestThePageWorksOffline(t *testing.T) {
	url, _, _ := serve(t)
	get := func(path string) (*http.Response, string) {
		res, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != 200 {
			t.Fatalf("%s: %d, %v", path, res.StatusCode, err)
		}
		return res, string(body)
	}
	res, body := get("/")
	if csp := res.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'self'") {
		t.Errorf("Content-Security-Policy: %q", csp)
	}
	files := 0
	for _, part := range strings.Split(body, `"`) {
		if strings.HasPrefix(part, "/assets/") {
			get(part)
			files++
		}
	}
	if files < 5 || strings.Contains(body, "http://") || strings.Contains(body, "https://") {
		t.Errorf("%d files; the page names addresses elsewhere: %v", files, strings.Contains(body, "://"))
	}
}

func TestWhenThePageStopsNothingIsLeft(t *testing.T) {
	before := goleak.IgnoreCurrent()
	url, toy, stop := serve(t)
	transport := &http.Transport{}
	client := &http.Client{Transport: transport}
	var streams []io.ReadCloser
	for range 3 {
		res, err := client.Get(url + "/events")
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, res.Body)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if toy.runs.Load() == 0 {
		t.Error("the testnet never ran")
	}
	for _, s := range streams {
		if _, err := io.Copy(io.Discard, s); err != nil {
			t.Errorf("a stream ends with %v", err)
		}
		s.Close()
	}
	transport.CloseIdleConnections()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	if err := goleak.Find(before); err != nil {
		t.Error(err)
	}
}

// A World that fails at once is not asked without end, and the page says what is wrong.
func TestAFailingTestnetIsSaid(t *testing.T) {
	toy := newToy()
	toy.failing = io.ErrUnexpectedEOF
	h := newTestHub(toy)
	ctx, cancel := context.WithTimeout(t.Context(), 550*time.Millisecond)
	defer cancel()
	h.run(ctx)
	if n := toy.runs.Load(); n > 10 {
		t.Errorf("it was asked %d times in half a second", n)
	}
	if !logged(h, "the testnet failed: unexpected EOF") {
		t.Errorf("the log says %+v", h.log.newest())
	}
}
