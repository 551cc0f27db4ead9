package node

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// adminGate lets an operator through to /-/: whoever has the bearer token, when there is
// one; else whoever is on this machine.
type adminGate struct {
	env    string   // the token's variable; "": loopback peers only
	digest [32]byte // of the token: comparing digests tells no length
	origin *http.CrossOriginProtection
}

func newAdminGate(env string) (adminGate, error) {
	g := adminGate{env: env, origin: http.NewCrossOriginProtection()}
	if env == "" {
		return g, nil
	}
	token := os.Getenv(env)
	if token == "" {
		return g, fmt.Errorf("admin.token_env names %s, which is empty; set it, or leave admin out to admit loopback peers only", env)
	}
	g.digest = sha256.Sum256([]byte(token))
	return g, nil
}

// check returns nil or the refusal. Behind a proxy on this machine every peer is on
// loopback, so a forwarded request is not; nor is one that a web page made a browser send.
func (g *adminGate) check(r *http.Request) *Refusal {
	if g.env != "" {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		digest := sha256.Sum256([]byte(token))
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(digest[:], g.digest[:]) == 0 {
			return &Refusal{http.StatusUnauthorized, "send Authorization: Bearer TOKEN, with the token that this node has in " + g.env}
		}
		return nil
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	local := err == nil && peer.Addr().IsLoopback()
	if !local || r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("Forwarded") != "" {
		return &Refusal{http.StatusForbidden, "only from this machine, and not through a proxy; to operate from elsewhere, set admin.token_env in the config"}
	}
	if err := g.origin.Check(r); err != nil {
		return &Refusal{http.StatusForbidden, "not from a web page of another origin"}
	}
	return nil
}

func (s *server) guarded(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request, rest string) int {
		if no := s.admin.check(r); no != nil {
			if no.Status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", "Bearer")
			}
			return problem(w, no.Status, no.Detail)
		}
		return h(w, r, rest)
	}
}

// reloadFile is POST /-/reload.
func (s *server) reloadFile(w http.ResponseWriter, _ *http.Request, _ string) int {
	version, err := s.reload.now("POST /-/reload")
	switch {
	case errors.Is(err, errNoFile):
		return problem(w, http.StatusConflict, err.Error())
	case err != nil: // the file is at fault, not the request
		return problem(w, http.StatusUnprocessableEntity, "the limits in force stay; mend the file: "+err.Error())
	}
	return reply(w, http.StatusOK, map[string]any{"reloaded": true, "version": version})
}

// refill is POST /-/refill?paused=true: the drill of the alerting guide.
func (s *server) refill(w http.ResponseWriter, r *http.Request, _ string) int {
	paused, given, err := truth(r, "paused")
	if err == nil && !given {
		err = badRequest("write ?paused=true or ?paused=false")
	}
	if err != nil {
		return s.refuse(w, err)
	}
	s.node.SetRefillPaused(paused)
	s.log.Warn("operator: refill", "paused", paused, "peer", r.RemoteAddr)
	return reply(w, http.StatusOK, map[string]bool{"refill_paused": paused})
}

// forget is POST /-/forget/{node}?force=true.
func (s *server) forget(w http.ResponseWriter, r *http.Request, rest string) int {
	node, err := pathText(r, rest)
	if err != nil || !label.MatchString(node) {
		return s.refuse(w, badRequest("the path ends in a node's name; GET /v1/cluster lists them"))
	}
	force, _, err := truth(r, "force")
	if err == nil {
		err = s.node.Forget(node, force)
	}
	if err != nil {
		return s.refuse(w, err)
	}
	s.log.Warn("operator: forget", "member", node, "force", force, "peer", r.RemoteAddr)
	return reply(w, http.StatusOK, map[string]string{"forgotten": node})
}

// failover is POST /-/failover: ?on=true or false, or what Alertmanager sends to a webhook
// (version 4). An alert that fires turns the backup buckets on, all of them resolved off.
func (s *server) failover(w http.ResponseWriter, r *http.Request, _ string) int {
	on, given, err := truth(r, "on")
	if err == nil && !given {
		on, err = readWebhook(w, r)
	}
	if err != nil {
		return s.refuse(w, err)
	}
	s.node.SetFailover(on)
	s.log.Warn("operator: failover", "on", on, "peer", r.RemoteAddr)
	return reply(w, http.StatusOK, map[string]bool{"failover": on})
}

func readWebhook(w http.ResponseWriter, r *http.Request) (firing bool, err error) {
	body, err := readBody(w, r)
	if err != nil {
		return false, err
	}
	var hook struct {
		Version string `json:"version"`
		Alerts  []struct {
			Status string `json:"status"`
		} `json:"alerts"`
	}
	if err := json.Unmarshal(body, &hook); err != nil || hook.Version != "4" || len(hook.Alerts) == 0 {
		return false, badRequest("write ?on=true or ?on=false, or send an Alertmanager webhook of version 4 with its alerts")
	}
	for _, a := range hook.Alerts {
		switch a.Status {
		case "firing":
			firing = true
		case "resolved":
		default:
			return false, badRequest(fmt.Sprintf("an alert with the status %q; it is firing or resolved", a.Status))
		}
	}
	return firing, nil
}

// snapshot is POST /-/snapshot: a round now. 200 means that everything up to the request is stored.
func (s *server) snapshot(w http.ResponseWriter, r *http.Request, _ string) int {
	ctx, cancel := context.WithTimeout(r.Context(), snapshotTimeout)
	defer cancel()
	if err := s.node.Snapshot(ctx); err != nil {
		return problem(w, http.StatusServiceUnavailable, err.Error())
	}
	return reply(w, http.StatusOK, map[string]any{"stored": true, "store": s.node.storeState()})
}

// truth reads true or false from the query.
func truth(r *http.Request, name string) (value, given bool, err error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return false, false, badRequest("the query cannot be read: " + err.Error())
	}
	text, given := query[name]
	if !given {
		return false, false, nil
	}
	if len(text) == 1 && (text[0] == "true" || text[0] == "false") {
		value, _ = strconv.ParseBool(text[0])
		return value, true, nil
	}
	return false, true, badRequest("write ?" + name + "=true or ?" + name + "=false")
}
