package judge

import "time"

// Course is what came of a limit, all its keys together, up to each of some times, which are in
// order: the tokens admitted, backups aside, and those that ideal buckets would have admitted.
func (o *Observed) Course(limit string, times []time.Duration) (admitted, ideal []int64) {
	admitted, ideal = make([]int64, len(times)), make([]int64, len(times))
	if len(times) == 0 {
		return admitted, ideal
	}
	for id, takes := range o.Takes {
		if id.Limit != limit {
			continue
		}
		bucket, i := o.Limits[limit].dated(), 0
		for _, t := range takes {
			for i < len(times) && times[i] < t.At {
				i++
			}
			if i == len(times) {
				break
			}
			if t.Admitted && !t.Backup {
				admitted[i] += t.Cost
			}
			if bucket.take(t.At, t.Cost) {
				ideal[i] += t.Cost
			}
		}
	}
	for i := 1; i < len(times); i++ { // so far each has what came since the one before
		admitted[i] += admitted[i-1]
		ideal[i] += ideal[i-1]
	}
	return admitted, ideal
}
