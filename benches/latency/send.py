#!/usr/bin/env python3
"""Sends the first lines of a file to a topic, so many a second (0: as fast as the broker takes them), and says how fast it was."""
import itertools
import sys
import time

from confluent_kafka import Producer


def main():
    brokers, topic, path, lines, rate = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 2, "acks": "1", "queue.buffering.max.messages": 200_000})
    with open(path, "rb") as file:
        wanted = itertools.islice(file, lines)
        began, sent = time.monotonic(), 0
        while sent < lines:
            now = time.monotonic()
            # What is due by now, or what fits while there is no rate.
            due = min(lines, int((now - began) * rate)) if rate else min(lines, sent + 10_000)
            for line in itertools.islice(wanted, due - sent):
                while True:
                    try:
                        producer.produce(topic, line)
                        break
                    except BufferError:
                        producer.poll(0.01)
            sent = due
            producer.poll(0)
            if rate:
                time.sleep(0.002)
        producer.flush()
    print(sent / (time.monotonic() - began))


main()
