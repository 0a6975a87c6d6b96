"""Verifies a token with PyJWT, with the PyJWT of the original, and with jwcrypto, and issues one as
the original did.

Reads {"token", "secret", "username", "expires_in"} and prints what each library found.
"""

import json
import os
import subprocess
import sys

import jwt
from jwcrypto import jwk, jwt as cryptojwt

question = json.load(sys.stdin)
secret = question["secret"]

by_pyjwt = jwt.decode(question["token"], secret, algorithms=["HS256"])

key = jwk.JWK.from_password(secret)
checked = cryptojwt.JWT(key=key, jwt=question["token"], algs=["HS256"], expected_type="JWS")
by_jwcrypto = json.loads(checked.claims)

ORIGINAL = """
import datetime, json, jwt, sys

question = json.load(sys.stdin)
now = datetime.datetime.now(tz=datetime.timezone.utc)
issued = jwt.encode(
    {
        "username": question["username"],
        "exp": now + datetime.timedelta(seconds=question["expires_in"]),
        "iat": now,
        "admin": True,
    },
    question["secret"],
    algorithm="HS256",
)
claims = jwt.decode(question["token"], question["secret"], algorithms=["HS256"])
json.dump({"version": jwt.__version__, "claims": claims, "issued": issued}, sys.stdout)
"""
ran = subprocess.run(
    [sys.executable, "-c", ORIGINAL],
    input=json.dumps(question),
    env={**os.environ, "PYTHONPATH": "/usr/local/lib/original"},
    stdout=subprocess.PIPE,
    text=True,
    check=True,
)

json.dump(
    {
        "pyjwt": by_pyjwt,
        "jwcrypto": by_jwcrypto,
        "original": json.loads(ran.stdout),
        "header": jwt.get_unverified_header(question["token"]),
    },
    sys.stdout,
)
