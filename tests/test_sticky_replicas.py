"""deploy/nginx.conf, read by nginx itself: each visitor stays at one replica of the page."""

import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

CONF = Path(__file__).resolve().parent.parent / "deploy/nginx.conf"
NGINX = shutil.which("nginx")
pytestmark = pytest.mark.skipif(NGINX is None, reason="the proxy's example wants nginx: apt-get install nginx")


class Replica(BaseHTTPRequestHandler):
    """Answers which one it is, and which address asks."""

    def do_GET(self):
        body = f"{self.server.server_port} {self.headers['X-Forwarded-For']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def replica():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Replica)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def replicas():
    with replica() as one, replica() as two:
        yield [one, two]


@pytest.fixture
def proxy(replicas, tmp_path):
    """Its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    conf = CONF.read_text()
    one, two = (f"server 127.0.0.1:{server.server_port};" for server in replicas)
    for ours, theirs in (
        ("listen 8080;", f"listen 127.0.0.1:{port};"), ("server 127.0.0.1:7861;", one), ("server 127.0.0.1:7862;", two)
    ):  # fmt: skip
        assert ours in conf
        conf = conf.replace(ours, theirs)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = "".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in kinds)
    http = f"access_log off; {folders} {conf}"
    main = f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error.log; events {{}} http {{ {http} }}"
    (tmp_path / "nginx.conf").write_text(main)
    process = subprocess.Popen([NGINX, "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "error.log")])
    try:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def replicas_of(client: httpx.Client, proxy: str, paths=("/", "/config", "/gradio_api/queue/data", "/", "/x")) -> set:
    answers = [client.get(proxy + path) for path in paths]
    assert {answer.text.split()[1] for answer in answers} == {"127.0.0.1"}
    return {answer.text.split()[0] for answer in answers}


def test_a_visitor_stays_at_one_replica_and_visitors_are_spread(proxy):
    visited = []
    for _ in range(20):
        with httpx.Client() as visitor:
            visited.append(replicas_of(visitor, proxy))
            assert visitor.cookies["replica"]
    assert all(len(at) == 1 for at in visited) and len(set.union(*visited)) == 2


def test_a_program_without_cookies_stays_at_one_replica(proxy):
    at = set()
    for _ in range(5):
        with httpx.Client() as program:
            at |= replicas_of(program, proxy, ("/config", "/gradio_api/info"))
            assert not program.cookies
    assert len(at) == 1


def test_only_visitors_of_a_replica_that_is_gone_come_to_another(proxy, replicas):
    visitors = [httpx.Client() for _ in range(12)]
    before = [replicas_of(visitor, proxy) for visitor in visitors]
    replicas[0].shutdown()
    replicas[0].server_close()
    gone, left = ({str(server.server_port)} for server in replicas)
    assert gone in before and left in before
    assert [replicas_of(visitor, proxy) for visitor in visitors] == [left] * 12
    for visitor in visitors:
        visitor.close()
