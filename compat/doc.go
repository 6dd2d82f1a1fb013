// Package compat drives the built binary with real clients, real kills, real power cuts and garbage. Its tests need no
// more than Go; a test of a foreign client skips, saying so, where that client is missing, unless QUORLOG_REQUIRE_CLIENTS
// is set, as .ci/run does.
package compat
