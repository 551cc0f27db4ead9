package persist

import "errors"

// groups cuts items, in order, into runs of at most count items that weigh at most weight
// together; one that is heavier alone stands alone.
func groups[T any](items []T, weigh func(T) int, count, weight int) [][]T {
	var all [][]T
	from, sum := 0, 0
	for i, item := range items {
		w := weigh(item)
		if i > from && (i-from == count || sum+w > weight) {
			all = append(all, items[from:i])
			from, sum = i, 0
		}
		sum += w
	}
	if from < len(items) {
		all = append(all, items[from:])
	}
	return all
}

// inGroups does do for every group, and tells of the outcome as Store.Put promises. do returns
// the keys that it was not done for, or the error of the whole group; a fromEach ends all, and
// what it holds is returned.
//
// A group that is Rejected may have one bad key only: it is halved, splits times in all. Any
// other error of a group ends the call: what failed thrice for one group will fail for the next.
func inGroups[T any](work [][]T, name func(T) string, failed map[string]*Error, splits int, do func([]T) (map[string]*Error, error)) error {
	done := 0
	for len(work) > 0 {
		group := work[0]
		work = work[1:]
		some, err := do(group)
		var (
			e    *Error
			each *fromEach
		)
		switch {
		case errors.As(err, &each):
			return each.error
		case err == nil:
			for key, e := range some {
				failed[key] = e
			}
			done += len(group) - len(some)
			continue
		case !errors.As(err, &e):
			return err
		case e.Kind == Rejected && len(group) > 1 && splits > 0:
			splits--
			half := len(group) / 2
			work = append([][]T{group[:half], group[half:]}, work...)
			continue
		}
		if done == 0 && len(failed) == 0 && e.Kind != Rejected && !errors.Is(e, errKeyRate) {
			return e
		}
		for _, item := range group {
			failed[name(item)] = e
		}
		if e.Kind == Rejected || errors.Is(e, errKeyRate) {
			continue
		}
		rest := *e
		if rest.Kind == Unknown {
			rest.Kind = Failed // these were not sent
		}
		for _, group := range work {
			for _, item := range group {
				failed[name(item)] = &rest
			}
		}
		break
	}
	if len(failed) > 0 {
		return &Partial{Keys: failed}
	}
	return nil
}

// fromEach is an error of the function that a Get was given: maybe an *Error too, of another
// store.
type fromEach struct{ error }
