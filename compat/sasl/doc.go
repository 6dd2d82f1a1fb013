// Package sasl runs real clients against live nodes whose listeners have SASL: by SCRAM, by PLAIN over TLS, with wrong passwords,
// and while logins expire.
package sasl
