package org.quorlog.compat;

import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicIdPartition;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** A member of a share group that prints and acknowledges for ever (KIP-932). */
final class ShareMember {
    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    private static final int RELEASE_EVERY = 7;

    private ShareMember() {}

    static void run(String brokers, String topic, String group, String mode) {
        Properties settings = Client.common();
        settings.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, brokers);
        settings.put(ConsumerConfig.GROUP_ID_CONFIG, group);
        settings.put(ConsumerConfig.SHARE_ACKNOWLEDGEMENT_MODE_CONFIG, mode);
        settings.put(ConsumerConfig.MAX_POLL_RECORDS_CONFIG, "100");
        settings.put(ConsumerConfig.REQUEST_TIMEOUT_MS_CONFIG, "5000");
        settings.put(ConsumerConfig.DEFAULT_API_TIMEOUT_MS_CONFIG, "15000");
        boolean explicit = mode.equals("explicit");
        int seen = 0;
        try (KafkaShareConsumer<byte[], byte[]> consumer = new KafkaShareConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(topic));
            while (true) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(200));
                boolean[] released = new boolean[records.count()];
                int i = 0;
                for (ConsumerRecord<byte[], byte[]> r : records) {
                    short count = r.deliveryCount().orElse((short) 0);
                    OUT.println("got " + count + " " + value(r));
                    if (explicit) {
                        released[i] = ++seen % RELEASE_EVERY == 0 && count == 1;
                        consumer.acknowledge(r, released[i] ? AcknowledgeType.RELEASE : AcknowledgeType.ACCEPT);
                    }
                    i++;
                }
                if (i > 0) {
                    try {
                        commit(consumer, records, released);
                    } catch (KafkaException e) { // what was not accepted comes again
                        System.err.println(e);
                    }
                }
            }
        }
    }

    /** Tells what was accepted for good. What was not is delivered again. */
    private static void commit(KafkaShareConsumer<byte[], byte[]> consumer, ConsumerRecords<byte[], byte[]> records, boolean[] released) {
        Map<TopicIdPartition, Optional<KafkaException>> results = consumer.commitSync();
        int i = 0;
        for (ConsumerRecord<byte[], byte[]> r : records) {
            if (!released[i++] && accepted(results, r)) {
                OUT.println("accepted " + value(r));
            }
        }
    }

    private static boolean accepted(Map<TopicIdPartition, Optional<KafkaException>> results, ConsumerRecord<byte[], byte[]> r) {
        TopicPartition partition = new TopicPartition(r.topic(), r.partition());
        return results.entrySet().stream().anyMatch(e -> e.getKey().topicPartition().equals(partition) && e.getValue().isEmpty());
    }

    private static String value(ConsumerRecord<byte[], byte[]> r) {
        return new String(r.value(), StandardCharsets.UTF_8);
    }
}
