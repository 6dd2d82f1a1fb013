package conn

import "time"

// Limits bound what connections may cost. Zero fields have their defaults.
type Limits struct {
	// MaxFrame is the greatest request of an open connection in bytes (socket.request.max.bytes).
	MaxFrame int
	// MaxGatedFrame is the same for a connection that has yet to authenticate.
	MaxGatedFrame int
	// MaxInFlight and MaxInFlightBytes bound the unanswered requests of one connection. One request may always be in
	// flight, however large. Beyond, the connection is not read from.
	MaxInFlight      int
	MaxInFlightBytes int
	// MaxRequestMemory bounds the unanswered requests of all connections together, in bytes; requests of at most 4 KiB are
	// not counted. It is raised to MaxFrame if it is below. See requestMemory for who gives way when it is short.
	MaxRequestMemory int64

	// MaxConnections and MaxConnectionsPerIP refuse connections (max.connections, max.connections.per.ip).
	MaxConnections      int
	MaxConnectionsPerIP int
	// AcceptRate delays the accepting of more connections in a second than this (max.connection.creation.rate). As many at
	// once are let in without delay.
	AcceptRate int

	// FirstByte is the time that a new connection has for its first byte.
	FirstByte time.Duration
	// Authenticate is the time that a connection has to authenticate, where it must.
	Authenticate time.Duration
	// Partial is the time for each step of a frame that has begun: its length, its first 64 KiB, then each MiB.
	Partial time.Duration
	// Idle is the time without request or answer after which a connection is closed (connections.max.idle.ms).
	Idle time.Duration
	// Write is the time for each MiB of an answer, and for what is left of it.
	Write time.Duration
}

// Defaults of Limits.
const (
	defaultMaxFrame         = 100 << 20 // Kafka's; also keeps a frame's first byte below 0x07, by which ports are shared
	defaultMaxGatedFrame    = 16 << 10  // an ApiVersions or SASL message has at most a few KiB
	defaultMaxInFlight      = 16        // Java clients send 5 at once, which is the most that idempotence allows
	defaultMaxInFlightBytes = 32 << 20
	defaultMaxRequestMemory = 256 << 20
	defaultMaxConnections   = 10_000 // about 120 MiB when idle
	defaultMaxPerIP         = 2_000  // many clients may stand behind one address translator
	defaultAcceptRate       = 1_000
	defaultFirstByte        = 3 * time.Second
	defaultAuthenticate     = 10 * time.Second
	defaultPartial          = 30 * time.Second
	defaultIdle             = 10 * time.Minute
	defaultWrite            = 30 * time.Second
)

// exemptFrame is the greatest request that does not count against MaxRequestMemory. With defaults, 10,000 connections could
// hold 625 MiB of them, if each pipelined 16 that none of the handlers answers.
const exemptFrame = 4 << 10

// withDefaults fills in the defaults.
func (l Limits) withDefaults() Limits {
	orDefault(&l.MaxFrame, defaultMaxFrame)
	orDefault(&l.MaxGatedFrame, defaultMaxGatedFrame)
	orDefault(&l.MaxInFlight, defaultMaxInFlight)
	orDefault(&l.MaxInFlightBytes, defaultMaxInFlightBytes)
	orDefault(&l.MaxRequestMemory, defaultMaxRequestMemory)
	orDefault(&l.MaxConnections, defaultMaxConnections)
	orDefault(&l.MaxConnectionsPerIP, defaultMaxPerIP)
	orDefault(&l.AcceptRate, defaultAcceptRate)
	orDefault(&l.FirstByte, defaultFirstByte)
	orDefault(&l.Authenticate, defaultAuthenticate)
	orDefault(&l.Partial, defaultPartial)
	orDefault(&l.Idle, defaultIdle)
	orDefault(&l.Write, defaultWrite)
	l.MaxRequestMemory = max(l.MaxRequestMemory, int64(l.MaxFrame))
	l.MaxGatedFrame = min(l.MaxGatedFrame, l.MaxFrame)
	return l
}

func orDefault[T int | int64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}
