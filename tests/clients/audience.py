"""Verifies a token with PyJWT for an audience and an issuer, and signs one for several audiences.

Reads {"token", "secret", "issuer", "audience"} and prints what was found, what PyJWT says of the token
where nobody expects an audience or expects another, and what was signed.
"""

import json
import sys

import jwt

question = json.load(sys.stdin)


def decode(**expected):
    return jwt.decode(question["token"], question["secret"], algorithms=["HS256"], **expected)


def refusal(**expected):
    try:
        decode(**expected)
    except jwt.InvalidAudienceError as error:
        return str(error)


claims = decode(audience=question["audience"], issuer=question["issuer"])
several = {**claims, "aud": ["till", question["audience"]]}
json.dump(
    {
        "claims": claims,
        "unexpected": refusal(),
        "other": refusal(audience="till"),
        "for_several": jwt.encode(several, question["secret"], algorithm="HS256"),
        "for_another": jwt.encode({**claims, "aud": "till"}, question["secret"], algorithm="HS256"),
    },
    sys.stdout,
)
