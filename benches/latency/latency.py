#!/usr/bin/env python3
"""The table of benches/latency.sh."""
import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, TopicPartition

import measure
from broker import Broker
from measure import Wrong

# Rows at the beginning find caches, JIT and group membership cold; those at the end are followed by nothing, which alone
# would let them go on. Both shares of a trial's time are left out.
COLD, END = 0.2, 0.05


def everything(brokers, topic):
    """(append time in milliseconds, payload) of each message of a topic, in its order."""
    # Ends of transactions take offsets and are no messages, so that only the broker can say that this is all.
    settings = {"enable.auto.commit": False, "enable.partition.eof": True, "isolation.level": "read_committed"}
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "reader", **settings})
    consumer.assign([TopicPartition(topic, 0, 0)])
    read, ended = [], False
    while not ended:
        for message in consumer.consume(10_000, timeout=20):
            if not message.error():
                read.append((message.timestamp()[1], message.value()))
            elif message.error().code() == KafkaError._PARTITION_EOF:
                ended = True
            else:
                raise Wrong(str(message.error()))
    consumer.close()
    return read


class Service:
    """`manumit run` on a topic, until `stop`."""

    def __init__(self, args, broker, project, topic, folder, exact):
        environment = {
            "MANUMIT_KAFKA_BROKERS": broker.brokers,
            "MANUMIT_KAFKA_GROUP": topic,
            # The days are made up.
            "MANUMIT_FUTURE": "off",
            # So that the last rows come out, too, soon after the end.
            "MANUMIT_IDLE_AFTER": "2 seconds",
        }
        command = [args.manumit, "--project", project, "run", "--feed", project / "sql/feeds/measured.sql", "--threads", str(args.threads)]
        command += ["--alerts", f"kafka:{topic}-alerts", "--hits", f"kafka:{topic}-hits", "--listen", "127.0.0.1:0"]
        command += ["--late", f"{folder}/late.jsonl", "--dead-letters", f"{folder}/dead.jsonl"]
        if exact:
            command += ["--archive", f"{folder}/archive", "--checkpoints", f"{folder}/checkpoints"]
        self.log = open(f"{folder}/service.log", "w+")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, env={**os.environ, **environment})
        self.metrics = self.wait_for(lambda: re.search(r"metrics on (http://[0-9.:]+)", self.told()))[1] + "/metrics"

    def told(self):
        return Path(self.log.name).read_text()

    def wait_for(self, what, seconds=60):
        deadline = time.monotonic() + seconds
        while not (found := what()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Wrong("the service: " + self.told()[-1000:])
            time.sleep(0.02)
        return found

    def metric(self, name):
        with urllib.request.urlopen(self.metrics) as answer:
            text = answer.read().decode()
        values = re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", text, re.M)
        return sum(map(float, values))

    def evaluated(self):
        return self.metric("manumit_rows_evaluated_total")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()


def send(args, broker, topic, rows, rate):
    command = [sys.executable, "benches/latency/send.py", broker.brokers, topic, args.lines, str(rows), str(rate)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


class Trial:
    """One run of the service over the first `rows` rows, sent at `rate`: its topics, and what they held at the end."""

    def __init__(self, args, broker, project, name, rows, rate, exact=False):
        self.rows, self.evaluated_at = rows, []
        topics = [name, f"{name}-alerts", f"{name}-hits"]
        for topic in topics:
            broker.topic(topic)
        feed = project / "sql/feeds/measured.sql"
        feed.write_text((project / "sql/feeds/t10-lines.sql").read_text().replace('topics = ["t10"]', f'topics = ["{name}"]'))
        with tempfile.TemporaryDirectory() as folder:
            service, sender = Service(args, broker, project, name, folder, exact), None
            try:
                # Its partition is assigned when it has begun to fetch; sending before that would measure the joining.
                time.sleep(3)
                sender = send(args, broker, name, rows, rate)
                deadline = time.monotonic() + args.patience
                # The last rows come out only after the idle timeout.
                while (count := service.evaluated()) < rows:
                    self.evaluated_at.append((time.time(), count))
                    if time.monotonic() > deadline:
                        raise Wrong(f"{count:.0f} of {rows} rows were evaluated within {args.patience} s")
                    time.sleep(0.1)
                self.sent_rate = float(sender.communicate()[0])
            finally:
                service.stop()
                if sender:
                    # It has ended by itself, unless the trial was given up.
                    sender.kill()
        self.appended, self.alerts, self.hits = (everything(broker.brokers, topic) for topic in topics)
        for topic in topics:
            broker.drop(topic)

    def rate(self):
        """Rows a second from the first append to the last but what waits for the idle timeout: nine tenths of the rows."""
        most = 0.9 * self.rows
        began = self.appended[0][0] / 1000
        time_of = next((at for at, count in self.evaluated_at if count >= most), None)
        count = next((count for _, count in self.evaluated_at if count >= most), None)
        if time_of is None:
            raise Wrong("the service was done before it could be looked at: give more rows")
        return count / (time_of - began)

    def delays(self, documents, row_of):
        """Milliseconds from the append of a document's row to its own append, without the cold and the last rows."""
        begin, end = self.appended[0][0], self.appended[-1][0]
        first, last = begin + COLD * (end - begin), end - END * (end - begin)
        found = []
        for at, payload in documents:
            appended = self.appended[row_of(json.loads(payload))][0]
            if first <= appended <= last:
                found.append(at - appended)
        return sorted(found)


def hit_row(hit):
    """Rows are numbered from 0 in the order they are sent."""
    return int(hit["tx_id"])


def alert_row(alert):
    """The latest row of the evidence is the one that raised the alert."""
    return max(int(transaction["tx_id"]) for transaction in alert["transactions"])


def expected(args, project, rows, folder):
    """Hits of the same rows from a file."""
    with open(args.lines, "rb") as lines, open(f"{folder}/rows.jsonl", "wb") as out:
        for _, line in zip(range(rows), lines):
            out.write(line)
    sinks = [word for what in ("alerts", "late", "dead-letters", "hits") for word in (f"--{what}", f"{folder}/{what}.jsonl")]
    measure.run([args.manumit, "--project", project, "run", "--feed", "t10-lines", "--from", f"{folder}/rows.jsonl", *sinks])
    return named(open(f"{folder}/hits.jsonl", "rb"))


def named(lines):
    """Hits as a sorted list of (indicator, row)."""
    return sorted((hit["indicator"], hit["tx_id"]) for hit in map(json.loads, lines))


def at(values, share):
    return values[min(len(values) - 1, int(len(values) * share))]


def shown(values):
    return [f"{at(values, 0.5):,.0f}", f"{at(values, 0.99):,.0f}", f"{values[-1]:,.0f}"] if values else ["", "", ""]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("manumit", "project", "lines", "classpath", "command"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("rows", "runs", "seconds", "threads", "patience"):
        parser.add_argument(f"--{name}", type=int, required=True)
    args = parser.parse_args()
    project = Path(args.project)
    measure.heading("From append to alert", args.manumit, args.command)
    with tempfile.TemporaryDirectory() as folder, Broker(folder, args.classpath) as broker:
        highest, exactly = (
            statistics.median(Trial(args, broker, project, f"full-{exact}-{run}", args.rows, 0, exact).rate() for run in range(args.runs))
            for exact in (False, True)
        )
        print(f"Apache Kafka {Path(args.classpath).read_text().split('kafka_2.13-')[1].split('.jar')[0]}, one partition, lateness of zero, {args.threads} threads;")
        print(f"broker, sender and service on the same cores. Highest rate: {highest:,.0f} transactions/s;")
        print(f"exactly once, with archive and checkpoints: {exactly:,.0f} transactions/s (medians of {args.runs}, {args.rows:,} rows).\n")
        measure.header("load", "sent a second", "hits", "to the hit: p50, ms", "p99", "most", "alerts", "to the alert: p50, ms", "p99", "most", "hits are those of a file")
        for share in (0.1, 0.5, 0.8):
            rows = min(args.rows, int(highest * share * args.seconds))
            kept, alerts, hits, fault = [], [], [], None
            sent = []
            right = expected(args, project, rows, folder)
            for run in range(args.runs):
                try:
                    trial = Trial(args, broker, project, f"load-{share:.0%}-{run}".replace("%", ""), rows, highest * share)
                    if named(payload for _, payload in trial.hits) != right:
                        raise Wrong(f"{len(trial.hits)} hits, not {len(right)}, or others")
                except Wrong as wrong:
                    fault = str(wrong)
                    break
                sent.append(trial.sent_rate)
                hits.append(trial.delays(trial.hits, hit_row))
                alerts.append(trial.delays(trial.alerts, alert_row))
            if fault:
                measure.row(f"{share:.0%}", *[""] * 9, fault)
                continue
            # The run whose p99 is the median of all runs, so that its figures belong together.
            middle = lambda runs: sorted(runs, key=lambda values: at(values, 0.99) if values else 0)[len(runs) // 2]
            hit, alert = middle(hits), middle(alerts)
            measure.row(f"{share:.0%}", statistics.median(sent), len(hit), *shown(hit), len(alert), *shown(alert), "yes")


main()
