// Package tls runs real clients against live nodes whose listeners have TLS: clients of several makes, with and without certificates
// of their own, on several listeners, with what their certificates may; while certificates and authorities are replaced; and
// while a cluster goes over to TLS.
package tls
