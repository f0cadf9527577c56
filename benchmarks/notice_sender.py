"""Sends bucket notifications: a whole camera's, and those it is told to.

``python -m benchmarks.notice_sender BOOTSTRAP TOPIC BUCKET RATE`` sends RATE
a second of detectors that nobody waits for; each line on its standard input
is a key of which it sends a notification at once. The time in a notification
is that at which it is sent.
"""

from __future__ import annotations

__all__ = ["main"]

import json
import sys
import threading
import time
from datetime import UTC, datetime
from itertools import count

from kafka import KafkaProducer

from benchmarks.arrival_slot import DETECTORS

#: Detectors at the end of the focal plane are those that are waited for.
WAITED_FOR = 4


def _notice(bucket: str, key: str, number: int) -> bytes:
    record = {
        "eventVersion": "2.1",
        "eventSource": "ceph:s3",
        "eventTime": datetime.now(UTC).isoformat(),
        "eventName": "ObjectCreated:Put",
        "userIdentity": {"principalId": "daq"},
        "requestParameters": {"sourceIPAddress": "192.0.2.1"},
        "responseElements": {"x-amz-request-id": f"{number:032x}", "x-amz-id-2": f"{number:032x}"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "arrivals",
            "bucket": {
                "name": bucket,
                "ownerIdentity": {"principalId": "daq"},
                "arn": f"arn:aws:s3:::{bucket}",
            },
            "object": {"key": key, "size": 1 << 21, "eTag": f"{number:032x}", "sequencer": f"{number:016X}"},
        },
    }
    return json.dumps({"Records": [record]}).encode()


def main() -> None:
    """Send until standard input ends."""
    bootstrap, topic, bucket, rate = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    others = list(DETECTORS)[:-WAITED_FOR]
    numbers = count()
    over = threading.Event()

    def send_others() -> None:
        begin = time.monotonic()
        for sent in count():
            if over.wait(max(0.0, begin + sent / rate - time.monotonic())):
                return
            sequence, place = divmod(sent, len(others))
            stem = f"MC_O_20991231_{sequence:06d}"
            key = f"LSSTCam/20991231/{stem}/{stem}_{others[place]}.fits"
            producer.send(topic, _notice(bucket, key, next(numbers)))

    thread = threading.Thread(target=send_others)
    thread.start()
    for line in sys.stdin:
        producer.send(topic, _notice(bucket, line.strip(), next(numbers)))
    over.set()
    thread.join()
    producer.close()


if __name__ == "__main__":
    main()
