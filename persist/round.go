package persist

import "context"

// Run makes a round every Config.Every, reconciles, and reads again what a store may not have
// shown at Restore, until ctx ends; it returns after its last piece of work. Call it once,
// after Restore. A failing store never ends it.
func (h *Hybrid) Run(ctx context.Context) error { panic("todo") }

// Snapshot makes a round now: on nil, everything that was changed before the call is stored.
// It waits for the piece of work at hand, and works beside Run, before it and after it. A
// deadline in ctx is shared out, so that a store that hangs leaves time for the next.
func (h *Hybrid) Snapshot(ctx context.Context) error { panic("todo") }
