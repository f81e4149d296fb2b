"""A receiver's side of Standard Webhooks, written from the specification (standardwebhooks.com), not from our code."""

import base64
import hashlib
import hmac


def verified(headers, body, *, secret, now, tolerance_seconds=300):
    """Return the message's id. Raises AssertionError where a receiver has to refuse the message."""
    message, moment = headers["webhook-id"], headers["webhook-timestamp"]
    assert abs(now - int(moment)) <= tolerance_seconds, "too old, or too new"
    # The secret is shown as `whsec_` and base64; between 24 and 64 bytes.
    key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    assert 24 <= len(key) <= 64
    signed = b".".join([message.encode(), moment.encode(), body])
    expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    # One or several signatures, parted by spaces, each with its version.
    given = [part.partition(",") for part in headers["webhook-signature"].split(" ")]
    assert any(
        version == "v1" and hmac.compare_digest(value, expected)
        for version, _, value in given
    ), "no signature fits"
    return message
