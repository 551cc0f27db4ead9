package crdt

// LevelAt is the level that the bucket would have at reading r; it changes nothing.
func (b *Bucket) LevelAt(t *Terms, r Instant) Milli {
	c := *b // shares the slots, which Advance does not touch
	c.Advance(t, r)
	return c.Level(t)
}
