"""The common client command line (see ../README.md) over gRPC, with code that is generated from the protos on the way."""
import base64
import importlib
import itertools
import os
import sys
import tempfile

import grpc
import grpc_tools
from grpc_tools import protoc

PROTOS = os.path.join(os.path.dirname(__file__), "..", "..", "..", "grpcapi", "proto")


def generate():
    """Makes the modules of quorlog.v1, and returns those of records and of admin, each as (messages, stubs)."""
    out = tempfile.mkdtemp()
    well_known = os.path.join(os.path.dirname(grpc_tools.__file__), "_proto")
    names = ["records", "admin"]
    files = [f"quorlog/v1/{name}.proto" for name in names]
    if protoc.main(["protoc", f"-I{PROTOS}", f"-I{well_known}", f"--python_out={out}", f"--grpc_python_out={out}", *files]) != 0:
        sys.exit("the protos do not compile")
    sys.path.insert(0, out)
    return [tuple(importlib.import_module(f"quorlog.v1.{name}_{kind}") for kind in ("pb2", "pb2_grpc")) for name in names]


(records, records_grpc), (admin, admin_grpc) = generate()


def settings():
    """The settings of the file that QUORLOG_CLIENT_CONFIG names: ca (a file), user and password."""
    if "QUORLOG_CLIENT_CONFIG" not in os.environ:
        return {}
    with open(os.environ["QUORLOG_CLIENT_CONFIG"], encoding="utf-8") as lines:
        return dict(line.rstrip("\n").split("=", 1) for line in lines)


class Basic(grpc.AuthMetadataPlugin):
    """A user and a password, with each call."""

    def __init__(self, user, password):
        self.header = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def __call__(self, context, callback):
        callback((("authorization", self.header),), None)


def connect(address):
    wanted = settings()
    if "ca" not in wanted:
        return grpc.insecure_channel(address)
    with open(wanted["ca"], "rb") as pem:
        credentials = grpc.ssl_channel_credentials(pem.read())
    if "user" in wanted:
        login = grpc.metadata_call_credentials(Basic(wanted["user"], wanted["password"]))
        credentials = grpc.composite_channel_credentials(credentials, login)
    return grpc.secure_channel(address, credentials)


def produce(brokers, topic, path):
    """Sends a hundred lines a batch, each with a header, under an identity, and any batch twice: it counts once."""
    with connect(brokers.split(",")[0]) as channel, open(path, "rb") as lines:
        stub = records_grpc.RecordsStub(channel)
        who = stub.InitProducer(records.InitProducerRequest())

        def batches():
            sequence = 0
            while some := list(itertools.islice(lines, 100)):
                yield records.ProduceRequest(
                    topic=topic, partition=0,
                    records=[
                        records.Record(value=line.rstrip(b"\n"), headers=[records.Header(key="from", value=b"python"), records.Header(key="null")])
                        for line in some
                    ],
                    producer=records.ProducerIdentity(producer_id=who.producer_id, producer_epoch=who.producer_epoch, base_sequence=sequence),
                )
                sequence += len(some)

        answered = {}
        for batch in batches():
            twice = [records.ProduceStreamRequest(id=i, batch=batch) for i in (1, 2)]
            for answer in stub.ProduceStream(iter(twice)):
                if answer.HasField("error"):
                    sys.exit(f"{answer.error.reason}: {answer.error.message}")
                answered.setdefault(batch.producer.base_sequence, set()).add(answer.produced.batches[0].base_offset)
        if any(len(offsets) != 1 for offsets in answered.values()):
            sys.exit(f"a batch has two offsets: {answered}")


def consume(brokers, topic, count):
    """Reads from replicas that do not lead, where there are any."""
    with connect(brokers.split(",")[0]) as channel:
        servers = admin_grpc.ClusterStub(channel).GetServers(admin.GetServersRequest(topics=[topic])).servers
    led = {p.partition: s.address for s in servers for p in s.leads}
    followed = {p.partition: s.address for s in servers for p in s.follows}
    seen = 0
    for partition in sorted(led):
        with connect(followed.get(partition, led[partition])) as channel:
            stub = records_grpc.RecordsStub(channel)
            stream = stub.ConsumeStream(records.ConsumeRequest(topic=topic, partition=partition, edge=records.EDGE_EARLIEST))
            end = None
            for answer in stream:
                for record in answer.records:
                    sys.stdout.buffer.write(record.value + b"\n")
                    seen += 1
                end = answer.next_offset
                if seen >= count or end >= answer.high_watermark and len(led) > 1:
                    break
            stream.cancel()
        if seen >= count:
            return


def refused(brokers, topic, _):
    """Prints what an error tells: its code and reason, and the range of offsets that there are."""
    from google.rpc import error_details_pb2, status_pb2  # of googleapis-common-protos
    with connect(brokers.split(",")[0]) as channel:
        try:
            records_grpc.RecordsStub(channel).Consume(records.ConsumeRequest(topic=topic, offset=1 << 40))
        except grpc.RpcError as err:
            raw = dict(err.trailing_metadata()).get("grpc-status-details-bin", b"")
            info, span = error_details_pb2.ErrorInfo(), records.OffsetRange()
            for detail in status_pb2.Status.FromString(raw).details:
                detail.Unpack(info)
                detail.Unpack(span)
            print(err.code().name, info.reason, span.log_start_offset, span.end_offset)


if __name__ == "__main__":
    {"produce": produce, "consume": consume, "refused": refused}[sys.argv[1]](*sys.argv[2:4], sys.argv[4] if sys.argv[1] != "consume" else int(sys.argv[4]))
