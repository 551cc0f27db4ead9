//go:build race

package local_test

// The race detector makes all of it some ten times slower.
const leastOffered = 2000
