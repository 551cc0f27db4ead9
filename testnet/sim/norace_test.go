//go:build !race

package sim_test

const smallSeeds, bigClusters = 200, 3
