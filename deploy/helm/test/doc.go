// Package test renders the chart with every Helm that there is, and holds what comes out against Kubernetes' own types: an unknown
// field or a wrong type fails, without a cluster and without downloading schemas.
package test
