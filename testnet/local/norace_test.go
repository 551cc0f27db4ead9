//go:build !race

package local_test

// leastOffered is of 10,000 takes in five seconds.
const leastOffered = 9500
