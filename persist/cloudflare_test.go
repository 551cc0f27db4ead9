package persist

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openclaw/edge/testnet/kv"
)

const secret = "s3cr3t-t0ken"

// standIn is a store and the server that it talks to, without a socket.
func standIn(t *testing.T, cfg kv.Config) (*Cloudflare, *kv.Server) {
	t.Helper()
	cfg.Token = secret
	server := kv.New(cfg)
	t.Cleanup(server.Close)
	return clientOf(t, server.RoundTripper(), nil), server
}

func clientOf(t *testing.T, transport http.RoundTripper, members func() int) *Cloudflare {
	t.Helper()
	c, err := NewCloudflare(CloudflareConfig{
		AccountID: "account", NamespaceID: "namespace", Token: secret,
		HTTPClient: &http.Client{Transport: transport}, Members: members,
	})
	if err != nil {
		t.Fatal(err)
	}
	rested(c.budget)
	return c
}

// rested is a budget whose process began so long ago that it has its burst.
func rested(b *budget) *budget {
	b.left, b.fresh = callBurst, time.Time{}
	return b
}

func values(n, size int) []Value {
	rng := rand.New(rand.NewPCG(7, uint64(n)))
	all := make([]Value, n)
	for i := range all {
		data := make([]byte, size)
		for j := range min(size, 1000) {
			data[j] = byte(rng.Uint32())
		}
		all[i] = Value{Key: fmt.Sprintf("rating_bucket:%05d:edge-1:ab", i), Version: rng.Uint64(), Data: data}
	}
	return all
}

func entries(values []Value) []Entry {
	all := make([]Entry, len(values))
	for i, v := range values {
		all[i] = Entry{v.Key, v.Version, len(v.Data)}
	}
	return all
}

func mustGet(t *testing.T, c *Cloudflare, keys []Entry) map[string]Value {
	t.Helper()
	got := map[string]Value{}
	err := c.Get(t.Context(), keys, func(v Value) error { got[v.Key] = v; return nil })
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func same(t *testing.T, got map[string]Value, want []Value) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d values, want %d", len(got), len(want))
	}
	for _, w := range want {
		if g := got[w.Key]; g.Version != w.Version || !bytes.Equal(g.Data, w.Data) {
			t.Fatalf("%s: version %d with %d bytes, want version %d with %d", w.Key, g.Version, len(g.Data), w.Version, len(w.Data))
		}
	}
}

// Any bytes, any version and any printable key come back as they went.
func TestWhatIsPutIsGot(t *testing.T) {
	c, server := standIn(t, kv.Config{})
	all := values(8, 300)
	all[0].Data = []byte{}
	all[1].Data = []byte{0xff, 0xfe, 0, 0xc3, 0x28}
	all[2].Key, all[2].Version = `a/ü"<&>\%2F?#`, 1<<64-1
	all[3].Key, all[3].Version = strings.Repeat("k", 512), 1<<53+1
	all[4].Data = bytes.Repeat([]byte("x"), 1<<20)
	if err := c.Put(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	listed, err := c.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	sortEntries := func(e []Entry) []Entry {
		return slices.SortedFunc(slices.Values(e), func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	}
	if want := sortEntries(entries(all)); !slices.Equal(sortEntries(listed), want) {
		t.Fatalf("listed %v, want %v", listed, want)
	}
	same(t, mustGet(t, c, append(listed, Entry{Key: "nobody"})), all)
	if s := server.Stats(); s.Calls["put"] != 1 || s.Calls["get"] != 1 || s.Calls["list"] != 1 {
		t.Fatalf("calls %v, want one of each", s.Calls)
	}
	if err := c.Delete(t.Context(), append(listed[:7:7], Entry{Key: "nobody"})); err != nil {
		t.Fatal(err)
	}
	if left := server.Dump(); len(left) != 1 {
		t.Fatalf("%d keys left of 8 less 7", len(left))
	}
}

// A snapshot of ten thousand keys is one put; reading it back costs a call for a hundred, and
// listing it one for a thousand, empty pages between them not counted.
func TestTenThousandKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, server := standIn(t, kv.Config{EmptyPages: true})
		all := values(10_001, 100)
		if err := c.Put(t.Context(), all); err != nil {
			t.Fatal(err)
		}
		if n := server.Stats().Calls["put"]; n != 2 {
			t.Errorf("%d puts for 10,001 pairs, want 2", n)
		}
		listed, err := c.List(t.Context(), "rating_bucket:0")
		if err != nil {
			t.Fatal(err)
		}
		if want := entries(all[:10_000]); !slices.Equal(listed, want) {
			t.Fatalf("%d keys listed, want %d with version and size", len(listed), len(want))
		}
		if n := server.Stats().Calls["list"]; n != 20 {
			t.Errorf("%d list calls, want 10 pages and 10 empty ones", n)
		}
		same(t, mustGet(t, c, listed), all[:10_000])
		if n := server.Stats().Calls["get"]; n != 100 {
			t.Errorf("%d get calls, want 100", n)
		}
		if err := c.Delete(t.Context(), listed); err != nil {
			t.Fatal(err)
		}
		if n := server.Stats().Calls["delete"]; n != 1 || len(server.Dump()) != 1 {
			t.Errorf("%d delete calls, %d keys left", n, len(server.Dump()))
		}
	})
}

// What is too large for one answer comes in several, whether the sizes are known or not.
func TestLargeSnapshotsAreCut(t *testing.T) {
	c, server := standIn(t, kv.Config{AnswerLimit: 25 << 10})
	c.getBytes = 20 << 10
	all := values(5, 4<<10)
	if err := c.Put(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	same(t, mustGet(t, c, entries(all)), all)
	if n := server.Stats().Calls["get"]; n != 2 {
		t.Errorf("%d gets for sizes that are known, want 2", n)
	}
	blind := entries(all)
	for i := range blind {
		blind[i].Size = 1 // of an older version
	}
	same(t, mustGet(t, c, blind), all) // 413, halved until it fits
	if n := server.Stats().Calls["get"]; n != 5 {
		t.Errorf("%d gets for sizes that are not known, want 3", n-2)
	}
}

// Groups hold everything once, in order, and neither too many nor too much.
func TestGroups(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 1000 {
		items := make([]int, rng.IntN(50))
		for i := range items {
			items[i] = rng.IntN(120) // some are heavier than a group may be
		}
		var joined []int
		for _, group := range groups(items, func(n int) int { return n }, 7, 100) {
			sum := 0
			for _, n := range group {
				sum += n
			}
			if len(group) == 0 || len(group) > 7 || sum > 100 && len(group) > 1 {
				t.Fatalf("%v has the group %v", items, group)
			}
			joined = append(joined, group...)
		}
		if !slices.Equal(joined, items) {
			t.Fatalf("%v became %v", items, joined)
		}
	}
}

func TestATimeToLiveIsAtLeastAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, server := standIn(t, kv.Config{})
		all := values(3, 10)
		all[0].TTL, all[1].TTL = time.Second, 90*time.Second+1
		if err := c.Put(t.Context(), all); err != nil {
			t.Fatal(err)
		}
		time.Sleep(61 * time.Second)
		if got := slices.Sorted(maps.Keys(server.Dump())); !slices.Equal(got, []string{all[1].Key, all[2].Key}) {
			t.Errorf("after 61 s there are %v", got)
		}
		time.Sleep(time.Minute)
		same(t, mustGet(t, c, entries(all)), all[2:])
	})
}

// What can never be stored is named, costs no call, and keeps nothing else from being stored.
func TestOneBadValueSpoilsNoOther(t *testing.T) {
	c, server := standIn(t, kv.Config{})
	all := values(4, 10)
	all[1].Data = make([]byte, 4<<20+1)
	all[2].Key = strings.Repeat("k", 513)
	err := c.Put(t.Context(), all)
	var some *Partial
	if !errors.As(err, &some) || len(some.Keys) != 2 || some.Keys[all[1].Key].Kind != Rejected || some.Keys[all[2].Key].Kind != Rejected {
		t.Fatalf("got %v, want two keys rejected", err)
	}
	same(t, mustGet(t, c, entries(all[:1])), all[:1])
	if n := server.Stats().Calls["put"]; n != 1 {
		t.Errorf("%d puts, want 1", n)
	}
}

// A value that the server refuses takes no other with it: the bulk is halved until it stands
// alone, at a bounded price.
func TestTheCulpritOfARejectedBulkIsFound(t *testing.T) {
	server := kv.New(kv.Config{Token: secret})
	picky := roundTrip(func(r *http.Request) (*http.Response, error) {
		body, again := readBody(t, r)
		if strings.Contains(body, ":00037:") {
			return respond(r, http.StatusBadRequest, `{"success":false,"errors":[{"code":10047,"message":"no"}],"messages":[],"result":null}`), nil
		}
		return server.RoundTripper().RoundTrip(again)
	})
	c := clientOf(t, picky, nil)
	all := values(64, 10)
	err := c.Put(t.Context(), all)
	var some *Partial
	if !errors.As(err, &some) || len(some.Keys) != 1 || some.Keys[all[37].Key].Kind != Rejected {
		t.Fatalf("got %v, want one key rejected", err)
	}
	if n := len(server.Dump()); n != 63 {
		t.Errorf("%d stored, want 63", n)
	}
}

// Other servers leave out what the documents call optional, or add what they do not name.
func TestAnswersOfOtherServers(t *testing.T) {
	ctx := context.Background()
	var body string
	c := clientOf(t, roundTrip(func(r *http.Request) (*http.Response, error) { return respond(r, 200, body), nil }), nil)
	put := func() error { return c.Put(ctx, []Value{{Key: "a"}, {Key: "b"}}) }
	for _, body = range []string{
		`{"success":true}`,
		`{"success":true,"result":null,"errors":null,"messages":null,"result_info":null}`,
		`{"success":true,"errors":[],"messages":[{"code":1,"message":"m"}],"result":{},"new":1}`,
		`{"success":true,"result":{"successful_key_count":2,"unsuccessful_keys":[]}}`,
		`{"success":true,"result":{"successful_key_count":2}}`,
		`{"success":true,"result":{"unsuccessful_keys":null}}`,
	} {
		if err := put(); err != nil {
			t.Errorf("put, answered %s: %v", body, err)
		}
	}
	for _, body = range []string{
		`{"success":true,"result":{"successful_key_count":1}}`,
		`{"success":true,"result":{"successful_key_count":1,"unsuccessful_keys":["c"]}}`,
		`{"success":true,"result":"done"}`,
	} {
		if err := put(); KindOf(err) != Unknown {
			t.Errorf("put, answered %s: %v, want unknown", body, err)
		}
	}
	for want, bodies := range map[string][]string{
		"": {`{"success":true}`, `{"success":true,"result":{"values":null}}`, `{"success":true,"result":{"values":{"a":null,"b":{"value":null,"metadata":null}}}}`},
		"a:1:x ": {
			`{"success":true,"result":{"values":{"a":{"value":"eA==","metadata":{"v":"1","n":1}}}}}`,
			`{"success":true,"result":{"values":{"a":{"value":"eA==","metadata":{"v":1,"n":1,"z":{}},"expiration":1.5e9},"c":"eA=="}}}`,
		},
		"a:0:x ": {
			`{"success":true,"result":{"values":{"a":"eA==","b":null}}}`,
			`{"success":true,"result":{"values":{"a":{"value":"eA=="}}}}`,
			`{"success":true,"result":{"values":{"a":{"value":"eA==","metadata":"text"}}}}`,
			`{"success":true,"result":{"values":{"a":{"value":"eA==","metadata":{"v":"-1"}}}}}`,
			`{"success":true,"result":{"values":{"a":{"value":"eA==","metadata":[1]}}}}`,
		},
		"a:0:no base64! ": {`{"success":true,"result":{"values":{"a":"no base64!"}}}`},
	} {
		for _, body = range bodies {
			got := ""
			for key, v := range mustGet(t, c, []Entry{{Key: "a"}, {Key: "b"}}) {
				got += fmt.Sprintf("%s:%d:%s ", key, v.Version, v.Data)
			}
			if got != want {
				t.Errorf("get, answered %s: %q, want %q", body, got, want)
			}
		}
	}
	for _, body = range []string{
		`{"success":true,"result":[{"name":"a"}]}`,
		`{"success":true,"result":[{"name":"a","expiration":1.5e9,"metadata":null}],"result_info":{"count":1}}`,
		`{"success":true,"result":[{"name":"a","metadata":{"v":[],"n":"x"}}],"result_info":{"cursor":null}}`,
	} {
		if got, err := c.List(ctx, ""); err != nil || !slices.Equal(got, []Entry{{Key: "a"}}) {
			t.Errorf("list, answered %s: %v, %v", body, got, err)
		}
	}
	body = `{"success":true,"result":[],"result_info":{"cursors":{"after":"same"}}}`
	if _, err := c.List(ctx, ""); KindOf(err) != Failed {
		t.Errorf("a listing that does not advance: %v", err)
	}
}

// The base URL is honoured exactly: host, path, with or without the slash.
func TestTheBaseURLIsHonoured(t *testing.T) {
	for base, want := range map[string]string{
		"":                              "https://api.cloudflare.com/client/v4/accounts/account/storage/kv/namespaces/namespace/",
		"https://kv.example/client/v4":  "https://kv.example/client/v4/accounts/account/storage/kv/namespaces/namespace/",
		"https://kv.example/client/v4/": "https://kv.example/client/v4/accounts/account/storage/kv/namespaces/namespace/",
		"http://127.0.0.1:8787":         "http://127.0.0.1:8787/accounts/account/storage/kv/namespaces/namespace/",
	} {
		var asked []string
		transport := roundTrip(func(r *http.Request) (*http.Response, error) {
			asked = append(asked, r.Method+" "+r.URL.String())
			if r.Header.Get("Authorization") != "Bearer "+secret {
				t.Errorf("authorization is %q", r.Header.Get("Authorization"))
			}
			return respond(r, 200, `{"success":true}`), nil
		})
		c, err := NewCloudflare(CloudflareConfig{AccountID: "account", NamespaceID: "namespace", Token: secret, BaseURL: base, HTTPClient: &http.Client{Transport: transport}})
		if err != nil {
			t.Fatal(err)
		}
		rested(c.budget)
		c.Put(t.Context(), []Value{{Key: "a"}})
		c.Get(t.Context(), []Entry{{Key: "a"}}, nil)
		c.List(t.Context(), "p:")
		c.Delete(t.Context(), []Entry{{Key: "a"}})
		if wanted := []string{"PUT " + want + "bulk", "POST " + want + "bulk/get", "GET " + want + "keys?prefix=p%3A", "POST " + want + "bulk/delete"}; !slices.Equal(asked, wanted) {
			t.Errorf("base %q: asked %v, want %v", base, asked, wanted)
		}
	}
}
