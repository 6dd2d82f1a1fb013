// Package native tests the gRPC and HTTP/JSON API of a running cluster: that it and Kafka's protocol are two doors to the same
// data, under the same rules.
package native
