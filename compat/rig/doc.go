// Package rig holds what the tests of compat's subfolders share: how much they do by default, in CI and in full, how they
// wait, what "the cluster is whole again" means, and how foreign clients are found.
//
// It starts no goroutine.
package rig
