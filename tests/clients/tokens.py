"""Verifies a token with PyJWT and with jwcrypto, and issues one as the original did.

Reads {"token", "secret", "username", "expires_in"} and prints what each library found.
"""

import datetime
import json
import sys

import jwt
from jwcrypto import jwk, jwt as cryptojwt

question = json.load(sys.stdin)
secret = question["secret"]

by_pyjwt = jwt.decode(question["token"], secret, algorithms=["HS256"])

key = jwk.JWK.from_password(secret)
checked = cryptojwt.JWT(key=key, jwt=question["token"], algs=["HS256"], expected_type="JWS")
by_jwcrypto = json.loads(checked.claims)

now = datetime.datetime.now(tz=datetime.timezone.utc)
original = jwt.encode(
    {
        "username": question["username"],
        "exp": now + datetime.timedelta(seconds=question["expires_in"]),
        "iat": now,
        "admin": True,
    },
    secret,
    algorithm="HS256",
)

json.dump(
    {
        "pyjwt": by_pyjwt,
        "jwcrypto": by_jwcrypto,
        "header": jwt.get_unverified_header(question["token"]),
        "original": original,
    },
    sys.stdout,
)
