"""Behind a proxy that ends TLS and serves the server below a prefix, which it takes away or leaves."""

import re

import pytest
import requests

from tests.e2e.proxy import Proxy
from tests.e2e.server import MODEL, Server, free_port

pytestmark = pytest.mark.sqlite_only("addresses")

PREFIX = "/emb"


class Site(requests.Session):
    """A session with the address that the proxy serves, and the server behind it."""

    url: str
    server: Server


@pytest.fixture(scope="module", params=[PREFIX, ""], ids=["strips", "leaves"])
def site(request, prepared_weights, migrated, tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("behind"), free_port()
    proxy = Proxy(port=port, strips=request.param)
    url = f"https://localhost:{proxy.port}{PREFIX}"
    server = Server(
        folder,
        database=migrated,
        PORT=str(port),
        PUBLIC_URL=url + "/",
        HTTPS_REDIRECT="true",
    )
    session = Site()
    proxy.certificate.write_to_path(folder / "ca.pem")
    session.verify = str(folder / "ca.pem")
    session.trust_env = False
    session.url, session.server = url, server.wait_until_ready()
    yield session
    server.end()
    proxy.close()


def log_in(site):
    password, *_ = re.findall(
        r"^Login +admin / (\S+) ", site.server.output, re.MULTILINE
    )
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
    answer = requests.get(
        f"{site.server.url}{PREFIX}/admin/login/", allow_redirects=False, timeout=60
    )
    assert answer.status_code == 301
    assert answer.headers["Location"].startswith("https://")


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
