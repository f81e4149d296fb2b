import gzip
import logging
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from unittest.mock import Mock

import pytest
import trustme

from providers.exceptions import (
    ProviderMalformed,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
)
from providers.remote import transport
from providers.remote.client import HttpClient
from providers.remote.deadline import Deadline
from tests.collector import collector_off, failing
from tests.providers.remote.echo import EchoProvider, embed
from tests.servers import serving
from tests.upstreams import Fault, OpenAIUpstream


def test_connections_are_kept_and_reused(open_echo, upstream, monkeypatch):
    connect = Mock(wraps=socket.create_connection)
    monkeypatch.setattr(socket, "create_connection", connect)
    provider = open_echo()

    for _ in range(5):
        embed(provider, ["text"])

    assert len(upstream.calls) == 5
    assert connect.call_count == 1


def test_name_resolution_that_hangs_meets_the_deadline(open_echo, monkeypatch):
    released = threading.Event()

    def hang(*args, **kwargs):
        released.wait(30)
        raise socket.gaierror("released")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    provider = open_echo(base_url="http://upstream.invalid/v1")
    started = time.monotonic()
    try:
        with pytest.raises(ProviderTimeout):
            embed(provider, ["text"], timeout_seconds=0.2)
        assert time.monotonic() - started < 2
    finally:
        released.set()


def refused(open_echo):
    """Return a provider whose upstream does not listen."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return open_echo(base_url=f"http://127.0.0.1:{closed.getsockname()[1]}/v1")


@pytest.mark.parametrize("fault", [None, Fault.CUT, Fault.SERVER_ERROR])
def test_a_failed_connection_holds_nothing_once_it_is_handled(
    open_echo, upstream, fault
):
    upstream.fault = fault
    provider = open_echo() if fault else refused(open_echo)
    with collector_off() as held:

        def ask():
            texts = held()
            return embed(provider, ["text"]), texts

        failing(ask, ProviderUnavailable)
        assert held.alive() == 0


def test_listener_that_never_accepts_meets_the_deadline(open_echo):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        provider = open_echo(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}")

        with pytest.raises(ProviderTimeout):
            embed(provider, ["x" * 5_000_000], timeout_seconds=0.3)


def test_unknown_host_is_unavailable(open_echo, monkeypatch):
    def fail(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    provider = open_echo(base_url="http://upstream.invalid/v1", retries=0)

    with pytest.raises(ProviderUnavailable) as caught:
        embed(provider, ["text"])

    assert "upstream.invalid" not in str(caught.value)


def test_environments_proxies_are_not_taken(open_echo, upstream, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    embed(open_echo(), ["text"])

    assert len(upstream.calls) == 1


def test_given_proxy_is_taken(open_echo, upstream):
    """An HTTP proxy is asked for the whole address; the stub is one here."""
    with OpenAIUpstream() as proxy:
        address = proxy.address.replace("http://", "http://user:secret@")
        provider = open_echo(proxy_url=address, retries=0)

        # The stub refuses the absolute address as a path, with a 404.
        with pytest.raises(Exception, match="echo: Invalid URL"):
            embed(provider, ["text"])

    assert upstream.calls == []
    (call,) = proxy.calls
    assert call.path == f"{upstream.base_url}/embeddings"
    assert call.headers["proxy-authorization"].startswith("Basic ")


def test_packed_answers_are_unpacked(open_echo, upstream, monkeypatch):
    respond_with(upstream, monkeypatch, lambda body: gzip.compress(body))

    assert embed(open_echo(), ["text"]).vectors.shape == (1, 1536)


def test_packed_bomb_is_refused(open_echo, upstream, monkeypatch):
    bomb = gzip.compress(b" " * 50_000_000, mtime=0)
    respond_with(upstream, monkeypatch, lambda body: bomb)

    with pytest.raises(ProviderMalformed, match="more than"):
        embed(open_echo(), ["text"])


@pytest.mark.parametrize("fault", [Fault.HUGE, Fault.HUGE_DECLARED])
def test_answer_that_is_too_long_is_not_read_to_its_end(open_echo, upstream, fault):
    upstream.fault = fault

    with pytest.raises(ProviderMalformed, match="answered with more than 140288 bytes"):
        embed(open_echo(), ["text"])


def test_badly_packed_answer_is_malformed(open_echo, upstream, monkeypatch):
    respond_with(upstream, monkeypatch, lambda body: b"no gzip at all")

    with pytest.raises(ProviderMalformed):
        embed(open_echo(), ["text"])


def test_http_libraries_log_no_address(open_echo, upstream, caplog):
    caplog.set_level(logging.DEBUG)

    embed(open_echo(), ["text"])

    assert upstream.address not in caplog.text
    assert upstream.api_key not in caplog.text


def test_certificate_of_nobody_known_is_refused(upstream):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    server = upstream._server
    server.socket = context.wrap_socket(server.socket, server_side=True)
    address = upstream.base_url.replace("http://127.0.0.1", "https://localhost")
    provider = EchoProvider({"api_key": "k", "base_url": address, "retries": 0})

    with pytest.raises(ProviderUnavailable, match="ConnectError"):
        embed(provider, ["text"])

    assert upstream.calls == []
    provider.close()


def test_threads_share_one_client(open_echo, upstream):
    provider = open_echo()
    failures = []

    def work(number):
        vectors = embed(provider, [f"text {number}", f"other {number}"]).vectors
        if vectors.shape != (2, 1536):
            failures.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert len(upstream.calls) == 20
    assert len(provider._http._pools) == 1


def respond_with(upstream, monkeypatch, pack):
    good_answer = upstream._good_answer

    def packed(call, fault):
        body, headers = good_answer(call, fault)
        return pack(body), {**headers, "Content-Encoding": "gzip"}

    monkeypatch.setattr(upstream, "_good_answer", packed)


def post(client, url, **options):
    return client.post(
        url,
        headers={},
        content=b"{}",
        deadline=Deadline.after(5, time.monotonic),
        **{"max_bytes": 1000, **options},
    )


@pytest.fixture
def receiver():
    """A server that answers 201 to whatever it gets, and notes the Host header."""

    class Handler(BaseHTTPRequestHandler):
        server: "Server"

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.server.hosts.append(self.headers["Host"])
            self.send_response(201)
            self.end_headers()

        def log_message(self, *args):
            pass

    class Server(HTTPServer):
        def __init__(self):
            super().__init__(("127.0.0.1", 0), Handler)
            self.hosts = []

    with serving(Server()) as server:
        yield server


@pytest.fixture
def client_at():
    """Return a function that makes a client which looks names up by the given function."""
    made = []

    def make(addresses):
        made.append(HttpClient("the receiver", addresses=addresses))
        return made[-1]

    yield make
    for client in made:
        client.close()


def test_addresses_of_the_callers_own_look_up_are_called_in_turn(receiver, client_at):
    """The first refuses; the name stays the Host header's."""
    port, asked = receiver.server_port, []

    def addresses(host, port):
        asked.append((host, port))
        return ["127.0.0.9", "127.0.0.1"]

    client = client_at(addresses)
    reply = post(client, f"http://hooks.example:{port}/", max_bytes=None)
    assert reply.status == 201
    assert receiver.hosts == [f"hooks.example:{port}"]
    assert asked == [("hooks.example", port)]


def test_refusal_of_the_callers_own_look_up_is_the_calls(receiver, client_at):
    def addresses(host, port):
        raise ProviderRejected("Not there.")

    with pytest.raises(ProviderRejected, match="Not there"):
        post(client_at(addresses), f"http://localhost:{receiver.server_port}/")
    assert receiver.hosts == []


@pytest.mark.parametrize(
    ("name", "fits"), [("hooks.example", True), ("else.example", False)]
)
def test_certificate_is_the_names_and_not_the_addresss(
    receiver, client_at, monkeypatch, name, fits
):
    authority = trustme.CA()
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("hooks.example").configure_cert(theirs)
    receiver.socket = theirs.wrap_socket(receiver.socket, server_side=True)
    ours = ssl.create_default_context()
    authority.configure_trust(ours)
    monkeypatch.setattr(transport, "_ssl_context", lambda: ours)
    client = client_at(lambda host, port: ["127.0.0.1"])
    url = f"https://{name}:{receiver.server_port}/"
    if fits:
        assert post(client, url).status == 201
    else:
        with pytest.raises(ProviderUnavailable):
            post(client, url)


def test_url_that_is_none_is_said_so(client_at):
    with pytest.raises(ProviderUnavailable, match="InvalidURL"):
        post(client_at(lambda host, port: []), "http://[::1%/")
