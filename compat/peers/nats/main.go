// Command nats publishes to a JetStream stream with three replicas through the client's own asynchronous publisher, and
// prints what `quorlog bench produce -o json` prints, so that the two can be compared. It is a module of its own, so that
// NATS stays out of the broker's dependencies.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	stream   = "bench"
	replicas = 3
	// poolSize is as in quorlog bench: no two records of a window share bytes.
	poolSize = 64 << 20
	// stallWait is how long a publish may wait for room in the window before it fails.
	stallWait = time.Minute
)

func main() {
	servers := flag.String("servers", nats.DefaultURL, "servers, nats://host:port[,...]")
	ping := flag.Bool("ping", false, "only tell whether a stream can be made")
	records := flag.Int("records", 1_000_000, "records")
	size := flag.Int("record-size", 1024, "bytes of each record")
	throughput := flag.Int("throughput", 0, "records a second; 0 = as fast as possible")
	window := flag.Int("window", 10_000, "records that may wait for their acknowledgement, as many as franz-go buffers")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	js, err := connect(*servers, *window)
	if err != nil {
		log.Fatal(err)
	}
	if err := ensureStream(ctx, js, *ping); err != nil {
		log.Fatal(err)
	}
	if *ping {
		return
	}
	r, err := publish(js, *records, *size, *throughput, *window)
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		log.Fatal(err)
	}
}

func connect(servers string, window int) (jetstream.JetStream, error) {
	nc, err := nats.Connect(servers)
	if err != nil {
		return nil, err
	}
	return jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(window))
}

// ensureStream makes the stream; a ping removes its own again, and fails until all replicas follow.
func ensureStream(ctx context.Context, js jetstream.JetStream, ping bool) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	name := stream
	if ping {
		name = "ping"
	}
	s, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: name, Subjects: []string{name}, Storage: jetstream.FileStorage, Replicas: replicas,
	})
	if err != nil || !ping {
		return err
	}
	info, err := s.Info(ctx)
	if err != nil {
		return err
	}
	if info.Cluster == nil || len(info.Cluster.Replicas) != replicas-1 {
		return fmt.Errorf("the stream is not replicated: %+v", info.Cluster)
	}
	return js.DeleteStream(ctx, name)
}

// result has the fields of quorlog bench.
type result struct {
	Kind             string  `json:"kind"`
	Records          int64   `json:"records"`
	Bytes            int64   `json:"bytes"`
	Seconds          float64 `json:"seconds"`
	RecordsPerSecond float64 `json:"records_per_second"`
	MBPerSecond      float64 `json:"mb_per_second"`
	P50              float64 `json:"p50_ms"`
	P99              float64 `json:"p99_ms"`
	P999             float64 `json:"p999_ms"`
	Max              float64 `json:"max_ms"`
}

// sent is a record on its way.
type sent struct {
	at  time.Time
	ack jetstream.PubAckFuture
}

// publish sends the records while another goroutine waits for the acknowledgements, which come in order.
func publish(js jetstream.JetStream, records, size, throughput, window int) (result, error) {
	pool := make([]byte, max(poolSize, size))
	rand.Read(pool) // never fails (crypto/rand)
	flying := make(chan sent, window)
	acked := make(chan error, 1)
	latencies := make([]time.Duration, 0, records)
	start := time.Now()
	go func() {
		for s := range flying {
			select {
			case <-s.ack.Ok():
				latencies = append(latencies, time.Since(s.at))
			case err := <-s.ack.Err():
				acked <- err
				return
			}
		}
		acked <- nil
	}()
	next := 0
	for i := range records {
		if next+size > len(pool) {
			next = 0
		}
		waitUntilDue(start, i, throughput)
		at := time.Now()
		ack, err := js.PublishAsync(stream, pool[next:next+size:next+size], jetstream.WithStallWait(stallWait))
		if err != nil {
			return result{}, err
		}
		next += size
		select {
		case flying <- sent{at, ack}:
		case err := <-acked:
			return result{}, err
		}
	}
	close(flying)
	if err := <-acked; err != nil {
		return result{}, err
	}
	return summary(latencies, size, time.Since(start)), nil
}

// waitUntilDue spreads the records as quorlog bench does.
func waitUntilDue(start time.Time, i, throughput int) {
	if throughput == 0 {
		return
	}
	due := start.Add(time.Duration(i) * (time.Second / time.Duration(throughput)))
	if left := time.Until(due); left >= time.Millisecond {
		time.Sleep(left)
	}
}

func summary(latencies []time.Duration, size int, took time.Duration) result {
	slices.Sort(latencies)
	at := func(q float64) float64 {
		return float64(latencies[min(len(latencies)-1, int(q*float64(len(latencies))))].Microseconds()) / 1000
	}
	n := int64(len(latencies))
	return result{
		Kind: "produce", Records: n, Bytes: n * int64(size), Seconds: took.Seconds(),
		RecordsPerSecond: float64(n) / took.Seconds(), MBPerSecond: float64(n) * float64(size) / 1e6 / took.Seconds(),
		P50: at(0.5), P99: at(0.99), P999: at(0.999), Max: at(1),
	}
}
