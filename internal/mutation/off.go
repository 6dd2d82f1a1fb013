//go:build !quorlog_mutations

package mutation

// Possible tells whether bugs can be planted in this build.
const Possible = false

// On reports whether a bug is planted: never.
func On(Name) bool { return false }
