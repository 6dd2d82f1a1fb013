package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/quorlog/quorlog/internal/testcluster"
)

// kafkaVersion is the one of kafka/pom.xml; the test compares.
const kafkaVersion = "4.3.1"

// kafkaConfig is config/server.properties of Kafka's own distribution, with names, addresses and replication factors for
// three nodes. Threads and buffers are those that it ships.
const kafkaConfig = `process.roles=broker,controller
node.id=%d
controller.quorum.voters=%s
listeners=PLAINTEXT://127.0.0.1:%d,CONTROLLER://127.0.0.1:%d
advertised.listeners=PLAINTEXT://127.0.0.1:%[3]d
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=%[5]s
num.partitions=1
num.recovery.threads.per.data.dir=1
offsets.topic.replication.factor=3
share.coordinator.state.topic.replication.factor=3
share.coordinator.state.topic.min.isr=2
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
%[6]s`

// kafkaFlush makes Kafka fsync each batch, which is what Quorlog and Kafka then have in common.
const kafkaFlush = "log.flush.interval.messages=1\n"

// kafkaJVM is what kafka-run-class.sh of Kafka's distribution gives a broker.
var kafkaJVM = []string{"-Xmx1G", "-Xms1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
	"-XX:+ExplicitGCInvokesConcurrent", "-Djava.awt.headless=true", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"}

// fetchKafka gets the jars once and returns their class path.
func fetchKafka(ctx context.Context) (classPath string, err error) {
	dir, err := cacheDir("kafka-" + kafkaVersion)
	if err != nil {
		return "", err
	}
	if jar := filepath.Join(dir, "kafka_2.13-"+kafkaVersion+".jar"); !exists(jar) {
		pom := filepath.Join(testcluster.Root(), "compat", "peers", "kafka", "pom.xml")
		if _, err := ask(ctx, "mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies", "-DoutputDirectory="+dir); err != nil {
			return "", fmt.Errorf("fetching Kafka %s: %w", kafkaVersion, err)
		}
	}
	return filepath.Join(dir, "*"), nil
}

func startKafka(ctx context.Context, dir, extra string) (*fleet, error) {
	classPath, err := fetchKafka(ctx)
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(2 * nodes)
	if err != nil {
		return nil, err
	}
	f := &fleet{name: "kafka", dir: dir, kafka: true}
	voters := make([]string, nodes)
	for i := range nodes {
		voters[i] = fmt.Sprintf("%d@127.0.0.1:%d", i+1, ports[2*i+1])
	}
	var format errgroup.Group
	configs := make([]string, nodes)
	for i := range nodes {
		data := filepath.Join(dir, fmt.Sprintf("node-%d", i+1))
		configs[i] = data + ".properties"
		text := fmt.Sprintf(kafkaConfig, i+1, strings.Join(voters, ","), ports[2*i], ports[2*i+1], data, extra)
		if err := os.WriteFile(configs[i], []byte(text), 0o644); err != nil {
			return nil, err
		}
		f.addrs = append(f.addrs, fmt.Sprintf("127.0.0.1:%d", ports[2*i]))
		format.Go(func() error {
			_, err := ask(ctx, "java", "-Xmx256m", "-cp", classPath, "kafka.tools.StorageTool", "format",
				"--cluster-id", "cXVvcmxvZy1wZWVycy0xMg", "--config", configs[i])
			return err
		})
	}
	if err := format.Wait(); err != nil {
		return nil, err
	}
	for i := range nodes {
		argv := append(append([]string{"java"}, kafkaJVM...), "-cp", classPath, "kafka.Kafka", configs[i])
		if err := f.run(fmt.Sprintf("node-%d", i+1), argv...); err != nil {
			return f, err
		}
	}
	return f, f.await(ctx, f.brokersUp)
}

// cacheDir is where what was fetched and built stays.
func cacheDir(name string) (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(base, "quorlog-peers", name)
	return dir, os.MkdirAll(dir, 0o755)
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}
