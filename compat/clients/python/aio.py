"""The common client command line (see ../README.md) on aiokafka."""
import asyncio
import os
import sys
import uuid

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.helpers import create_ssl_context


def common():
    """The settings of the file that QUORLOG_CLIENT_CONFIG names; those that begin with ssl_ are files."""
    if "QUORLOG_CLIENT_CONFIG" not in os.environ:
        return {}
    with open(os.environ["QUORLOG_CLIENT_CONFIG"], encoding="utf-8") as lines:
        settings = dict(line.rstrip("\n").split("=", 1) for line in lines)
    files = {name.removeprefix("ssl_"): settings.pop(name) for name in list(settings) if name.startswith("ssl_")}
    if files:
        settings["ssl_context"] = create_ssl_context(**files)
    return settings


async def produce(brokers, topic, path):
    producer = AIOKafkaProducer(bootstrap_servers=brokers, enable_idempotence=True, compression_type="gzip", **common())
    await producer.start()
    try:
        with open(path, "rb") as lines:
            futures = [await producer.send(topic, line.rstrip(b"\n")) for line in lines]
        await asyncio.gather(*futures)
    finally:
        await producer.stop()


async def consume(brokers, topic, count, group):
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=brokers, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False, **common(),
    )
    await consumer.start()
    positions = {}
    seen = 0
    try:
        while seen < count:
            message = await asyncio.wait_for(consumer.getone(), 60)
            sys.stdout.buffer.write(message.value + b"\n")
            positions[TopicPartition(message.topic, message.partition)] = message.offset + 1
            seen += 1
        await consumer.commit(positions)
    finally:
        await consumer.stop()


class Teller(ConsumerRebalanceListener):
    """Prints what a rebalance gives to the member."""

    def __init__(self, consumer):
        self.consumer = consumer

    async def on_partitions_revoked(self, revoked):
        pass

    async def on_partitions_assigned(self, assigned):
        # The client has no public way to learn the generation.
        generation = self.consumer._coordinator.generation
        print("assigned", generation, ",".join(str(p.partition) for p in assigned), flush=True)


async def member(brokers, topic, group):
    consumer = AIOKafkaConsumer(
        bootstrap_servers=brokers, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False,
        session_timeout_ms=6000, heartbeat_interval_ms=500, request_timeout_ms=5000, **common(),
    )
    await consumer.start()
    consumer.subscribe([topic], listener=Teller(consumer))
    while True:
        batches = await consumer.getmany(timeout_ms=200, max_records=100)
        for partition, messages in batches.items():
            for m in messages:
                print("record", m.partition, m.offset, m.value.decode())
        sys.stdout.flush()
        if batches:
            try:
                await consumer.commit({p: messages[-1].offset + 1 for p, messages in batches.items()})
            except KafkaError as e:  # the partition's next owner repeats what was not committed
                print(e, file=sys.stderr)


def main():
    verb, brokers, topic, arg = sys.argv[1:5]
    if verb == "member":
        asyncio.run(member(brokers, topic, arg))
    elif verb == "produce":
        asyncio.run(produce(brokers, topic, arg))
    else:
        asyncio.run(consume(brokers, topic, int(arg), sys.argv[5] if verb == "group" else f"consume-{uuid.uuid4()}"))


main()
