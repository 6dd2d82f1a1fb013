"""The common client command line (see ../README.md) on aiokafka."""
import asyncio
import sys
import uuid

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition


async def produce(brokers, topic, path):
    producer = AIOKafkaProducer(bootstrap_servers=brokers, enable_idempotence=True, compression_type="gzip")
    await producer.start()
    try:
        with open(path, "rb") as lines:
            futures = [await producer.send(topic, line.rstrip(b"\n")) for line in lines]
        await asyncio.gather(*futures)
    finally:
        await producer.stop()


async def consume(brokers, topic, count, group):
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=brokers, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False,
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


def main():
    verb, brokers, topic, arg = sys.argv[1:5]
    if verb == "produce":
        asyncio.run(produce(brokers, topic, arg))
    else:
        asyncio.run(consume(brokers, topic, int(arg), sys.argv[5] if verb == "group" else f"consume-{uuid.uuid4()}"))


main()
