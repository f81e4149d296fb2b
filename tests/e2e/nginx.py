"""A real nginx with the configuration in deploy/nginx/, of which only addresses, ports and files are changed."""

import os
import shutil
import subprocess
from pathlib import Path

import requests
import trustme

from tests.e2e.server import REPOSITORY, free_port
from tests.waiting import poll

SHIPPED = REPOSITORY / "deploy" / "nginx"
MAIN = """
daemon off;
{user}
pid {folder}/pid;
error_log {folder}/error.log info;
worker_processes 2;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    log_format nodes '$request_method $request_uri $status $upstream_addr $upstream_status';
    access_log {folder}/access.log nodes;
    include {folder}/shipped.conf;
}}
"""


class Nginx:
    """nginx in front of the servers at `nodes`, a port each. `changes` are made to the shipped text, too."""

    def __init__(
        self, folder: Path, *, nodes: list[int], port: int, changes: dict[str, str]
    ) -> None:
        program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program, "nginx is missing: run .ci/tools"
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.port, self.plain_port = folder, port, free_port()
        self.authority = str(folder / "ca.pem")
        self._write(nodes, changes)
        user = "user root;" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(MAIN.format(folder=folder, user=user))
        with (folder / "stderr.txt").open("wb") as errors:
            self.process = subprocess.Popen(
                [program, "-p", str(folder), "-c", str(folder / "nginx.conf")],
                stderr=errors,
            )
        poll(self._answers, seconds=20, what="nginx")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)

    def log(self) -> list[str]:
        """Return a line for each answer: method, path, status, and the nodes asked with what each said."""
        return (self.folder / "access.log").read_text().splitlines()

    def _write(self, nodes: list[int], changes: dict[str, str]) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.authority)
        certificate = authority.issue_cert("localhost")
        certificate.private_key_and_cert_chain_pem.write_to_path(
            str(self.folder / "tls.pem")
        )
        servers = "".join(
            f"server 127.0.0.1:{node} max_fails=1 fail_timeout=5s;" for node in nodes
        )
        text = "".join(file.read_text() for file in SHIPPED.glob("*.conf"))
        for old, new in {
            "server 127.0.0.1:8000 max_fails=1 fail_timeout=5s;": servers,
            "server 127.0.0.1:8001 max_fails=1 fail_timeout=5s;": "",
            "server_name host.example;": "server_name localhost;",
            "listen 80;": f"listen 127.0.0.1:{self.plain_port};",
            "listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl",
            "/etc/nginx/tls/tls.crt": f"{self.folder}/tls.pem",
            "/etc/nginx/tls/tls.key": f"{self.folder}/tls.pem",
            **changes,
        }.items():
            assert old in text, f"{old!r} is not in {SHIPPED}"
            text = text.replace(old, new)
        (self.folder / "shipped.conf").write_text(text)

    def _answers(self) -> bool:
        assert self.process.poll() is None, (self.folder / "stderr.txt").read_text()
        try:
            requests.head(f"http://127.0.0.1:{self.plain_port}/", timeout=10)
        except requests.ConnectionError:
            return False
        return True
