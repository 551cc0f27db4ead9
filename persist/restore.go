package persist

import "context"

// Restore joins what all stores hold into the state, reading them at once: never the first
// that answers. It returns when all have been read or ctx has ended; what was joined by then
// counts, and the error names each store that was not read fully. Run reads on: such stores
// until they have answered, lagging ones until they have shown their newest. Call it once,
// before Run.
func (h *Hybrid) Restore(ctx context.Context) (Restored, error) { panic("todo") }
