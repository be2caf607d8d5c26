"""Stands in for the API servers of thousands of stores: ``python -m benchmarks.sizing_stores``.

In one process, it speaks as much of the Kubernetes API as the controller uses, over TLS, each store below
a path of its own, and answers after a delay. What is applied is running at once. On a second port it takes
connections and never answers. Ports, and a line for every DaemonSet that is applied, go to standard output.
"""

import argparse
import copy
import json
import socket
import ssl
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Manifest = dict[str, Any]


@dataclass
class _Store:
    daemon_set: Manifest | None = None
    config_maps: dict[str, Manifest] = field(default_factory=dict)


class StoreServers(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, certificate: Path, key: Path, latency_s: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.latency_s = latency_s
        self.stores: dict[str, _Store] = {}
        self.looks = 0
        self.bytes = 0
        self._lock = threading.Lock()

    def answer(self, method: str, store: str, path: str, body: Manifest | None) -> tuple[int, Manifest]:
        with self._lock:
            known = self.stores.setdefault(store, _Store())
            name = path.rpartition("/")[2]
            if path == "/version/":
                return 200, {"major": "1", "minor": "27"}
            if path == "/statistics":
                return 200, {"looks": self.looks, "bytes": self.bytes, "open": threading.active_count() - 3}
            if method == "PATCH" and body is not None and "/configmaps/" in path:
                known.config_maps[name] = body
                return 200, body
            if method == "PATCH" and body is not None:
                known.daemon_set = _running(body, known.daemon_set)
                sys.stdout.write(json.dumps({"applied": store, "at": time.time()}) + "\n")
                sys.stdout.flush()
                return 200, known.daemon_set
            if method == "DELETE":
                return (200, {}) if known.config_maps.pop(name, None) else (404, {})
            if name == "configmaps":
                return 200, {"items": list(known.config_maps.values())}
            if name == "pods":
                return 200, {"items": [_pod(known.daemon_set)] if known.daemon_set else []}
            if name == "events":
                return 200, {"items": []}
            if "/configmaps/" in path:
                found = known.config_maps.get(name)
            else:
                self.looks += 1
                found = known.daemon_set
            return (200, found) if found else (404, {"message": "not found"})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: StoreServers

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        _, store, path = urlsplit(self.path).path.split("/", 2)
        status, answer = self.server.answer(self.command, store, "/" + path, body)
        content = json.dumps(answer).encode()
        self.server.bytes += len(content) + length
        time.sleep(self.server.latency_s)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PATCH = do_POST = do_DELETE = _serve  # noqa: N815 - named by the base class

    def log_message(self, *_: object) -> None:
        """A benchmark's output is its figures."""


def _running(wanted: Manifest, before: Manifest | None) -> Manifest:
    """The applied DaemonSet as it is when its one pod is ready."""
    made = copy.deepcopy(wanted)
    changed = before is None or before["spec"] != wanted["spec"]
    generation = (before["metadata"]["generation"] if before else 0) + changed
    made["metadata"]["generation"] = generation
    made["status"] = {
        "observedGeneration": generation,
        "desiredNumberScheduled": 1,
        "numberReady": 1,
        "updatedNumberScheduled": 1,
    }
    return made


def _pod(daemon_set: Manifest) -> Manifest:
    template = daemon_set["spec"]["template"]
    return {
        "metadata": {**template["metadata"], "name": "storefleet-agent-1", "uid": "1"},
        "spec": {**template["spec"], "nodeName": "node-1"},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }


def _never_answer(listener: socket.socket) -> None:
    held = []
    while True:
        connection, _ = listener.accept()
        held.append(connection)
        if len(held) > 500:
            held.pop(0).close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--certificate", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--latency-ms", type=float, default=20.0, help="before each answer")
    parser.add_argument("--running", type=Path, help="JSON lines: store, daemon_set, config_map")
    options = parser.parse_args()
    servers = StoreServers(options.certificate, options.key, options.latency_ms / 1000)
    if options.running is not None:
        with options.running.open() as lines:
            for line in lines:
                found = json.loads(line)
                config_map = found["config_map"]
                servers.stores[found["store"]] = _Store(
                    _running(found["daemon_set"], None), {config_map["metadata"]["name"]: config_map}
                )
    silent = socket.create_server(("127.0.0.1", 0), backlog=256)
    threading.Thread(target=_never_answer, args=(silent,), daemon=True).start()
    ports = {"port": servers.server_port, "silent_port": silent.getsockname()[1]}
    sys.stdout.write(json.dumps(ports) + "\n")
    sys.stdout.flush()
    servers.serve_forever()


if __name__ == "__main__":
    main()
