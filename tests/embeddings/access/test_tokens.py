"""Tokens, and what attackers try with them."""

import base64
import hashlib
import hmac
import json
import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from rest_framework.test import APIClient

from embeddings.access.caller_lookup import caller_of_user
from embeddings.access.tokens import make_tokens, user_of_access_token
from tests.embeddings.multi_user import SECRET, bearer, get, refused, signed


@pytest.fixture(autouse=True)
def _ada(ada):
    pass


def encoded(part):
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def handmade(header, payload, secret=SECRET):
    """Return a token signed right, whatever it says: libraries refuse to make some of these."""
    signing_input = f"{encoded(header)}.{encoded(payload)}"
    digest = hmac.new(secret.encode(), signing_input.encode(), hashlib.sha256).digest()
    return f"{signing_input}.{encoded(digest)}"


HS256 = {"alg": "HS256", "typ": "JWT"}
SOON = int(time.time()) + 600
GOOD = {"sub": "ada", "exp": SOON}


def unsigned(alg):
    return f"{encoded({'alg': alg, 'typ': 'JWT'})}.{encoded(GOOD)}."


def tampered():
    head, _, signature = signed().split(".")
    return f"{head}.{encoded({**GOOD, 'sub': 'root'})}.{signature}"


ATTACKS = {
    "none": lambda: unsigned("none"),
    "None": lambda: unsigned("None"),
    "NONE": lambda: unsigned("NONE"),
    "nOnE": lambda: unsigned("nOnE"),
    "none with a signature": lambda: handmade({"alg": "none"}, GOOD),
    "no alg": lambda: handmade({"typ": "JWT"}, GOOD),
    "alg null": lambda: handmade({"alg": None}, GOOD),
    "alg a list": lambda: handmade({"alg": ["HS256"]}, GOOD),
    "alg an object": lambda: handmade({"alg": {}}, GOOD),
    "another algorithm": lambda: jwt.encode(GOOD, SECRET * 2, algorithm="HS512"),
    "HS384": lambda: jwt.encode(GOOD, SECRET * 2, algorithm="HS384"),
    "another secret": lambda: signed(secret=SECRET[::-1]),
    "empty secret": lambda: handmade(HS256, GOOD, secret=""),
    "tampered payload": tampered,
    "no signature": lambda: signed().rpartition(".")[0] + ".",
    "two parts": lambda: signed().rpartition(".")[0],
    "five parts": lambda: signed() + ".a.b",
    "expired": lambda: signed(exp=int(time.time()) - 60),
    "exp zero": lambda: signed(exp=0),
    "exp below zero": lambda: handmade(HS256, {**GOOD, "exp": -1e30}),
    "exp 1e30": lambda: signed(exp=1e30),
    "exp 10**40": lambda: signed(exp=10**40),
    "exp infinite": lambda: handmade(HS256, b'{"sub": "ada", "exp": 1e400}'),
    "exp Infinity": lambda: handmade(HS256, b'{"sub": "ada", "exp": Infinity}'),
    "exp NaN": lambda: handmade(HS256, b'{"sub": "ada", "exp": NaN}'),
    "exp null": lambda: signed(exp=None),
    "exp text": lambda: handmade(HS256, {**GOOD, "exp": "tomorrow"}),
    "exp a list": lambda: handmade(HS256, {**GOOD, "exp": [SOON]}),
    "no exp": lambda: signed(exp=...),
    "not yet valid": lambda: signed(nbf=int(time.time()) + 3600),
    "issued in the future": lambda: signed(iat=int(time.time()) + 3600),
    "nbf infinite": lambda: handmade(
        HS256, b'{"sub": "ada", "exp": 9999999999, "nbf": 1e400}'
    ),
    "iat a list": lambda: handmade(HS256, {**GOOD, "iat": []}),
    "no sub": lambda: signed(sub=...),
    "sub null": lambda: handmade(HS256, {**GOOD, "sub": None}),
    "sub a number": lambda: handmade(HS256, {**GOOD, "sub": 1}),
    "sub a list": lambda: handmade(HS256, {**GOOD, "sub": ["ada"]}),
    "sub true": lambda: handmade(HS256, {**GOOD, "sub": True}),
    "sub empty": lambda: signed(sub=""),
    "sub with NUL": lambda: signed(sub="ada\0"),
    "sub a lone surrogate": lambda: signed(sub="ada\ud800"),
    "sub in capitals": lambda: signed(sub="ADA"),
    "sub with SQL": lambda: signed(sub="' OR 1=1 --"),
    "sub too long": lambda: signed(sub="a" * 5000),
    "unknown user": lambda: signed(sub="nobody"),
    "payload a list": lambda: handmade(HS256, [GOOD]),
    "payload text": lambda: handmade(HS256, b'"ada"'),
    "payload not JSON": lambda: handmade(HS256, b"{"),
    "payload nested": lambda: handmade(HS256, b'{"sub":' + b"[" * 2000 + b"]" * 2000),
    "header a list": lambda: handmade([], GOOD),
    "header nested": lambda: handmade(b'{"alg":' + b"[" * 4000, GOOD),
    "kid a path": lambda: signed(headers={"kid": "../../dev/null"}, secret=""),
    "critical extension": lambda: handmade({**HS256, "crit": ["exp"]}, GOOD),
    "huge": lambda: signed(filler="x" * 100_000),
    "not a token": lambda: "x" * 40,
    "dots": lambda: "..",
    "not ASCII": lambda: "tökén.tökén.tökén",
    "two tokens": lambda: f"{signed()} {signed()}",
    "joined by a comma": lambda: f"{signed()},{signed()}",
}


@pytest.mark.filterwarnings("ignore:The HMAC key is")
@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_is_401(attack):
    try:
        token = ATTACKS[attack]()
    except jwt.InvalidKeyError:  # PyJWT does not sign with an empty secret at all
        token = handmade({**HS256, "kid": "../../dev/null"}, GOOD, secret="")
    detail = refused(get(**bearer(token)))
    assert "ada" not in detail


def test_bare_token_of_another_server_is_let_in():
    assert get(**bearer(signed())).status_code == 200
    assert get(**bearer(signed(iat=...))).status_code == 200
    assert get(Authorization=f"bearer  {signed()} ").status_code == 200


def test_foreign_claims_do_no_harm():
    token = signed(jti="1", token_type="Bearer", aud="other", iss="other", scope="x")
    assert get(**bearer(token)).status_code == 200


def test_far_but_sane_expiry_is_taken():
    assert get(**bearer(signed(exp=32503680000))).status_code == 200


def test_clock_skew_within_the_leeway_is_forgiven():
    assert get(**bearer(signed(exp=int(time.time()) - 3))).status_code == 200


def test_inactive_user_is_401(ada):
    ada.is_active = False
    ada.save()
    refused(get(**bearer(signed())))


def test_answer_says_that_a_token_expired():
    detail = refused(get(**bearer(signed(exp=int(time.time()) - 60))))
    assert detail == "The token has expired."


def test_answer_without_credentials_says_what_to_send():
    detail = refused(get())
    assert "X-API-KEY" in detail
    assert "Bearer" in detail


@pytest.mark.parametrize("scheme", ["Basic", "Token", "Digest", "BearerX", ""])
def test_other_schemes_are_401(scheme):
    refused(get(Authorization=f"{scheme} {signed()}"))


def test_token_in_the_query_string_is_not_read():
    token = signed()
    for name in ("token", "access_token", "api_key", "authorization"):
        refused(get(f"/api/v1/embeddings/models?{name}={token}"))


def test_refresh_token_is_no_access_token_and_the_other_way_round(ada):
    tokens = make_tokens(ada)
    assert get(**bearer(tokens["access"])).status_code == 200
    refused(get(**bearer(tokens["refresh"])))
    client, url = APIClient(), "/api/v1/auth/token/refresh"
    for token in (tokens["access"], signed(), signed(token_type="refresh")):
        refused(client.post(url, {"refresh": token}, format="json"))
    response = client.post(url, {"refresh": tokens["refresh"]}, format="json")
    assert get(**bearer(response.json()["access"])).status_code == 200


def test_new_password_ends_tokens_of_ours(ada):
    tokens = make_tokens(ada)
    ada.set_password("another horse battery")
    ada.save()
    refused(get(**bearer(tokens["access"])))
    response = APIClient().post(
        "/api/v1/auth/token/refresh", {"refresh": tokens["refresh"]}, format="json"
    )
    refused(response)


def test_token_costs_one_query(django_assert_num_queries):
    user_of_access_token(signed())
    with django_assert_num_queries(1):
        assert caller_of_user(user_of_access_token(signed())).username == "ada"


def pem(key):
    return (
        key.public_key()
        .public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        .decode()
    )


PRIVATE = {
    "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
}


@pytest.fixture(params=sorted(PRIVATE))
def algorithm(request, access):
    access(
        jwt_algorithm=request.param,
        jwt_public_key=pem(PRIVATE[request.param]),
        jwt_secret_key="",
    )
    return request.param


def test_public_key_verifies_tokens(algorithm):
    token = signed(secret=PRIVATE[algorithm], algorithm=algorithm)
    assert get(**bearer(token)).status_code == 200
    head, _, signature = token.split(".")
    refused(get(**bearer(f"{head}.{encoded({**GOOD, 'sub': 'root'})}.{signature}")))


def test_public_key_is_no_secret_to_sign_with(algorithm):
    public = pem(PRIVATE[algorithm])
    for text in (public, public.strip(), public + "\n"):
        refused(get(**bearer(handmade(HS256, GOOD, secret=text))))
    refused(get(**bearer(handmade(HS256, GOOD, secret=""))))
    refused(get(**bearer(handmade({"alg": algorithm}, GOOD, secret=public))))
    refused(get(**bearer(unsigned("none"))))


def test_server_with_a_public_key_makes_no_tokens(algorithm):
    body = {"username": "ada", "password": "correct horse battery"}
    response = APIClient().post("/api/v1/auth/token", body, format="json")
    assert response.status_code == 404
    assert "makes no tokens" in response.json()["detail"]


def test_audience_and_issuer_are_checked_where_the_operator_asks(access, ada):
    access(jwt_audience="embeddings", jwt_issuer="https://login.example.org")
    good = {"aud": "embeddings", "iss": "https://login.example.org"}
    assert get(**bearer(signed(**good))).status_code == 200
    assert get(**bearer(make_tokens(ada)["access"])).status_code == 200
    refused(get(**bearer(signed())))
    refused(get(**bearer(signed(**{**good, "aud": "other"}))))
    refused(get(**bearer(signed(**{**good, "iss": "https://elsewhere.example.org"}))))


FORMER = "the-Former-secret-of-the-tests-0123456789"


def test_former_secret_still_lets_in_while_it_is_named(access, ada):
    access(jwt_secret_key=FORMER)
    ours, foreign = make_tokens(ada)["access"], signed(secret=FORMER)
    access(former_jwt_secret_key=FORMER)
    for token in (ours, foreign, signed()):
        assert get(**bearer(token)).status_code == 200
    access()
    for token in (ours, foreign):
        refused(get(**bearer(token)))


def test_refresh_token_of_the_former_secret_leads_to_one_of_the_new(access, ada):
    access(jwt_secret_key=FORMER)
    refresh = make_tokens(ada)["refresh"]
    access(former_jwt_secret_key=FORMER)
    answer = APIClient().post(
        "/api/v1/auth/token/refresh", {"refresh": refresh}, format="json"
    )
    assert answer.status_code == 200
    access()
    assert get(**bearer(answer.json()["access"])).status_code == 200


def test_new_password_ends_tokens_of_the_former_secret(access, ada):
    access(jwt_secret_key=FORMER)
    token = make_tokens(ada)["access"]
    access(former_jwt_secret_key=FORMER)
    ada.set_password("another-Password-1")
    ada.save()
    assert "password" in refused(get(**bearer(token)))


def test_expired_token_of_the_former_secret_says_so(access):
    access(former_jwt_secret_key=FORMER)
    token = signed(secret=FORMER, exp=int(time.time()) - 600)
    assert "expired" in refused(get(**bearer(token)))


def test_former_secret_signs_nothing_new(access, ada):
    access(former_jwt_secret_key=FORMER)
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(make_tokens(ada)["access"], FORMER, algorithms=["HS256"])


def test_former_public_key_still_verifies_while_it_is_named(access):
    former, present = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    token = signed(secret=former, algorithm="ES256")
    keys = {"jwt_algorithm": "ES256", "jwt_public_key": pem(present)}
    access(**keys, former_jwt_public_key=pem(former))
    assert get(**bearer(token)).status_code == 200
    access(**keys)
    refused(get(**bearer(token)))


@pytest.mark.filterwarnings("ignore:The HMAC key is")
@pytest.mark.parametrize("own", [{}, {"former_jwt_secret_key": FORMER}])
def test_former_key_of_another_kind_opens_nothing(access, own):
    public = pem(PRIVATE["RS256"])
    access(former_jwt_public_key=public, **own)
    for secret in ("", public):
        refused(get(**bearer(handmade(HS256, GOOD, secret=secret))))
    refused(get(**bearer(signed(secret=PRIVATE["RS256"], algorithm="RS256"))))
