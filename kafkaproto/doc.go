// Package kafkaproto is the wire protocol below the requests' meaning: frames, headers, error codes, the guard in front of
// the decoder, and the encoding of answers that carry pieces of files.
//
// A request travels through it in this order:
//
//	FrameLength  length prefix checked
//	ReadBody     memory taken as bytes arrive
//	ParseHeader  key, version, correlation id, client id
//	Guard        walks the body against the key's schema and bounds every count in it
//	Decode       Guard, then kmsg, which trusts counts and would otherwise spin or allocate on a lie
//
// Everything here reads bytes of strangers: no content makes it panic, loop for longer than the content is, or allocate
// more than a small multiple of it. The package starts no goroutine and keeps no state.
package kafkaproto
