"""Verifies a token with PyJWT and with jwcrypto, by nothing but the published keys.

Reads {"token", "jwks"} and prints what each library found.
"""

import json
import sys

import jwt
from jwcrypto import jwk, jwt as cryptojwt

question = json.load(sys.stdin)
token = question["token"]
header = jwt.get_unverified_header(token)

published = jwt.PyJWKSet.from_dict(question["jwks"])
by_pyjwt = jwt.decode(token, published[header["kid"]].key, algorithms=[header["alg"]])

keys = jwk.JWKSet.from_json(json.dumps(question["jwks"]))
checked = cryptojwt.JWT(key=keys, jwt=token, algs=[header["alg"]], expected_type="JWS")

json.dump({"header": header, "pyjwt": by_pyjwt, "jwcrypto": json.loads(checked.claims)}, sys.stdout)
