// Command grafana writes the dashboard openclaw-edge.json, which is checked in beside it:
//
//	go run ./alerts/grafana > alerts/grafana/openclaw-edge.json
//
// panels.go says what is shown, this file how Grafana wants to be told. Generated, because
// a dashboard drawn by hand repeats the same two hundred lines for each panel, and they drift apart.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

type object = map[string]any

func main() {
	out := json.NewEncoder(os.Stdout)
	out.SetEscapeHTML(false)
	out.SetIndent("", " ")
	if err := out.Encode(dashboard()); err != nil {
		fmt.Fprintln(os.Stderr, "grafana:", err)
		os.Exit(1)
	}
}

var source = object{"type": "prometheus", "uid": "${datasource}"}

// width is Grafana's; a panel is a share of it.
const width = 24

func dashboard() object {
	var all []object
	x, y, tall := 0, 0, 0
	for i, p := range panels {
		if x+p.width > width {
			x, y, tall = 0, y+tall, 0
		}
		all = append(all, p.object(i+1, object{"x": x, "y": y, "w": p.width, "h": p.height}))
		x, tall = x+p.width, max(tall, p.height)
	}
	return object{
		"uid": "openclaw-edge", "title": "OpenClaw Edge", "tags": []string{"openclaw"},
		"description":   "Refill offered against configured, per node: a partition shows here first. Then who is there, what is taken, and what a crash would lose.",
		"schemaVersion": 39, "version": 1, "editable": true, "graphTooltip": 1, "refresh": "15s", "timezone": "browser",
		"time":       object{"from": "now-1h", "to": "now"},
		"templating": object{"list": variables()}, "panels": all,
		"annotations": object{"list": []object{{
			"name": "Alerts", "enable": true, "iconColor": "red", "datasource": source,
			"expr": `ALERTS{alertname=~"OpenClaw.+",alertstate="firing",severity!="none"}`, "titleFormat": "{{alertname}}", "textFormat": "{{node}} {{bucket}}",
		}}},
		"links": []object{{"title": "Runbook", "type": "link", "targetBlank": true, "url": "https://github.com/openclaw/edge/blob/main/alerts/RUNBOOK.md"}},
	}
}

func variables() []object {
	ask := func(name, label, query string, multi bool) object {
		v := object{
			"name": name, "label": label, "type": "query", "datasource": source, "query": query, "definition": query,
			"refresh": 2, "sort": 1, "multi": multi, "includeAll": multi,
		}
		if multi {
			v["allValue"], v["current"] = ".*", object{"text": "All", "value": "$__all"}
		}
		return v
	}
	return []object{
		{"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
		ask("job", "Cluster (job)", "label_values(openclaw_build_info, job)", false),
		ask("region", "Region", `label_values(openclaw:node:info{job="$job"}, region)`, true),
		ask("node", "Node", `label_values(openclaw:node:info{job="$job",region=~"$region"}, node)`, true),
		ask("bucket", "Bucket", `label_values(openclaw_token_bucket_config_refill_rate{job="$job"}, bucket)`, false),
	}
}

func (p *panel) object(id int, place object) object {
	var targets []object
	for i, q := range p.queries {
		t := object{"refId": string(rune('A' + i)), "datasource": source, "expr": q.expr, "legendFormat": q.legend}
		switch p.kind {
		case "heatmap":
			t["format"] = "heatmap"
		case "stat":
			t["instant"] = true
		}
		targets = append(targets, t)
	}
	o := object{
		"id": id, "type": p.kind, "title": p.title, "description": p.says, "gridPos": place, "datasource": source, "targets": targets,
		"fieldConfig": object{"defaults": p.defaults(), "overrides": p.overrides()},
	}
	switch p.kind {
	case "timeseries":
		o["options"] = object{"legend": object{"displayMode": "list", "placement": "bottom"}, "tooltip": object{"mode": "multi", "sort": "desc"}}
	case "stat":
		o["options"] = object{"colorMode": "background", "graphMode": "none", "reduceOptions": object{"calcs": []string{"lastNotNull"}}}
	case "heatmap":
		o["options"] = object{"calculate": false, "yAxis": object{"unit": "s"}, "color": object{"mode": "scheme", "scheme": "Blues"}}
	}
	return o
}

func (p *panel) defaults() object {
	d := object{"unit": p.unit}
	if p.kind == "timeseries" {
		d["custom"] = object{"lineWidth": 2, "fillOpacity": 4, "showPoints": "never", "spanNulls": false}
	}
	if p.from0 {
		d["min"] = 0
	}
	if p.bad != nil {
		steps := []object{{"color": "green", "value": nil}, {"color": "red", "value": *p.bad}}
		if p.badBelow {
			steps = []object{{"color": "red", "value": nil}, {"color": "green", "value": *p.bad}}
		}
		d["thresholds"] = object{"mode": "absolute", "steps": steps}
	}
	return d
}

// overrides draw what is wanted, or configured, as a dashed line.
func (p *panel) overrides() []object {
	all := []object{}
	for _, q := range p.queries {
		if q.wanted {
			all = append(all, object{
				"matcher": object{"id": "byName", "options": q.legend},
				"properties": []object{
					{"id": "custom.lineStyle", "value": object{"fill": "dash", "dash": []int{8, 6}}},
					{"id": "color", "value": object{"mode": "fixed", "fixedColor": "text"}},
				},
			})
		}
	}
	return all
}
