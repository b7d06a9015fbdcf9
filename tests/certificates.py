"""A certificate authority of our own, with openssl's command line: right certificates, and wrong ones of each kind."""

from __future__ import annotations

import ssl
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = """
[ca]
default_ca = ours
[ours]
database = index.txt
new_certs_dir = .
default_md = sha256
policy = any
rand_serial = yes
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
"""
NEW_KEY = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -config openssl.cnf"
OF_AN_AUTHORITY = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign", "subjectKeyIdentifier=hash"]
"""Python 3.13 and later take no other for one (RFC 5280)."""
HERE = "IP:127.0.0.1,DNS:localhost"


class Authority:
    """It lives in a folder; `ca_file` is what a client has to trust."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "openssl.cnf").write_text(CONFIG)
        (folder / "index.txt").write_text("")
        strict = " ".join(f"-addext {extension}" for extension in OF_AN_AUTHORITY)
        self._openssl(f"{NEW_KEY} -x509 -days 2 -subj /CN=ours -keyout ca.key -out ca.pem {strict}")
        self.ca_file = str(folder / "ca.pem")

    def issue(
        self, name: str, *, hosts: str = HERE, starts: str = "20200101", ends: str = "20491231"
    ) -> ssl.SSLContext:
        """A server's side with a certificate for these hosts and days, signed by this authority."""
        (self._folder / "hosts.cnf").write_text(f"subjectAltName={hosts}\nauthorityKeyIdentifier=keyid\n")
        self._openssl(f"{NEW_KEY} -subj /CN={name} -keyout {name}.key -out {name}.csr")
        days = f"-startdate {starts}000000Z -enddate {ends}000000Z"
        self._openssl(
            f"ca -batch -notext -config openssl.cnf -cert ca.pem -keyfile ca.key {days} -extfile hosts.cnf"
            f" -in {name}.csr -out {name}.pem"
        )
        return self._server(name)

    def sign_itself(self, name: str) -> ssl.SSLContext:
        """A server's side with a certificate that nobody else vouches for."""
        self._openssl(
            f"{NEW_KEY} -x509 -days 2 -subj /CN={name} -addext subjectAltName={HERE} -keyout {name}.key -out {name}.pem"
        )
        return self._server(name)

    def _server(self, name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        return context

    def _openssl(self, arguments: str) -> None:
        subprocess.run(["openssl", *arguments.split()], cwd=self._folder, check=True, capture_output=True)
