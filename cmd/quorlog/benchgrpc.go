package main

import (
	"context"
	"errors"
	"strings"

	native "github.com/quorlog/quorlog/grpcapi/client"
	"github.com/quorlog/quorlog/internal/bench"
)

const benchProduce = "produce"

// nativeProducer is the client of the gRPC API, for one topic.
type nativeProducer struct {
	*native.Client
	topic string
}

// Send implements bench.Producer.
func (p nativeProducer) Send(ctx context.Context, value []byte, done func(error)) {
	err := p.Client.Send(ctx, &native.Record{Topic: p.topic, Value: value}, func(_ *native.Record, err error) { done(err) })
	if err != nil {
		done(err)
	}
}

// producers makes the clients of a benchmark over gRPC; nil for one over Kafka's protocol.
func (c *client) producers(f benchFlags) (func() (bench.Producer, error), error) {
	if f.protocol != "grpc" {
		return nil, nil
	}
	if f.acks != "all" || f.compression != "none" {
		return nil, withCode(exitUsage, errors.New("over gRPC, records are sent uncompressed and acknowledged by all"))
	}
	o := native.Options{Username: c.login.user}
	var err error
	if o.TLS, err = c.tls.config(); err != nil {
		return nil, withCode(exitUsage, err)
	}
	if o.Username != "" {
		if o.Password, err = passwordOf(c.login.passwordFile); err != nil {
			return nil, withCode(exitUsage, err)
		}
	}
	return func() (bench.Producer, error) {
		cl, err := native.New(native.Scheme+":///"+strings.Join(c.brokers, ","), o)
		if err != nil {
			return nil, withCode(exitUsage, err)
		}
		return nativeProducer{cl, f.topic}, nil
	}, nil
}
