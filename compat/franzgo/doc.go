// Package franzgo runs franz-go's own tests of its client, compiled from the module that go.mod names, against a cluster of
// three processes, and holds the results against an explicit list of tests that do not pass, each with its reason. A test
// that is expected not to pass and does fails the run as well: what lands shortens the list.
//
//	results.go  reads the results and compares them
package franzgo
