"""Two nodes behind a real nginx, with the configuration that deploy/nginx/ ships: TLS, a prefix, nodes that die."""

import http.client
import re
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from socketserver import StreamRequestHandler, ThreadingTCPServer

import numpy as np
import psutil
import pytest
import requests

from tests.e2e.nginx import Nginx
from tests.e2e.server import MODEL, Server, free_port
from tests.servers import serving
from tests.waiting import poll

pytestmark = pytest.mark.sqlite_only("addresses")

PREFIX = "/emb"
KEY = "test-key-0123456789abcdef"
# As the file says how: the prefix is taken away, or stays.
STRIPS = {"# rewrite ^/emb(/.*)$ $1;": "rewrite ^/emb(/.*)$ $1;"}


class Site(requests.Session):
    """A session with the address that nginx serves; `server` is one of the two nodes behind it."""

    url: str
    nginx: Nginx
    nodes: list[Server]

    @property
    def server(self) -> Server:
        return self.nodes[0]


@pytest.fixture(scope="module")
def port():
    return free_port()


@pytest.fixture(scope="module")
def nodes(prepared_weights, postgres_server, redis_server, port, tmp_path_factory):
    """Two nodes that share PostgreSQL and Redis; they start for the first time, at the same moment."""
    database = postgres_server.create_database("proxied")
    both = [
        Server(
            tmp_path_factory.mktemp("node"),
            PUBLIC_URL=f"https://localhost:{port}{PREFIX}/",
            HTTPS_REDIRECT="true",
            AUTH_TRUSTED_PROXIES="1",
            DATABASE_URL=database,
            CACHE_URL=redis_server.url,
            SECRET_KEY="the same secret on all of the nodes",
            SINGLE_USER_API_KEY=KEY,
            WEB_CONCURRENCY="1",
        )
        for _ in range(2)
    ]
    yield [node.wait_until_ready() for node in both]
    for node in both:
        node.end()


@pytest.fixture(scope="module", params=[STRIPS, {}], ids=["strips", "leaves"])
def site(request, nodes, port, tmp_path_factory):
    session = Site()
    session.nginx = Nginx(
        tmp_path_factory.mktemp("nginx"),
        nodes=[node.port for node in nodes],
        port=port,
        changes=request.param,
    )
    session.verify = session.nginx.authority
    session.trust_env = False
    session.url, session.nodes = f"https://localhost:{port}{PREFIX}", nodes
    yield session
    session.nginx.close()


def log_in(site):
    output = "".join(node.output for node in site.nodes)
    password, *_ = re.findall(r"^Login +admin / (\S+) ", output, re.MULTILINE)
    site.cookies.clear()  # another test may have logged in
    page = site.get(f"{site.url}/admin/")
    token = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)[0]
    return site.post(
        page.url,
        data={"username": "admin", "password": password, "csrfmiddlewaretoken": token},
        headers={"Referer": page.url, "Origin": site.url.removesuffix(PREFIX)},
    )


def test_greeting_names_the_public_address(site):
    assert f"API      {site.url}/api/v1" in site.server.output


def test_api_is_served_below_the_prefix(site):
    body = {"input": "behind a proxy", "model": MODEL}
    for path in ("/api/v1/embeddings", "/api/v1/embeddings/", "//api//v1/embeddings"):
        answer = site.post(site.url + path, json=body, headers=site.server.headers)
        assert answer.status_code == 200, path


def test_slashes_before_the_prefix_count_as_one(site):
    address = f"{site.server.url}//emb//api/v1/embeddings/models"
    answer = requests.get(address, headers=site.server.headers, timeout=60)
    assert answer.status_code == 200


def test_login_leads_to_the_console_with_cookies_for_https_alone(site):
    home = log_in(site)
    assert home.url == f"{site.url}/admin/"
    assert home.status_code == 200
    for cookie in site.cookies:
        assert cookie.secure, cookie.name
        assert cookie.path == f"{PREFIX}/", cookie.name
    assert {"sessionid", "csrftoken"} <= {cookie.name for cookie in site.cookies}


def test_every_link_of_the_pages_stays_below_the_prefix(site):
    log_in(site)
    for page in (
        "/docs",
        "/admin/",
        "/admin/auth/user/",
        "/admin/embeddings/usagehour/",
    ):
        text = site.get(site.url + page).text
        links = re.findall(r'(?:src|href|action)="(/[^"]*)"', text)
        assert links
        assert not [link for link in links if not link.startswith(f"{PREFIX}/")], page
        for link in {link for link in links if "/static/" in link}:
            address = site.url.removesuffix(PREFIX) + link
            assert site.get(address).status_code == 200, link


def test_start_page_leads_to_the_docs_below_the_prefix(site):
    assert site.get(f"{site.url}/").url == f"{site.url}/docs"


def test_document_names_the_prefix_as_its_server(site):
    assert site.get(f"{site.url}/openapi.json").json()["servers"] == [{"url": PREFIX}]


def test_browsers_are_asked_to_keep_to_https(site):
    page = site.get(f"{site.url}/admin/login/")
    assert page.headers["Strict-Transport-Security"] == "max-age=3600"


def test_page_over_http_leads_to_https(site):
    plain = f"http://localhost:{site.nginx.plain_port}"
    for address in (site.server.url, plain):
        page = f"{address}{PREFIX}/admin/login/"
        answer = requests.get(page, allow_redirects=False, timeout=60)
        assert answer.status_code == 301
        assert answer.headers["Location"].startswith("https://")


def test_api_over_http_is_refused_in_json(site):
    answer = requests.post(
        f"http://localhost:{site.nginx.plain_port}{PREFIX}/api/v1/embeddings",
        headers=site.server.headers,
        allow_redirects=False,
        timeout=60,
    )
    assert answer.status_code == 403
    assert answer.json()["error"]["message"] == "Use https."


def test_both_nodes_serve_and_their_connections_are_kept(site):
    def kept():
        nginx = psutil.Process(site.nginx.process.pid)
        connections = [c for one in nginx.children() for c in one.net_connections()]
        ports = {node.port for node in site.nodes}
        return {
            (connection.laddr.port, connection.raddr.port)
            for connection in connections
            if getattr(connection.raddr, "port", 0) in ports
        }

    with requests.Session() as client:  # one connection, so one process of nginx
        client.verify, client.trust_env = site.verify, False

        def embed(text):
            body = {"input": text, "model": MODEL}
            url = f"{site.url}/api/v1/embeddings"
            answer = client.post(url, json=body, headers=site.server.headers)
            assert answer.status_code == 200

        for number in range(8):
            embed(f"to keep {number}")
        before = kept()
        assert {node for _, node in before} == {node.port for node in site.nodes}
        for number in range(8):
            embed(f"kept {number}")
        assert not kept() - before


def test_address_of_the_client_is_the_one_that_nginx_saw(site):
    answer = site.get(f"{site.url}/docs", headers={"X-Forwarded-For": "203.0.113.9"})

    def addresses():
        return [
            line["address"]
            for node in site.nodes
            for line in node.log_lines()
            if line["event"] == "request_finished"
            and line["request_id"] == answer.headers["X-Request-ID"]
        ]

    assert poll(addresses, what="the log's line") == ["127.0.0.1"]


def test_document_of_many_megabytes_goes_there_and_back(site):
    text = "a long line of words, again and again. " * 100_000
    url = f"{site.url}/api/v1/media"
    document = {"title": "long", "content": text}
    made = site.post(url, json=document, headers=site.server.headers)
    assert made.status_code == 201, made.text
    found = site.get(f"{url}/{made.json()['media_id']}", headers=site.server.headers)
    assert found.json()["content"] == text


def test_body_beyond_the_limit_of_nginx_is_refused_in_json(site):
    context = ssl.create_default_context(cafile=site.verify)
    connection = http.client.HTTPSConnection(
        "localhost", site.nginx.port, context=context, timeout=60
    )
    headers = {**site.server.headers, "Content-Length": str(2**30)}
    connection.request("POST", f"{PREFIX}/api/v1/media", b"{", headers)
    answer = connection.getresponse()
    assert answer.status == 413
    assert b'"code":"request_too_large"' in answer.read()
    connection.close()


def test_a_node_that_is_killed_costs_no_embeddings(nodes, launch, tmp_path):
    victim = launch(SINGLE_USER_API_KEY=KEY).wait_until_ready()
    nginx = Nginx(
        tmp_path, nodes=[nodes[0].port, victim.port], port=free_port(), changes={}
    )
    url = f"https://localhost:{nginx.port}/api/v1/embeddings"

    def embed(number):
        body = {"input": f"text {number} " * 40, "model": MODEL}
        answer = requests.post(
            url,
            json=body,
            headers=victim.headers,
            verify=nginx.authority,
            timeout=60,
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["data"][0]["embedding"]

    try:
        with ThreadPoolExecutor(8) as pool:
            vectors = [pool.submit(embed, number) for number in range(60)]
            poll(lambda: sum(v.done() for v in vectors) > 20, what="a third is done")
            victim.end()
            given = np.array([vector.result() for vector in vectors])
        served = {word for line in nginx.log() for word in line.split()}
    finally:
        nginx.close()
    assert f"127.0.0.1:{victim.port}" in served
    own = nodes[0].embed([f"text {number} " * 40 for number in range(60)])
    assert np.abs(given - np.array(own)).max() < 1e-5


@pytest.mark.parametrize(
    ("path", "times"),
    [
        ("/api/v1/embeddings", 2),
        ("/emb/api/v1/embeddings/batch", 2),
        ("/api/v1/media/embeddings/search", 2),
        ("/api/v1/media", 1),
        ("/api/v1/media/embeddings/batch", 1),
        ("/api/v1/auth/keys", 1),
    ],
)
def test_only_what_changes_nothing_is_sent_again(tmp_path, path, times):
    asked = []

    class Dies(StreamRequestHandler):
        """Takes a request and ends without an answer, as a node that is killed."""

        def handle(self):
            asked.append(self.rfile.readline().split()[1])

    with ExitStack() as stack:
        nodes = [
            stack.enter_context(serving(ThreadingTCPServer(("127.0.0.1", 0), Dies)))
            for _ in range(2)
        ]
        ports = [node.server_address[1] for node in nodes]
        nginx = Nginx(tmp_path, nodes=ports, port=free_port(), changes={})
        stack.callback(nginx.close)
        answer = requests.post(
            f"https://localhost:{nginx.port}{path}",
            json={"input": "a text"},
            verify=nginx.authority,
            timeout=60,
        )
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert asked == [path.encode()] * times


def test_without_any_node_it_is_503_in_json_and_says_when_to_come_again(tmp_path):
    nowhere = [free_port(), free_port()]
    nginx = Nginx(tmp_path, nodes=nowhere, port=free_port(), changes={})
    try:
        answer = requests.get(
            f"https://localhost:{nginx.port}/api/v1/models",
            verify=nginx.authority,
            timeout=60,
        )
    finally:
        nginx.close()
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.json()["error"]["type"] == "service_unavailable_error"


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_from_inside_are_not_redirected(site, path):
    answer = requests.get(site.server.url + path, allow_redirects=False, timeout=60)
    assert answer.status_code == 200


@pytest.fixture(scope="module")
def far_proxy_server(prepared_weights, migrated, tmp_path_factory):
    """A server whose proxy is another machine: this one's word does not count."""
    server = Server(
        tmp_path_factory.mktemp("far"),
        database=migrated,
        PUBLIC_URL="https://embed.example/emb",
        ALLOWED_HOSTS="127.0.0.1",
        HTTPS_REDIRECT="true",
        FORWARDED_ALLOW_IPS="192.0.2.1",
    )
    yield server.wait_until_ready()
    server.end()


@pytest.mark.parametrize(
    "claim",
    [
        {"X-Forwarded-Proto": "https"},
        {"X-Forwarded-Ssl": "on"},
        {"SCRIPT_NAME": "/evil", "X-Script-Name": "/evil"},
        {"X-Forwarded-Prefix": "/evil", "X-Forwarded-Host": "evil.example"},
    ],
)
def test_claims_of_who_is_no_proxy_do_not_count(far_proxy_server, claim):
    answer = requests.get(
        f"{far_proxy_server.url}/emb/admin/login/",
        headers=claim,
        allow_redirects=False,
        timeout=60,
    )
    assert answer.status_code == 301
    own = far_proxy_server.url.replace("http://", "https://")
    assert answer.headers["Location"] == f"{own}/emb/admin/login/"


@pytest.mark.parametrize("host", ["evil.example", "embed.example.evil.example"])
def test_other_host_names_are_refused(far_proxy_server, host):
    for path in ("/healthz", "/emb/docs", "/api/v1/models"):
        answer = far_proxy_server.get(path, Host=host)
        assert answer.status_code == 400, path
        assert "ALLOWED_HOSTS" in answer.json()["detail"]
    assert far_proxy_server.get("/healthz", Host="embed.example").status_code == 200
