//go:build !race

package persist

const freePageRounds = 1000
