import io

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.urls import clear_script_prefix

from embeddings.fast_path.handler import FastHandler
from embeddings_project.env import Env
from embeddings_project.site import (
    below_prefix,
    read_proxies,
    read_site,
    without_prefix,
)


def site(*, loopback=True, **values):
    env = Env(values)
    read = read_site(env, loopback=loopback)
    env.finish()
    return read


def test_loopback_without_an_address_serves_its_own_names_over_http():
    read = site()
    assert read.hosts == ("localhost", "127.0.0.1", "[::1]")
    assert (read.prefix, read.https, read.hsts_seconds, read.origins) == (
        "",
        False,
        0,
        (),
    )


def test_network_without_an_address_serves_any_name():
    assert site(loopback=False).hosts == ("*",)


def test_https_address_says_hosts_origins_and_cookies():
    read = site(loopback=False, PUBLIC_URL="https://Embed.example:8443/team/emb/")
    assert read.hosts == ("localhost", "127.0.0.1", "[::1]", "embed.example")
    assert read.origins == ("https://embed.example:8443",)
    assert (read.prefix, read.https, read.hsts_seconds) == ("/team/emb", True, 3600)


def test_http_address_leaves_cookies_as_they_are():
    read = site(PUBLIC_URL="http://intranet")
    assert (read.https, read.hsts_seconds) == (False, 0)
    assert read.origins == ("http://intranet",)


def test_hosts_and_origins_that_were_named_stay():
    read = site(
        PUBLIC_URL="https://[2001:db8::1]",
        ALLOWED_HOSTS="10.0.0.5",
        CSRF_TRUSTED_ORIGINS="https://old.example",
    )
    assert read.hosts == ("10.0.0.5", "[2001:db8::1]")
    assert read.origins == ("https://old.example", "https://[2001:db8::1]")


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"PUBLIC_URL": "embed.example"}, "PUBLIC_URL must be an http"),
        ({"PUBLIC_URL": "https://embed.example/?a=b"}, "PUBLIC_URL must be an address"),
        ({"PUBLIC_URL": "https://u:p@embed.example"}, "PUBLIC_URL must be an address"),
        ({"PUBLIC_URL": "https://embed.example/a b"}, "PUBLIC_URL must have a path of"),
        ({"PUBLIC_URL": "https://embed.example//a"}, "PUBLIC_URL must have a path of"),
        (
            {"PUBLIC_URL": "https://embed.example/api"},
            "PUBLIC_URL must not have a path",
        ),
        ({"PUBLIC_URL": "https://embed.example/admin/x"}, "PUBLIC_URL must not have a"),
        ({"HSTS_SECONDS": "60"}, "HSTS_SECONDS needs a PUBLIC_URL"),
        ({"HTTPS_REDIRECT": "on"}, "HTTPS_REDIRECT needs a PUBLIC_URL"),
        ({"PUBLIC_URLS": "https://embed.example"}, "did you mean PUBLIC_URL"),
    ],
)
def test_address_that_makes_no_sense_is_refused(values, complaint):
    with pytest.raises(ImproperlyConfigured, match=complaint):
        site(**values)


@pytest.mark.parametrize(
    ("given", "counted", "believed"),
    [
        ("", 0, "127.0.0.1,::1"),
        ("", 1, "*"),
        ("10.0.0.0/8, 2001:db8::1", 2, "10.0.0.0/8,2001:db8::1"),
        ("*", 0, "*"),
    ],
)
def test_whose_word_on_https_is_believed(given, counted, believed):
    env = Env({"FORWARDED_ALLOW_IPS": given})
    assert read_proxies(env, counted=counted) == believed
    env.finish()


@pytest.mark.parametrize("given", ["proxy.example", "10.0.0.1/8", "10.0.0.1;10.0.0.2"])
def test_proxy_that_is_no_address_is_refused(given):
    env = Env({"FORWARDED_ALLOW_IPS": given})
    read_proxies(env, counted=0)
    with pytest.raises(ImproperlyConfigured, match="FORWARDED_ALLOW_IPS must be"):
        env.finish()


@pytest.mark.parametrize(
    ("path", "rest"),
    [
        ("/emb/api/v1/embeddings", "/api/v1/embeddings"),
        ("/emb//api/v1", "//api/v1"),
        ("//emb/api/v1", "/api/v1"),
        ("/emb/", "/"),
        ("/emb", "/"),
        ("/api/v1/embeddings", "/api/v1/embeddings"),
        ("/embeddings", "/embeddings"),
        ("/", "/"),
    ],
)
def test_prefix_is_taken_away_where_the_proxy_left_it(path, rest):
    assert without_prefix(path, "/emb") == rest


@pytest.mark.parametrize("path", ["/emb/healthz", "/healthz"])
def test_server_answers_with_and_without_its_prefix(settings, db, path):
    settings.FORCE_SCRIPT_NAME = "/emb"
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "HTTP_HOST": "localhost",
        "wsgi.input": io.BytesIO(),
        "wsgi.url_scheme": "http",
    }
    said = []
    try:
        application = below_prefix(FastHandler(), settings.FORCE_SCRIPT_NAME)
        application(environ, lambda status, headers: said.append(status))
    finally:
        clear_script_prefix()
    assert said == ["200 OK"]


def deploy_ids():
    return {
        message.id
        for message in run_checks(
            tags=["security", "embeddings"], include_deployment_checks=True
        )
        if not message.is_silenced()
    }


def test_deploy_check_is_content_on_loopback_and_behind_tls(settings, fakes):
    assert deploy_ids() == set()
    settings.LOOPBACK, settings.PUBLIC_URL = False, "https://embed.example"
    assert deploy_ids() == set()


@pytest.mark.parametrize("url", ["", "http://embed.example"])
def test_deploy_check_asks_a_server_of_the_network_for_tls(settings, fakes, url):
    settings.LOOPBACK, settings.PUBLIC_URL = False, url
    assert deploy_ids() == {"embeddings.W040"}
