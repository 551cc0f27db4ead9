package process

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/openclaw/edge/persist"
)

// strange is a value that a node finds in a store and cannot use.
type strange struct {
	key    string
	data   []byte
	reason string
}

// strangers makes one of each kind from a segment that would be good, of a node that nobody knows.
func strangers(t *testing.T, node string) (all []strange) {
	t.Helper()
	made := func(name, cluster string) (string, []byte) {
		s := persist.Segment{Name: name, Cluster: cluster, Node: node, Incarnation: 7, Sequence: 3, Time: time.Now(), Clock: []byte("clock"), Payload: []byte("payload")}
		data, err := s.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return persist.SegmentKey("rating_bucket", &s), data
	}
	key, data := made("01", "openclaw")
	data[len(data)/2] ^= 1
	all = append(all, strange{key, data, "damaged"})
	key, data = made("02", "openclaw")
	all = append(all, strange{key, data[:len(data)-3], "damaged"})
	key, data = made("03", "openclaw")
	data[4] = 2 // the format
	body := data[:len(data)-8]
	all = append(all, strange{key, binary.BigEndian.AppendUint64(slices.Clone(body), xxhash.Sum64(body)), "newer"})
	key, data = made("04", "another")
	all = append(all, strange{key, data, "cluster"})
	_, data = made("05", "openclaw")
	all = append(all, strange{"rating_bucket:05:" + node + ":0000000000000008", data, "key"})
	_, data = made("06", "openclaw")
	return append(all, strange{"rating_bucket:99:" + node + ":0000000000000007", data, "key"})
}

// What a node cannot use of what it finds, it skips, keeps, counts and names; it starts all the
// same, has everything else, and deletes none of it from the store.
func TestStrangeValuesAreKeptAside(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteOptions{})
	s.offer(60)
	time.Sleep(time.Second)
	s.load.Stop()
	s.settled()
	s.stored(10 * time.Second)
	s.loseAll()
	inKV, inRedis := strangers(t, "edge-8"), strangers(t, "edge-9")
	s.put(inKV)
	for i, v := range inRedis {
		if err := s.redis.Do("HSET", v.key, "v", fmt.Sprintf("%020d", 3+i), "d", v.data); err != nil {
			t.Fatal(err)
		}
	}
	s.reborn(0)
	for _, n := range s.nodes {
		logs, metrics := n.Logs(), s.metrics(n)
		kept, _ := filepath.Glob(filepath.Join(n.Dir, "aside", "*"))
		counts := map[string]float64{}
		for _, v := range append(inKV, inRedis...) {
			counts[v.reason]++
			if !strings.Contains(logs, v.key) {
				t.Errorf("%s's log does not name %s", n.Node, v.key)
			}
			if !slices.ContainsFunc(kept, func(file string) bool {
				held, err := os.ReadFile(file)
				return err == nil && bytes.Equal(held, v.data)
			}) {
				t.Errorf("%s has not kept what was under %s (%s)", n.Node, v.key, v.reason)
			}
		}
		for reason, want := range counts {
			if got := metrics[fmt.Sprintf(`openclaw_store_set_aside_total{reason=%q}`, reason)]; got != want {
				t.Errorf("%s counts %.0f set aside as %s, want %.0f", n.Node, got, reason, want)
			}
		}
	}
	s.stored(15 * time.Second)
	time.Sleep(4 * time.Second) // a reconcile
	there := s.kv.Dump()
	for _, v := range inKV {
		if string(there[v.key].Value) != base64.StdEncoding.EncodeToString(v.data) {
			t.Errorf("%s has been changed in KV", v.key)
		}
	}
	for _, v := range inRedis {
		if held, err := s.redis.Ask("HGET", v.key, "d"); err != nil || held != string(v.data) {
			t.Errorf("%s has been changed in Redis (%v)", v.key, err)
		}
	}
}

// put brings values to KV past the nodes.
func (s *site) put(values []strange) {
	s.t.Helper()
	type pair struct {
		Key      string            `json:"key"`
		Value    []byte            `json:"value"`
		Metadata map[string]string `json:"metadata"`
	}
	var pairs []pair
	for _, v := range values {
		pairs = append(pairs, pair{v.key, v.data, map[string]string{"v": "3"}})
	}
	body, err := json.Marshal(pairs)
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequest("PUT", "http://"+s.doors[0].addr+"/client/v4/accounts/account/storage/kv/namespaces/namespace/bulk", bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+kvSecret)
	resp, err := s.asker.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		s.t.Fatalf("KV answers %d", resp.StatusCode)
	}
}
