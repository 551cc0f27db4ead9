package alerts

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// spans are the durations of a rule file: windows, for, interval and what is promised.
var spans = regexp.MustCompile(`(\[|\b(?:for|interval|promised): )(\d\w*)`)

// ages are thresholds that are a span of time, too, in seconds. What is compared with a node's own
// interval (snapshots, reconciles) scales with the node's configuration.
var ages = []*regexp.Regexp{
	regexp.MustCompile(`(min_over_time\(openclaw_replication_lag_seconds\[\w+\]\) > )(\d+)`),
	regexp.MustCompile(`(max_over_time\(openclaw_exporter_last_poll_timestamp_seconds\[\w+\]\) < )(\d+)`),
}

// Scaled are the rule files by name, for a world that goes factor times as fast: windows, for,
// intervals, promises and thresholds of age are divided by it. Rates, shares and counts stay as they
// are, as traffic does.
func Scaled(factor float64) (map[string]string, error) {
	names, err := fs.Glob(Rules, "rules/*.yml")
	if err != nil {
		return nil, fmt.Errorf("alerts: %w", err)
	}
	all := make(map[string]string)
	for _, name := range names {
		text, err := Rules.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("alerts: %w", err)
		}
		if all[path.Base(name)], err = scale(string(text), factor); err != nil {
			return nil, fmt.Errorf("alerts: %s: %w", name, err)
		}
	}
	return all, nil
}

func scale(text string, factor float64) (_ string, err error) {
	text = spans.ReplaceAllStringFunc(text, func(at string) string {
		lead := strings.TrimRight(at, "0123456789smhd")
		d, bad := time.ParseDuration(strings.Replace(at[len(lead):], "1d", "24h", 1))
		if bad != nil {
			err = bad
		}
		return lead + strconv.FormatInt(max(time.Duration(float64(d)/factor).Milliseconds(), min(1, d.Milliseconds())), 10) + "ms"
	})
	for _, age := range ages {
		text = age.ReplaceAllStringFunc(text, func(at string) string {
			m := age.FindStringSubmatch(at)
			seconds, bad := strconv.ParseFloat(m[2], 64)
			if bad != nil {
				err = bad
			}
			return m[1] + strconv.FormatFloat(seconds/factor, 'f', -1, 64)
		})
	}
	return text, err
}
