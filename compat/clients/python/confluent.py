"""The common client command line (see ../README.md) on confluent-kafka, which is librdkafka."""
import os
import sys
import time
import uuid

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer


def common(brokers):
    """The brokers, and the settings of the file that QUORLOG_CLIENT_CONFIG names."""
    settings = {"bootstrap.servers": brokers}
    if "QUORLOG_CLIENT_CONFIG" in os.environ:
        with open(os.environ["QUORLOG_CLIENT_CONFIG"], encoding="utf-8") as lines:
            settings |= dict(line.rstrip("\n").split("=", 1) for line in lines)
    return settings


def produce(brokers, topic, path):
    producer = Producer(common(brokers) | {"enable.idempotence": True, "compression.type": "lz4"})
    failures = []

    def delivered(err, _message):
        if err is not None:
            failures.append(err)

    with open(path, "rb") as lines:
        for line in lines:
            while True:
                try:
                    producer.produce(topic, line.rstrip(b"\n"), callback=delivered)
                    break
                except BufferError:  # the local queue is full: let deliveries drain it
                    producer.poll(0.1)
            producer.poll(0)
    left = producer.flush(60)
    if left or failures:
        sys.exit(f"{left} undelivered, failures: {failures[:3]}")


def consume(brokers, topic, count, group):
    consumer = Consumer(common(brokers) | {"group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False})
    consumer.subscribe([topic])
    seen = 0
    while seen < count:
        message = consumer.poll(60)
        if message is None:
            sys.exit(f"nothing for 60 s after {seen} records")
        if message.error():
            # A topic that was just created may not be in the client's metadata yet.
            if message.error().code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                continue
            sys.exit(str(message.error()))
        sys.stdout.buffer.write(message.value() + b"\n")
        seen += 1
        last = message
        if seen == count or seen % 100 == 0:
            consumer.commit(message=last, asynchronous=False)
    consumer.close()


def generation(consumer):
    """The group's generation, -1 if it is not known. The client tells it to transactional producers only, in a form that it calls opaque:
    that of librdkafka's rd_kafka_consumer_group_metadata_write, where it stands behind a magic word."""
    metadata = consumer.consumer_group_metadata()
    magic = b"CGMDv2:"
    if not isinstance(metadata, bytes) or not metadata.startswith(magic):
        return -1
    return int.from_bytes(metadata[len(magic):len(magic) + 4], sys.byteorder, signed=True)


def member(brokers, topic, group, protocol):
    settings = common(brokers) | {"group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False}
    if protocol == "consumer":
        settings["group.protocol"] = "consumer"
    else:
        settings |= {"session.timeout.ms": 6000, "heartbeat.interval.ms": 500}
    consumer = Consumer(settings)

    def tell(verb, number):
        def rebalanced(_consumer, partitions):
            print(verb, number(), ",".join(str(p.partition) for p in partitions), flush=True)

        return rebalanced

    if protocol == "consumer":
        consumer.subscribe(
            [topic], on_assign=tell("gained", time.time_ns), on_revoke=tell("ceded", time.time_ns), on_lost=tell("lost", time.time_ns),
        )
    else:
        consumer.subscribe([topic], on_assign=tell("assigned", lambda: generation(consumer)))
    while True:
        messages = [m for m in consumer.consume(100, 0.2) if not m.error()]  # errors are told again or pass
        for m in messages:
            print("record", m.partition(), m.offset(), m.value().decode())
        sys.stdout.flush()
        if messages:
            try:
                consumer.commit(asynchronous=False)
            except KafkaException as e:  # the partition's next owner repeats what was not committed
                print(e, file=sys.stderr)


def main():
    verb, brokers, topic, arg = sys.argv[1:5]
    if verb == "member":
        member(brokers, topic, arg, sys.argv[5])
    elif verb == "produce":
        produce(brokers, topic, arg)
    else:
        consume(brokers, topic, int(arg), sys.argv[5] if verb == "group" else f"consume-{uuid.uuid4()}")


main()
