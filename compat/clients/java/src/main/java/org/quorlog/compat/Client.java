package org.quorlog.compat;

import java.io.IOException;
import java.io.PrintStream;
import java.io.Reader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.UUID;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The common client command line (see ../README.md) on Kafka's own Java client. */
public final class Client {
    private Client() {}

    public static void main(String[] args) throws Exception {
        if (args[0].equals("produce")) {
            produce(args[1], args[2], Path.of(args[3]));
        } else if (args[0].equals("member")) {
            Member.run(args[1], args[2], args[3], args[4]);
        } else if (args[0].equals("share")) {
            ShareMember.run(args[1], args[2], args[3], args[4]);
        } else {
            String group = args[0].equals("group") ? args[4] : "consume-" + UUID.randomUUID();
            consume(args[1], args[2], Integer.parseInt(args[3]), group);
        }
    }

    /** Settings of every client: those of the file that QUORLOG_CLIENT_CONFIG names, such as for TLS. */
    static Properties common() {
        Properties settings = new Properties();
        String file = System.getenv("QUORLOG_CLIENT_CONFIG");
        if (file != null) {
            try (Reader in = Files.newBufferedReader(Path.of(file))) {
                settings.load(in);
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }
        return settings;
    }

    private static void produce(String brokers, String topic, Path file) throws Exception {
        Properties settings = common();
        settings.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, brokers);
        settings.put(ProducerConfig.COMPRESSION_TYPE_CONFIG, "zstd");
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer())) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (String line : Files.readAllLines(file, StandardCharsets.UTF_8)) {
                sent.add(producer.send(new ProducerRecord<>(topic, line.getBytes(StandardCharsets.UTF_8))));
            }
            for (Future<RecordMetadata> future : sent) {
                future.get();
            }
        }
    }

    private static void consume(String brokers, String topic, int count, String group) {
        Properties settings = common();
        settings.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, brokers);
        settings.put(ConsumerConfig.GROUP_ID_CONFIG, group);
        settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        // Committed by hand, so that exactly what was printed is committed.
        settings.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, "false");
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(topic));
            Map<TopicPartition, OffsetAndMetadata> positions = new HashMap<>();
            int seen = 0;
            while (seen < count) {
                ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofSeconds(60));
                if (records.isEmpty()) {
                    throw new IllegalStateException("nothing for 60 s after " + seen + " records");
                }
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    if (seen == count) {
                        break;
                    }
                    out.println(new String(record.value(), StandardCharsets.UTF_8));
                    positions.put(new TopicPartition(record.topic(), record.partition()), new OffsetAndMetadata(record.offset() + 1));
                    seen++;
                }
            }
            consumer.commitSync(positions);
        }
        out.flush();
    }
}
