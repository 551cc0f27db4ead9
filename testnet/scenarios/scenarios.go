// Package scenarios is the stories that every change to the cluster has to survive.
package scenarios

import "embed"

// Files is the scenarios, as NAME.txt.
//
//go:embed *.txt
var Files embed.FS
