//go:build !race

// Envoy's messages are sixty packages: once is enough for them to be compiled, without the race
// detector, which has nothing to find here.

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ratelimit/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	managerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"github.com/goccy/go-yaml"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/openclaw/edge/node"
)

// uncomment is the commented block that begins with the line first, without what stands before
// it on each line.
func uncomment(t *testing.T, text, first string) (block string) {
	t.Helper()
	for line := range strings.Lines(text) {
		margin := len(line) - len(strings.TrimLeft(line, " #"))
		switch {
		case block == "" && strings.TrimSpace(line[margin:]) == first && strings.Contains(line[:margin], "#"):
			block = line[margin:]
			text = line[:margin]
		case block != "" && !strings.HasPrefix(line, text+" "):
			return block
		case block != "":
			block += line[len(text):]
		}
	}
	if block == "" {
		t.Fatalf("no comment with %q", first)
	}
	return block
}

// envoyConfig reads an Envoy configuration as Envoy does: YAML, to JSON, to its own messages, with
// no unknown field, and every constraint that they declare.
func envoyConfig(t *testing.T, text string) *bootstrapv3.Bootstrap {
	t.Helper()
	var config bootstrapv3.Bootstrap
	json, err := yaml.YAMLToJSON([]byte(text))
	if err == nil {
		err = protojson.Unmarshal(json, &config)
	}
	if err == nil {
		err = config.ValidateAll()
	}
	if err != nil {
		t.Fatal(err)
	}
	return &config
}

// There is no Envoy to be had for a test; its messages are.
func TestTheEnvoyConfigurationIsOne(t *testing.T) {
	text := deployed(t, "envoy.yaml")
	config := envoyConfig(t, text)
	tls := strings.ReplaceAll("\n"+uncomment(t, text, "transport_socket:"), "\n", "\n      ")
	envoyConfig(t, text+tls)

	// What Envoy does not check when it reads it: everything that it names is there.
	clusters := map[string]bool{}
	for _, c := range config.StaticResources.Clusters {
		clusters[c.Name] = true
		for _, any := range c.TypedExtensionProtocolOptions {
			valid(t, any.UnmarshalNew)
		}
	}
	var manager managerv3.HttpConnectionManager
	if err := config.StaticResources.Listeners[0].FilterChains[0].Filters[0].GetTypedConfig().UnmarshalTo(&manager); err != nil {
		t.Fatal(err)
	}
	var filter ratelimitv3.RateLimit
	if err := manager.HttpFilters[0].GetTypedConfig().UnmarshalTo(&filter); err != nil {
		t.Fatal(err)
	}
	for _, m := range []interface{ ValidateAll() error }{&manager, &filter} {
		if err := m.ValidateAll(); err != nil {
			t.Error(err)
		}
	}
	if c := filter.RateLimitService.GrpcService.GetEnvoyGrpc().ClusterName; !clusters[c] {
		t.Errorf("no cluster %q", c)
	}
	rules := edgeRules(t, text)[filter.Domain]
	if len(rules) == 0 {
		t.Fatalf("no rules for the domain %q", filter.Domain)
	}
	for _, host := range manager.GetRouteConfig().VirtualHosts {
		for _, route := range host.Routes {
			if c := route.GetRoute().GetCluster(); !clusters[c] {
				t.Errorf("no cluster %q", c)
			}
			for _, limit := range route.GetRoute().RateLimits {
				if d := shape(limit); !matched(rules, d) {
					t.Errorf("no rule for the descriptor %v", d)
				}
			}
		}
	}
}

func valid(t *testing.T, unpack func() (proto.Message, error)) {
	t.Helper()
	m, err := unpack()
	if err == nil {
		err = m.(interface{ ValidateAll() error }).ValidateAll()
	}
	if err != nil {
		t.Error(err)
	}
}

// edgeRules is the node's section envoy, as the comment has it.
func edgeRules(t *testing.T, text string) map[string][]node.EnvoyRule {
	t.Helper()
	limits := "limits:\n"
	for _, name := range []string{"logins", "per-user", "per-ip"} {
		limits += "- {name: " + name + ", capacity: 10, refill_rate: 1}\n"
	}
	path := filepath.Join(t.TempDir(), "edge.yaml")
	if err := os.WriteFile(path, []byte(limits+uncomment(t, text, "envoy:")), 0o644); err != nil {
		t.Fatal(err)
	}
	c, _, err := node.ReadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	return c.Envoy
}

// shape is the descriptor that Envoy makes of a rate limit: "?" for what a request says.
func shape(limit *routev3.RateLimit) (d []node.EnvoyEntry) {
	for _, a := range limit.Actions {
		switch {
		case a.GetGenericKey() != nil:
			d = append(d, node.EnvoyEntry{Key: a.GetGenericKey().DescriptorKey, Value: a.GetGenericKey().DescriptorValue})
		case a.GetRequestHeaders() != nil:
			d = append(d, node.EnvoyEntry{Key: a.GetRequestHeaders().DescriptorKey, Value: "?"})
		case a.GetRemoteAddress() != nil:
			d = append(d, node.EnvoyEntry{Key: "remote_address", Value: "?"})
		}
	}
	return d
}

func matched(rules []node.EnvoyRule, d []node.EnvoyEntry) bool {
	for _, r := range rules {
		fits := len(r.Match) == len(d)
		for i := range d {
			fits = fits && r.Match[i].Key == d[i].Key && (r.Match[i].Value == "" || r.Match[i].Value == d[i].Value)
		}
		if fits {
			return true
		}
	}
	return false
}
