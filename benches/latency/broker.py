"""A real Apache Kafka (KRaft, one node) on free loopback ports, as the tests start it: fetched by Maven, run with `java`."""
import socket
import subprocess
import time
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic


def classpath(kept):
    """From a file that an earlier run left, or from Maven."""
    pom = Path("tests/kafka/pom.xml")
    jars = kept.read_text().strip().split(":") if kept.is_file() and kept.stat().st_mtime > pom.stat().st_mtime else []
    if not jars or not all(Path(jar).is_file() for jar in jars):
        subprocess.run(["mvn", "-q", "-B", "dependency:build-classpath", f"-Dmdep.outputFile={kept}", "-f", pom], check=True)
    return kept.read_text().strip()


class Broker:
    """A broker that runs as long as the `with` block."""

    def __init__(self, folder, kept):
        self.folder, self.classpath = Path(folder), classpath(Path(kept))

    def __enter__(self):
        held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        port, controller = (s.getsockname()[1] for s in held)
        for s in held:
            s.close()
        self.admin = None
        self.brokers = f"127.0.0.1:{port}"
        properties = self.folder / "server.properties"
        properties.write_text(
            f"""process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={self.folder}/kafka
auto.create.topics.enable=false
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
"""
        )
        java = ["java", "-Xmx1g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", self.classpath]
        subprocess.run(
            [*java, "kafka.tools.StorageTool", "format", "-t", "bWFudW1pdC10ZXN0cy1rZg", "-c", properties], check=True, capture_output=True
        )
        log = open(self.folder / "broker.log", "w")
        self.process = subprocess.Popen([*java, "kafka.Kafka", properties], stdout=log, stderr=log)
        deadline = time.monotonic() + 90
        while not self.listening():
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.__exit__()
                raise SystemExit("the broker did not start:\n" + (self.folder / "broker.log").read_text()[-2000:])
            time.sleep(0.1)
        self.admin = AdminClient({"bootstrap.servers": self.brokers, "log_level": 0})
        self.admin.list_topics(timeout=60)
        return self

    def listening(self):
        """Whether its port is open: asked without a client, which would tell of every try that came too early."""
        host, port = self.brokers.split(":")
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
            return True
        except OSError:
            return False

    def __exit__(self, *_):
        # A client that outlives the broker would tell of every try to reach it.
        self.admin = None
        self.process.terminate()
        self.process.wait()

    def topic(self, name):
        """One partition, whose messages carry the time at which the broker appended them."""
        topic = NewTopic(name, 1, 1, config={"message.timestamp.type": "LogAppendTime"})
        for done in self.admin.create_topics([topic]).values():
            done.result()

    def drop(self, name):
        """Gives its disk back."""
        for done in self.admin.delete_topics([name]).values():
            done.result()
