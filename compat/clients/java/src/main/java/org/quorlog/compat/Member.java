package org.quorlog.compat;

import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.Collection;
import java.util.List;
import java.util.Properties;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** A member of a group that prints and commits for ever. */
final class Member {
    private static final PrintStream OUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    private Member() {}

    static void run(String brokers, String topic, String group, String kind) {
        Properties settings = Client.common();
        settings.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, brokers);
        settings.put(ConsumerConfig.GROUP_ID_CONFIG, group);
        settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        settings.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, "false");
        settings.put(ConsumerConfig.REQUEST_TIMEOUT_MS_CONFIG, "5000");
        settings.put(ConsumerConfig.DEFAULT_API_TIMEOUT_MS_CONFIG, "15000");
        if (kind.equals("consumer")) {
            settings.put(ConsumerConfig.GROUP_PROTOCOL_CONFIG, "consumer");
        } else {
            settings.put(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG, "6000");
            settings.put(ConsumerConfig.HEARTBEAT_INTERVAL_MS_CONFIG, "500");
        }
        if (kind.equals("cooperative")) {
            settings.put(ConsumerConfig.PARTITION_ASSIGNMENT_STRATEGY_CONFIG, CooperativeStickyAssignor.class.getName());
        }
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(topic), new Teller(consumer, kind));
            while (true) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(200));
                for (ConsumerRecord<byte[], byte[]> r : records) {
                    OUT.println("record " + r.partition() + " " + r.offset() + " " + new String(r.value(), StandardCharsets.UTF_8));
                }
                if (!records.isEmpty()) {
                    try {
                        consumer.commitSync();
                    } catch (KafkaException e) { // the partition's next owner repeats what was not committed
                        System.err.println(e);
                    }
                }
            }
        }
    }

    /** Prints what the member has after a rebalance; with KIP-848, where its epoch is no generation, what changes, and when. */
    private record Teller(KafkaConsumer<byte[], byte[]> consumer, String kind) implements ConsumerRebalanceListener {
        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            changed("ceded", partitions);
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            changed("lost", partitions);
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            if (kind.equals("consumer")) {
                changed("gained", partitions);
            } else {
                OUT.println("assigned " + consumer.groupMetadata().generationId() + " " + list(consumer.assignment()));
            }
        }

        private void changed(String verb, Collection<TopicPartition> partitions) {
            if (kind.equals("consumer")) {
                Instant now = Instant.now();
                OUT.println(verb + " " + (now.getEpochSecond() * 1_000_000_000L + now.getNano()) + " " + list(partitions));
            }
        }

        private static String list(Collection<TopicPartition> partitions) {
            return partitions.stream().map(p -> String.valueOf(p.partition())).collect(Collectors.joining(","));
        }
    }
}
