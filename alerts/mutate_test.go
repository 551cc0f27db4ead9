package alerts

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// mutate changes one thing of a rule at a time.
func mutate(r rule) (all []mutant) {
	add := func(what, expr, wait string) {
		m := mutant{rule: r, what: what}
		m.Expr, m.For = expr, wait
		if !slices.ContainsFunc(all, func(o mutant) bool { return o.what == what }) {
			all = append(all, m)
		}
	}
	add("removed", "", "")
	if r.Alert != "" {
		for _, wait := range slips(r.For) {
			add("for "+wait, r.Expr, wait)
		}
	}
	for _, at := range windows(r.Expr) {
		for _, wider := range slips(at) {
			if wider == "0s" {
				wider = "15s" // a window has to have a width
			}
			add("["+at+"] is ["+wider+"]", strings.ReplaceAll(r.Expr, "["+at+"]", "["+wider+"]"), r.For)
		}
	}
	for _, kind := range []struct {
		at *regexp.Regexp
		to func(string) []string
	}{
		{numbers, slipNumber}, {operators, flip}, {lists, dropEach}, {braces, dropEach},
	} {
		for n, at := range kind.at.FindAllStringSubmatchIndex(r.Expr, -1) {
			from, to := at[2], at[3]
			for _, other := range kind.to(r.Expr[from:to]) {
				what := fmt.Sprintf("%s is %s (%d)", r.Expr[from:to], other, n)
				add(what, r.Expr[:from]+other+r.Expr[to:], r.For)
			}
		}
	}
	return all
}

var (
	numbers   = regexp.MustCompile(`(?:^|[\s(])(\d+(?:\.\d+)?)(?:$|[\s,)])`)
	operators = regexp.MustCompile(`\s(==|!=|<|>|and|unless|or|-)\s`)
	lists     = regexp.MustCompile(`\b(?:on|by|without|group_left) \(([^()]+)\)`)
	braces    = regexp.MustCompile(`\{([^{}]+)\}`)
	window    = regexp.MustCompile(`\[(\w+)\]`)
)

func windows(expr string) (all []string) {
	for _, m := range window.FindAllStringSubmatch(expr, -1) {
		if !slices.Contains(all, m[1]) {
			all = append(all, m[1])
		}
	}
	return all
}

// slips are twice and half of a duration, where half is none if that is less than two scrapes; of
// none, a minute.
func slips(text string) []string {
	if text == "0s" {
		return []string{"1m"}
	}
	d, _ := time.ParseDuration(strings.Replace(text, "1d", "24h", 1)) // rules_test.go has read it
	half := d / 2
	if half < 30*time.Second {
		half = 0
	}
	return []string{fmt.Sprintf("%ds", 2*d/time.Second), fmt.Sprintf("%ds", half/time.Second)}
}

func slipNumber(text string) []string {
	v, _ := strconv.ParseFloat(text, 64) // the pattern's
	if v == 0 {
		return []string{"1"}
	}
	return []string{strconv.FormatFloat(v*1.5, 'g', 6, 64), strconv.FormatFloat(v/1.5, 'g', 6, 64)}
}

func flip(op string) []string {
	return []string{map[string]string{"==": "!=", "!=": "==", "<": ">", ">": "<", "and": "unless", "unless": "and", "or": "and", "-": "+"}[op]}
}

// dropEach leaves one element of a list out at a time.
func dropEach(list string) (all []string) {
	parts := strings.Split(list, ",")
	for i := range parts {
		all = append(all, strings.TrimSpace(strings.Join(slices.Concat(parts[:i], parts[i+1:]), ",")))
	}
	return all
}

// What the mutations reach, by an example: a mutation test that mutates nothing passes.
func TestMutationsReachEverything(t *testing.T) {
	var got []string
	for _, m := range mutate(rule{Alert: "A", For: "1m", Expr: `sum by (job, instance) (rate(x{a="1",b!="2"}[5m])) > 0.2 * on (job) y unless z == 0`}) {
		got = append(got, m.what)
	}
	want := []string{"removed", "for 120s", "for 30s", "[5m] is [600s]", "[5m] is [150s]",
		"0.2 is 0.3 (0)", "0.2 is 0.133333 (0)", "0 is 1 (1)",
		"> is < (0)", "unless is and (1)", "== is != (2)",
		"job, instance is instance (0)", "job, instance is job (0)", "job is  (1)",
		`a="1",b!="2" is b!="2" (0)`, `a="1",b!="2" is a="1" (0)`}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}
