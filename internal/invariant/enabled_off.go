//go:build !race && !quorlog_checks

package invariant

// Enabled is whether the expensive checks run too: with the race detector or the build tag quorlog_checks. The compiler
// drops what stands behind it otherwise.
const Enabled = false
