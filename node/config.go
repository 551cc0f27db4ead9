package node

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/openclaw/edge/crdt"
)

// Config is everything that flags, environment and file say about a node. Start from
// DefaultConfig or ReadConfig: the zero value of most fields is not their default.
type Config struct {
	Node    string // stable name, unique in the cluster; it survives restarts
	Region  string
	Cluster string // label: clusters of different labels never mix

	HTTP        string // HOST:PORT of the API; port 0 picks a free one, here and below
	GRPC        string
	Gossip      string
	Advertise   string // HOST:PORT that peers reach us at; "" means what Gossip is bound to
	MetricsPort int    // on the host of HTTP
	Join        []string
	DataDir     string // "": keep nothing on disk (no lock, no addresses.json)

	File          string // "": built-in limits, nothing to reload
	Limits        []crdt.Definition
	LimitsVersion uint64 // 0 with the built-in limits: any file in the cluster wins over them

	GossipKeys  [][]byte      // first one encrypts, all decrypt; none: plain text
	Doubt       time.Duration // how far the others' parts of the refill clock are extrapolated; more: smoother, but more granted in a cut
	Lease       time.Duration // unheard for so long, a peer is unreachable; less: cuts show sooner, and slow links look like cuts
	RoundRegion time.Duration // between frames to a peer in this region; less: fresher counts, more packets
	RoundWAN    time.Duration // the same, to other regions

	Tick time.Duration // of the refill daemon, default 0: 5 to 20 ms, as the limits need it; more: coarser refill, less work

	Persist Persist

	TrustedProxies []netip.Prefix // whose X-Forwarded-For tells /v1/check the client's address
	LegacyHeaders  bool           // X-RateLimit-Limit, -Remaining and -Reset too; costs three header lines an answer

	TLS   TLS
	Envoy map[string][]EnvoyRule // by domain; a descriptor goes by the first that matches. nil: no section

	RatingsLimit string // the limit that votes take from; it need not be in force until somebody rates

	AdminTokenEnv string // variable that holds the bearer token of /-/; "": loopback peers only

	Logger    *slog.Logger    // nil: slog.Default()
	Started   func(Addresses) // called once, when everything listens; may be nil
	Transport memberlist.NodeAwareTransport
	stores    *stores      // tests: in the place of those that Persist names
	kvClient  *http.Client // tests: calls KV, in the place of sockets
	NoListen  bool         // tests: no HTTP and metrics listeners (and Transport: no gossip sockets)

	// WallAhead is for testnets: how far this node's wall clock is ahead of the machine's.
	// Everything that peers, stores and the next start are told of the time goes by it.
	WallAhead time.Duration
}

// DefaultConfig is a node on loopback with the built-in limits.
func DefaultConfig() Config {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "edge-1"
	}
	return Config{
		Node: host, Region: "default", Cluster: "openclaw",
		HTTP: "127.0.0.1:8080", GRPC: "127.0.0.1:8081", Gossip: "127.0.0.1:7946", MetricsPort: 9100,
		DataDir: "./openclaw-data", Limits: builtinLimits(),
		Doubt: 600 * time.Millisecond, Lease: 3 * time.Second,
		RoundRegion: 50 * time.Millisecond, RoundWAN: 200 * time.Millisecond,
		Persist: defaultPersist(), TrustedProxies: loopback(), RatingsLimit: "per-user",
	}
}

const defaultMaxBuckets = 1_000_000

func builtinLimits() []crdt.Definition {
	limit := func(name string, capacity int64, rate, key string) crdt.Definition {
		r, err := crdt.ParseRate(rate)
		if err != nil {
			panic(err) // a constant of this function
		}
		return crdt.Definition{Name: name, Capacity: crdt.Milli(capacity) * crdt.Token, Rate: r,
			MaxBuckets: defaultMaxBuckets, Key: key}
	}
	return []crdt.Definition{
		limit("per-user", 100, "10", "header=X-User-ID"),
		limit("per-ip", 300, "30", "ip"),
		limit("per-api-key", 10_000, "10000/m", "header=Authorization,hash"),
	}
}

// label is the shape of node, region and cluster names: they appear in metrics, headers,
// store keys and paths.
var label = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,128}$`)

const labelHelp = "write 1 to 128 letters, digits, '.', '_' or '-'"

// Check tells what is wrong with the settings that flags can give, and the flag that
// mends it. What a file says has been checked when it was read, with line and column.
func (c *Config) Check() error {
	for _, name := range []struct{ flag, text string }{{"node", c.Node}, {"region", c.Region}} {
		if !label.MatchString(name.text) {
			return fmt.Errorf("--%s %q: %s", name.flag, name.text, labelHelp)
		}
	}
	for _, addr := range []struct{ flag, text string }{
		{"http", c.HTTP}, {"grpc", c.GRPC}, {"gossip", c.Gossip}, {"advertise", c.Advertise},
	} {
		if err := checkAddr(addr.text); err != nil && !(addr.flag == "advertise" && addr.text == "") {
			return fmt.Errorf("--%s %q: %w", addr.flag, addr.text, err)
		}
	}
	for _, addr := range c.Join {
		if err := checkAddr(addr); err != nil {
			return fmt.Errorf("--join %q: %w", addr, err)
		}
	}
	if c.MetricsPort < 0 || c.MetricsPort > 65535 {
		return fmt.Errorf("--metrics-port %d: write 0 (any free port) to 65535", c.MetricsPort)
	}
	return nil
}

func checkAddr(text string) error {
	_, port, err := net.SplitHostPort(text)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("write HOST:PORT, such as edge-2.example:7946")
	}
	return nil
}
