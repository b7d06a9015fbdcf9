"""A real nginx in a temporary folder: one that limits requests, and one that stands before another server and may go.

It runs as a child in the foreground, on a free port of 127.0.0.1, and leaves nothing behind. Its access log is what
was really answered, second by second.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

START_S = 10
COMPLETION = {
    "id": "chatcmpl-5d1b7c9e2f",
    "object": "chat.completion",
    "created": 1793534400,
    "model": "accounts/fireworks/models/glm-5p3-flash",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Tomorrow."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 212, "completion_tokens": 3, "total_tokens": 215},
}
REFUSAL = {"error": {"message": "rate limit exceeded, please try again later", "code": "too_many_requests"}}
CONFIGURATION = """
daemon off;
master_process off;
pid nginx.pid;
events {{ worker_connections 8192; }}
http {{
  log_format times '$msec $status';
  access_log access.log times;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  keepalive_requests 1000000;
  default_type application/json;
  {outside}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    root .;
    {inside}
  }}
}}
"""
LIMIT_ZONE = "limit_req_zone $server_port zone=all:1m rate={per_second}r/s;"
LIMITED = """
    location / {{
      limit_req zone=all burst={burst} nodelay;
      limit_req_status 429;
      error_page 429 @refusal;
      try_files /none @answer;  # `return` in this place would come before the limit
    }}
    location @answer {{ return 200 '{answer}'; }}
    location @refusal {{
      add_header Retry-After 1 always;
      return 429 '{refusal}';
    }}
"""
UPSTREAM = "upstream behind {{ server {address}; keepalive 128; }}"
PROXY = """
    location / {
      if (-f broken) { return 500 '{"error": {"message": "out of order"}}'; }
      proxy_pass http://behind;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_next_upstream off;
      proxy_read_timeout 600s;
    }
"""


class Answered(NamedTuple):
    """One line of the access log: when (seconds since 1970), and with what status."""

    at: float
    status: int


class Nginx:
    """One server that can be stopped and started again on its port."""

    def __init__(self, folder: Path, outside: str, inside: str) -> None:
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self._port}/v1"
        (folder / "nginx.conf").write_text(CONFIGURATION.format(outside=outside, inside=inside, port=self._port))
        self.start()

    def start(self) -> None:
        """Return when it listens."""
        command = [_executable() or "nginx", "-p", str(self._folder), "-c", "nginx.conf", "-e", "error.log"]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=self._folder)
        ends_at = time.monotonic() + START_S
        while time.monotonic() < ends_at and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(0.02)
        self.stop()
        sys.exit(f"nginx did not start:\n{(self._folder / 'error.log').read_text()}")

    def stop(self) -> None:
        """End it at once: what is in flight is cut off, and connections are refused."""
        self._process.kill()
        self._process.wait()

    def break_down(self) -> None:
        """Answer 500 to everything."""
        (self._folder / "broken").touch()

    def repair(self) -> None:
        """Answer as before."""
        (self._folder / "broken").unlink()

    def answered(self) -> list[Answered]:
        """What was answered so far."""
        lines = (line.split() for line in (self._folder / "access.log").read_text().splitlines())
        return [Answered(float(at), int(status)) for at, status in lines]


@contextmanager
def limiting(per_second: int = 100, burst: int = 100) -> Iterator[Nginx]:
    """Answer at once with a completion; what is more than `per_second` gets a 429 that asks for one second."""
    answer, refusal = json.dumps(COMPLETION), json.dumps(REFUSAL)
    inside = LIMITED.format(burst=burst, answer=answer, refusal=refusal)
    with _running(LIMIT_ZONE.format(per_second=per_second), inside) as nginx:
        yield nginx


@contextmanager
def standing_before(address: str) -> Iterator[Nginx]:
    """Pass everything on to the server at `address`, HOST:PORT."""
    with _running(UPSTREAM.format(address=address), PROXY) as nginx:
        yield nginx


def there() -> bool:
    """Whether nginx is installed; says so if not."""
    if _executable() is None:
        print("nginx is not installed: what needs it is left out", file=sys.stderr)
        return False
    return True


def _executable() -> str | None:
    return shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))


@contextmanager
def _running(outside: str, inside: str) -> Iterator[Nginx]:
    with tempfile.TemporaryDirectory() as folder:
        nginx = Nginx(Path(folder), outside, inside)
        try:
            yield nginx
        finally:
            nginx.stop()
