// Package auth decides who callers are and what they may do.
//
// Who they are: a [SASL] for each listener with SASL, over the one [Directory] of the node's users. Kafka clients log in by SCRAM
// or PLAIN (a [Login] for each connection); what comes by gRPC or HTTP shows a password with each request ([SASL.Basic]). A stranger
// is told the same, after the same time, whatever was wrong. [Users] changes them.
//
// Access control has two authorizers, each a broker.Authorizer. [ACLs] decides by the rules that the controller keeps, through
// an immutable index for each version of them; [Casbin] by files that a node is started with. Both deny what nothing allows,
// and remember decisions in a cache that lives and dies with its policy. Nothing of this starts a goroutine.
package auth
