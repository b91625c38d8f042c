"""Start a witness as its configuration file says."""

from __future__ import annotations

import json
import os
import signal
import ssl
import sys
import threading
from pathlib import Path

from .agent import Agent
from .decision import Limits
from .etcd import Endpoint, Etcd
from .members import Members
from .service import Report, Witness


def main(path: str) -> int:
    """Run until SIGTERM."""
    settings = json.loads(Path(path).read_text("utf-8"))
    tls = ssl.create_default_context(cafile=settings["ca"])
    tls.load_cert_chain(settings["cert"], settings["key"])
    timeout = float(settings["timeout"])
    password = Path(settings["password_file"])
    endpoints = [Endpoint(url, tls, settings["user"], password, timeout) for url in settings["etcd"]]
    witness = Witness(
        name=settings["name"],
        etcd=Etcd(endpoints, settings["keys"], timeout),
        members=Members(settings["members"], tls, timeout),
        agent=Agent(int(settings["agent_port"])),
        report=Report(settings["name"], Path(settings["status_file"]), Path(settings["metrics_file"])),
        limits=Limits(**{name: int(settings[name]) for name in Limits.__dataclass_fields__}),
        interval=float(settings["interval"]),
        hold_off=int(settings["hold_off"]),
    )
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    witness.run(stop.is_set)
    sys.stdout.flush()
    # Threads that still wait for somebody dead are not waited for.
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
