//go:build race

package node

// raced: the race detector is on, and everything some ten times slower.
const raced = true
