import pytest

from providers.addresses import origin_of


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("https://Host.example/v1?a=b", "https://host.example:443"),
        ("http://host.example", "http://host.example:80"),
        ("https://host.example:443/v1", "https://host.example:443"),
        ("http://[2001:DB8::1]:8080/", "http://[2001:db8::1]:8080"),
    ],
)
def test_origin_is_scheme_host_and_port(address, origin):
    assert origin_of(address) == origin


@pytest.mark.parametrize(
    "address",
    [
        "",
        "host.example",
        "ftp://host.example",
        "https://user@host.example",
        "https://host.example@evil.example",
        "https://evil.example\\@host.example",
        "https://host.example:bad",
        "https://host.example:99999",
        "https://höst.example",
        "https://host%2eexample",
        "https://[host.example",
        "https:///v1",
    ],
)
def test_address_that_two_readers_could_take_for_two_hosts_has_none(address):
    assert origin_of(address) is None
