//go:build race

package sim_test

// The race detector makes all of it some ten times slower.
const smallSeeds, bigClusters = 10, 0
