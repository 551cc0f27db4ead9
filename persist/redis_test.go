package persist_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/openclaw/edge/persist"
	"github.com/openclaw/edge/testnet/redis"
)

const secret = "hunter2-not-in-any-log"

// openRedis is patient, unless the URL is not: the machine may be busy.
func openRedis(t testing.TB, url string, cluster bool) *persist.Redis {
	t.Helper()
	switch {
	case strings.Contains(url, "read_timeout="):
	case strings.Contains(url, "?"):
		url += "&read_timeout=10s&dial_timeout=2s"
	default:
		url += "?read_timeout=10s&dial_timeout=2s"
	}
	r, err := persist.NewRedis(persist.RedisConfig{URL: url, Cluster: cluster})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func value(key string, version uint64, data string) persist.Value {
	return persist.Value{Key: key, Version: version, Data: []byte(data)}
}

func TestRedisKeepsTheLaws(t *testing.T) {
	s := redis.Start(t, redis.Options{Password: secret})
	persist.StoreLaws(t, openRedis(t, s.URL(), false))
}

func TestRedisKeepsTheLawsOverTLS(t *testing.T) {
	s := redis.Start(t, redis.Options{TLS: true})
	persist.StoreLaws(t, openRedis(t, s.URL()+"?skip_verify=true", false))
}

func TestRedisKeepsTheLawsInACluster(t *testing.T) {
	c := redis.StartCluster(t, 3, redis.Options{})
	persist.StoreLaws(t, openRedis(t, c.URL(), true))
	t.Run("3,000 keys", func(t *testing.T) { manyKeys(t, openRedis(t, c.URL(), true), 3000) })
	t.Run("asked as a single server", func(t *testing.T) { withoutClusterMode(t, c) })
	t.Run("one of three is dead", func(t *testing.T) { oneDead(t, c) })
}

func TestRedisKeepsTheLawsBehindASentinel(t *testing.T) {
	s := redis.Start(t, redis.Options{Password: secret})
	sentinel := redis.StartSentinel(t, s)
	persist.StoreLaws(t, openRedis(t, sentinel.URL(), false))
	r := openRedis(t, strings.Replace(sentinel.URL(), "openclaw", "other", 1), false)
	expect(t, r.Put(t.Context(), []persist.Value{value("k", 1, "x")}), persist.Misconfigured, "master_name")
	sentinel.Kill()
	r = openRedis(t, sentinel.URL(), false)
	expect(t, r.Put(t.Context(), []persist.Value{value("k", 1, "x")}), persist.Failed, "sentinel")
}

func TestASocketWillDo(t *testing.T) {
	path := t.TempDir() + "/redis.sock"
	redis.Start(t, redis.Options{Password: secret, Args: []string{"--unixsocket", path}})
	r := openRedis(t, "unix://:"+secret+"@"+path, false)
	if err := r.Put(t.Context(), []persist.Value{value("k", 1, "x")}); err != nil {
		t.Error(err)
	}
}

// manyKeys: all are listed, each once, though every master knows a part only and SCAN repeats.
func manyKeys(t *testing.T, r *persist.Redis, n int) {
	var values []persist.Value
	for i := range n {
		values = append(values, value(fmt.Sprintf("many:%04d", i), uint64(i+1), strings.Repeat("x", i%50)))
		values = append(values, value(fmt.Sprintf("other:%04d", i), 1, ""))
	}
	if err := r.Put(t.Context(), values); err != nil {
		t.Fatal(err)
	}
	entries, err := r.List(t.Context(), "many:")
	if err != nil || len(entries) != n {
		t.Fatalf("%d keys of %d, %v", len(entries), n, err)
	}
	for i, e := range entries {
		if want := (persist.Entry{Key: fmt.Sprintf("many:%04d", i), Version: uint64(i + 1), Size: i % 50}); e != want {
			t.Fatalf("listed %+v, want %+v", e, want)
		}
	}
	seen := 0
	if err := r.Get(t.Context(), entries, func(persist.Value) error { seen++; return nil }); err != nil || seen != n {
		t.Fatalf("got %d of %d, %v", seen, n, err)
	}
	if err := r.Delete(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
	if left, err := r.List(t.Context(), "many:"); err != nil || len(left) != 0 {
		t.Fatalf("%d left, %v", len(left), err)
	}
}

// oneDead: the others' keys are stored, and only those of the dead one are named.
func oneDead(t *testing.T, c *redis.Cluster) {
	r := openRedis(t, c.URL(), true)
	for _, s := range c.Servers { // what is left answers for its own slots
		if err := s.Do("CONFIG", "SET", "cluster-require-full-coverage", "no"); err != nil {
			t.Fatal(err)
		}
	}
	var values []persist.Value
	for i := range 60 {
		values = append(values, value(fmt.Sprintf("dead:%d", i), 1, "before"))
	}
	if err := r.Put(t.Context(), values); err != nil {
		t.Fatal(err)
	}
	c.Servers[2].Kill()
	for i := range values {
		values[i].Version, values[i].Data = 2, []byte("after")
	}
	err := r.Put(t.Context(), values)
	var partial *persist.Partial
	if !errors.As(err, &partial) || len(partial.Keys) < 5 || len(partial.Keys) > 40 {
		t.Fatalf("%v", err)
	}
	found, err := r.List(t.Context(), "dead:")
	if err == nil {
		t.Error("a part that is missing is not told")
	}
	if len(found) != len(values)-len(partial.Keys) {
		t.Errorf("%d listed, %d of %d are on servers that live", len(found), len(values)-len(partial.Keys), len(values))
	}
	for _, e := range found {
		if partial.Keys[e.Key] != nil || e.Version != 2 {
			t.Errorf("%+v was named as not stored", e)
		}
	}
}

// Two writers' calls, in all sorts of order, repeated, and executed late: the higher version
// stays. What was told to be deleted at a version is not deleted at another.
func TestLateAndRepeatedCallsNeverLowerAVersion(t *testing.T) {
	s := redis.Start(t, redis.Options{})
	stores := []*persist.Redis{openRedis(t, s.URL(), false), openRedis(t, s.URL(), false), openRedis(t, s.URL(), false)}
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 9))
		key := fmt.Sprint("late:", seed)
		newest := uint64(2 + r.IntN(1000))
		calls := []func(*persist.Redis) error{
			func(s *persist.Redis) error { return s.Put(t.Context(), []persist.Value{value(key, newest, "new")}) },
			func(s *persist.Redis) error { return s.Put(t.Context(), []persist.Value{value(key, newest-1, "old")}) },
			func(s *persist.Redis) error {
				return s.Delete(t.Context(), []persist.Entry{{Key: key, Version: newest - 1}})
			},
			func(s *persist.Redis) error { return s.Put(t.Context(), []persist.Value{value(key, newest, "new")}) },
			func(s *persist.Redis) error { return s.Put(t.Context(), []persist.Value{value(key, newest-1, "old")}) },
		}
		r.Shuffle(len(calls), func(i, j int) { calls[i], calls[j] = calls[j], calls[i] })
		var wg sync.WaitGroup
		for i, call := range calls {
			wg.Go(func() {
				if err := call(stores[i%len(stores)]); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		n := 0
		err := stores[0].Get(t.Context(), []persist.Entry{{Key: key}}, func(v persist.Value) error {
			if n++; v.Version != newest || string(v.Data) != "new" {
				t.Errorf("seed %d: version %d, %q; want %d", seed, v.Version, v.Data, newest)
			}
			return nil
		})
		if err != nil || n != 1 {
			t.Errorf("seed %d: %d values, %v", seed, n, err)
		}
	}
}

func TestAHangingServerCostsOneTimeoutNowAndThen(t *testing.T) {
	s := redis.Start(t, redis.Options{})
	r := openRedis(t, s.URL()+"?read_timeout=300ms", false)
	if err := r.Put(t.Context(), []persist.Value{value("k", 1, "x")}); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	for i := range 2 {
		took := expectWithin(t, 5*time.Second, func() error {
			return r.Put(t.Context(), []persist.Value{value("k", uint64(2+i), "late")})
		}, persist.Unknown, "in time")
		if took < 250*time.Millisecond {
			t.Errorf("gave up after %v", took)
		}
	}
	start := time.Now()
	for range 1000 {
		err := r.Put(t.Context(), []persist.Value{value("k", 4, "x")})
		var e *persist.Error
		if !errors.As(err, &e) || e.Kind != persist.Failed || !e.Until.After(start) || e.Until.After(start.Add(time.Minute)) {
			t.Fatalf("%v", err)
		}
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("1,000 calls on an open breaker took %v", took)
	}
	s.Cont()
}

// What was sent to a server that hangs is done when it goes on.
func TestAnAbandonedCallThatIsDoneLateLowersNothing(t *testing.T) {
	s := redis.Start(t, redis.Options{})
	slow := openRedis(t, s.URL(), false)
	if err := slow.Put(t.Context(), []persist.Value{value("k", 1, "x")}); err != nil { // a connection is there
		t.Fatal(err)
	}
	s.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	expect(t, slow.Put(ctx, []persist.Value{value("k", 2, "abandoned")}), persist.Unknown, "")
	newer := make(chan error)
	fast := openRedis(t, s.URL(), false)
	go func() { newer <- fast.Put(t.Context(), []persist.Value{value("k", 3, "newer")}) }()
	time.Sleep(50 * time.Millisecond)
	s.Cont()
	if err := <-newer; err != nil {
		t.Fatal(err)
	}
	err := fast.Get(t.Context(), []persist.Entry{{Key: "k"}}, func(v persist.Value) error {
		if v.Version != 3 {
			t.Errorf("version %d: %q", v.Version, v.Data)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAKilledServerComesBackEmptyAndIsUsedAgain(t *testing.T) {
	s := redis.Start(t, redis.Options{})
	r := openRedis(t, s.URL(), false)
	if err := r.Put(t.Context(), []persist.Value{value("k", 5, "x")}); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	for range 5 {
		expectWithin(t, 3*time.Second, func() error { return r.Put(t.Context(), []persist.Value{value("k", 6, "x")}) }, persist.Failed, "is Redis running")
		_, err := r.List(t.Context(), "")
		expect(t, err, persist.Failed, "is Redis running")
	}
	if err := s.Restart(false); err != nil {
		t.Fatal(err)
	}
	if got, err := r.List(t.Context(), ""); err != nil || len(got) != 1 || got[0].Version != 5 {
		t.Fatalf("%v, %v", got, err)
	}
	if err := s.Restart(true); err != nil {
		t.Fatal(err)
	}
	// The old connection's end may cost one call.
	if err := r.Put(t.Context(), []persist.Value{value("k", 1, "x")}); err != nil && persist.KindOf(err) != persist.Unknown {
		t.Fatal(err)
	}
	if err := r.Put(t.Context(), []persist.Value{value("k", 1, "x")}); err != nil {
		t.Fatal(err)
	}
}

func TestAFullServerRefusesWhatDoesNotFitAndSaysSo(t *testing.T) {
	s := redis.Start(t, redis.Options{MaxMemory: "6mb"})
	r := openRedis(t, s.URL(), false)
	var values []persist.Value
	for i := range 10 {
		values = append(values, value(fmt.Sprint("k", i), 1, strings.Repeat("x", 1<<20)))
	}
	err := r.Put(t.Context(), values)
	var partial *persist.Partial
	if !errors.As(err, &partial) || len(partial.Keys) < 5 || len(partial.Keys) == len(values) {
		t.Fatalf("%.300v", err)
	}
	for key, e := range partial.Keys {
		if e.Kind != persist.Failed || !strings.Contains(e.Error(), "maxmemory") {
			t.Errorf("%s: %v", key, e)
		}
	}
	found, err := r.List(t.Context(), "k")
	if err != nil || len(found) != len(values)-len(partial.Keys) {
		t.Errorf("%d stored, %d of %d were acknowledged, %v", len(found), len(values)-len(partial.Keys), len(values), err)
	}
	expect(t, r.Put(t.Context(), values[9:]), persist.Failed, "maxmemory")
	if err := r.Delete(t.Context(), found); err != nil {
		t.Errorf("a full server must allow deleting: %v", err)
	}
}

func TestTooLargeAValueIsRejectedAloneAndForEver(t *testing.T) {
	s := redis.Start(t, redis.Options{})
	r := openRedis(t, s.URL(), false)
	err := r.Put(t.Context(), []persist.Value{
		{Key: "huge", Version: 1, Data: make([]byte, 4<<20+1)}, {Key: "largest", Version: 1, Data: make([]byte, 4<<20)}, value("small", 1, "x"),
	})
	var partial *persist.Partial
	if !errors.As(err, &partial) || len(partial.Keys) != 1 || partial.Keys["huge"].Kind != persist.Rejected {
		t.Fatalf("%v", err)
	}
	n := 0
	err = r.Get(t.Context(), []persist.Entry{{Key: "largest"}, {Key: "small"}, {Key: "huge"}}, func(v persist.Value) error { n += len(v.Data); return nil })
	if err != nil || n != 4<<20+1 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestATTLEndsAndIsRenewed(t *testing.T) {
	s := redis.Start(t, redis.Options{})
	r := openRedis(t, s.URL(), false)
	put := func(version uint64, ttl time.Duration) {
		t.Helper()
		if err := r.Put(t.Context(), []persist.Value{{Key: "k", Version: version, Data: []byte("x"), TTL: ttl}}); err != nil {
			t.Fatal(err)
		}
	}
	ttl := func() int64 {
		t.Helper()
		ms, err := s.Ask("PTTL", "k")
		if err != nil {
			t.Fatal(err)
		}
		return ms.(int64)
	}
	put(5, time.Hour)
	if ms := ttl(); ms < 3_000_000 || ms > 3_600_000 {
		t.Errorf("%d ms", ms)
	}
	put(5, 2*time.Hour)
	if ms := ttl(); ms < 6_000_000 {
		t.Errorf("the same version does not renew it: %d ms", ms)
	}
	put(4, time.Minute)
	if ms := ttl(); ms < 6_000_000 {
		t.Errorf("an older version shortens it: %d ms", ms)
	}
	put(6, 0)
	if ms := ttl(); ms != -1 {
		t.Errorf("%d ms, want none", ms)
	}
	put(7, time.Microsecond)
	if ms := ttl(); ms == -1 {
		t.Error("a very short one became none")
	}
}

func TestKeysOfOthersDoNoHarm(t *testing.T) {
	s := redis.Start(t, redis.Options{})
	r := openRedis(t, s.URL(), false)
	for _, cmd := range [][]any{{"SET", "p:string", "x"}, {"HSET", "p:hash", "a", "b"}, {"HSET", "p:bad", "v", "12", "d", "x"}, {"RPUSH", "p:list", "x"}} {
		if err := s.Do(cmd...); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Put(t.Context(), []persist.Value{value("p:ours", 1, "x")}); err != nil {
		t.Fatal(err)
	}
	if got, err := r.List(t.Context(), "p:"); err != nil || len(got) != 1 || got[0].Key != "p:ours" {
		t.Errorf("%v, %v", got, err)
	}
	err := r.Put(t.Context(), []persist.Value{value("p:list", 1, "x"), value("p:ours", 2, "y")})
	var partial *persist.Partial
	if !errors.As(err, &partial) || len(partial.Keys) != 1 || partial.Keys["p:list"].Kind != persist.Misconfigured {
		t.Errorf("%v", err)
	}
}

// Every mistake in the configuration: its kind, how long it takes to tell, advice, no secret.
func TestEveryMistakeIsToldWithAdviceAndWithoutThePassword(t *testing.T) {
	plain := redis.Start(t, redis.Options{})
	locked := redis.Start(t, redis.Options{Password: secret})
	encrypted := redis.Start(t, redis.Options{TLS: true, Password: secret})
	for _, c := range []struct {
		what, url string
		cluster   bool
		kind      persist.Kind
		advice    string
	}{
		{"no password", "redis://" + locked.Addr, false, persist.Denied, "PASSWORD@host"},
		{"wrong password", "redis://:wrong-" + secret + "@" + locked.Addr, false, persist.Denied, "check user and password"},
		{"wrong user", "redis://someone:" + secret + "@" + locked.Addr, false, persist.Denied, "check user and password"},
		{"plain text to TLS", "redis://:" + secret + "@" + encrypted.Addr, false, persist.Misconfigured, "rediss://"},
		{"TLS to plain text", "rediss://:" + secret + "@" + plain.Addr + "?dial_timeout=1s&read_timeout=1s", false, persist.Misconfigured, "redis:// instead"},
		{"an authority unknown here", encrypted.URL(), false, persist.Misconfigured, "SSL_CERT_FILE"},
		{"nobody there", "redis://:" + secret + "@127.0.0.1:1", false, persist.Failed, "is Redis running"},
		{"no such name", "redis://:" + secret + "@redis.invalid", false, persist.Failed, "is the address"},
		{"no such database", "redis://" + plain.Addr + "/99", false, persist.Misconfigured, "/N at the end"},
		{"a single server as cluster", "redis://" + plain.Addr, true, persist.Misconfigured, "cluster: false"},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := openRedis(t, c.url, c.cluster)
			expectWithin(t, 12*time.Second, func() error { return r.Put(t.Context(), []persist.Value{value("k", 1, "x")}) }, c.kind, c.advice)
			_, err := r.List(t.Context(), "")
			expect(t, err, c.kind, c.advice)
			expect(t, r.Get(t.Context(), []persist.Entry{{Key: "k"}}, func(persist.Value) error { return nil }), c.kind, c.advice)
			expect(t, r.Delete(t.Context(), []persist.Entry{{Key: "k"}}), c.kind, c.advice)
		})
	}
}

func withoutClusterMode(t *testing.T, c *redis.Cluster) {
	r := openRedis(t, c.URL(), false)
	var values []persist.Value
	for i := range 20 {
		values = append(values, value(fmt.Sprint("k", i), 1, "x"))
	}
	var partial *persist.Partial
	if err := r.Put(t.Context(), values); !errors.As(err, &partial) {
		t.Fatal(err)
	}
	for _, e := range partial.Keys {
		expect(t, e, persist.Misconfigured, "cluster: true")
	}
}

func TestALoadingOrReadOnlyServerHasFailed(t *testing.T) {
	master := redis.Start(t, redis.Options{})
	replica := redis.Start(t, redis.Options{})
	host, port, _ := strings.Cut(master.Addr, ":")
	if err := replica.Do("REPLICAOF", host, port); err != nil {
		t.Fatal(err)
	}
	r := openRedis(t, replica.URL(), false)
	expect(t, r.Put(t.Context(), []persist.Value{value("k", 1, "x")}), persist.Failed, "replica")
	user := redis.Start(t, redis.Options{})
	if err := user.Do("ACL", "SETUSER", "reader", "on", ">"+secret, "~*", "+@read"); err != nil {
		t.Fatal(err)
	}
	r = openRedis(t, "redis://reader:"+secret+"@"+user.Addr, false)
	expect(t, r.Put(t.Context(), []persist.Value{value("k", 1, "x")}), persist.Denied, "EVAL")
}

// URLs that are not understood, and what is said of them.
func TestABadURLIsRefusedWithoutRepeatingIt(t *testing.T) {
	for _, url := range []string{
		"", "host:6379", "http://:" + secret + "@host", "redis://:" + secret + "/x@host:6379", "redis://:" + secret + "%zz@host",
		"redis://:12/" + secret + "@host:6379", "redis://:a?" + secret + "@host:6379", "redis://:" + secret + "@host:port",
		"redis://:" + secret + "@host/one", "redis://host?pool_size=9&" + secret + "=1", "redis://host/1/2" + secret, "unix://",
		"redis://host?dial_timeout=" + secret,
	} {
		for _, cluster := range []bool{false, true} {
			r, err := persist.NewRedis(persist.RedisConfig{URL: url, Cluster: cluster})
			if err == nil {
				t.Errorf("%s is accepted as %v", url, r)
				continue
			}
			expect(t, err, persist.Misconfigured, "")
		}
	}
	for _, c := range []persist.RedisConfig{
		{URL: "redis://h?master_name=m", Cluster: true}, {URL: "unix:///s", Cluster: true}, {URL: "redis://h/1", Cluster: true},
	} {
		_, err := persist.NewRedis(c)
		expect(t, err, persist.Misconfigured, "")
	}
	r := openRedis(t, "rediss://user:"+secret+"@host/3", false)
	if text := fmt.Sprintf("%v %s", r, r); text != "host:6379 (TLS) host:6379 (TLS)" {
		t.Error(text)
	}
}

func TestNothingRunsAfterClose(t *testing.T) {
	s := redis.Start(t, redis.Options{})
	ignore := goleak.IgnoreCurrent()
	r, err := persist.NewRedis(persist.RedisConfig{URL: s.URL()})
	if err != nil {
		t.Fatal(err)
	}
	goleak.VerifyNone(t, ignore) // nothing before the first call
	if err := r.Put(t.Context(), []persist.Value{value("k", 1, "x")}); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	for range 30 {
		r.Put(t.Context(), []persist.Value{value("k", 1, "x")})
	}
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Error(err)
	}
	goleak.VerifyNone(t, ignore)
	expect(t, r.Put(t.Context(), []persist.Value{value("k", 1, "x")}), persist.Failed, "closed")
}

// expect checks kind, advice, and that nothing secret is in an error however it is printed.
func expect(t *testing.T, err error, kind persist.Kind, advice string) {
	t.Helper()
	text := fmt.Sprintf("%v %+v %#v", err, err, err)
	var e *persist.Error
	switch {
	case !errors.As(err, &e):
		t.Errorf("%v (%T) is no *Error", err, err)
	case e.Kind != kind:
		t.Errorf("%v: %v, want %v", err, e.Kind, kind)
	case e.Store != "redis" || e.Op == "":
		t.Errorf("%q %q", e.Store, e.Op)
	case !strings.Contains(err.Error(), advice):
		t.Errorf("%v: does not say %q", err, advice)
	}
	if strings.Contains(text, secret) {
		t.Errorf("the password is in %s", text)
	}
}

func expectWithin(t *testing.T, most time.Duration, call func() error, kind persist.Kind, advice string) time.Duration {
	t.Helper()
	start := time.Now()
	err := call()
	took := time.Since(start)
	expect(t, err, kind, advice)
	if took > most {
		t.Errorf("took %v to say %v", took, err)
	}
	return took
}

func BenchmarkRedisPut64MB(b *testing.B) {
	s := redis.Start(b, redis.Options{})
	persist.BenchPut(b, openRedis(b, s.URL(), false))
}

func BenchmarkRedisGet64MB(b *testing.B) {
	s := redis.Start(b, redis.Options{})
	r := openRedis(b, s.URL(), false)
	var values []persist.Value
	for i := range 64 {
		values = append(values, persist.Value{Key: fmt.Sprint("k", i), Version: 1, Data: bytes.Repeat([]byte{byte(i)}, 1_000_000)})
	}
	if err := r.Put(b.Context(), values); err != nil {
		b.Fatal(err)
	}
	entries, err := r.List(b.Context(), "")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(64_000_000)
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Get(b.Context(), entries, func(persist.Value) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
