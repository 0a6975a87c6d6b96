"""Signs claims as any holder of the key can.

Reads {"claims", "secret"} from standard input and prints the token.
"""

import json
import sys

import jwt

question = json.load(sys.stdin)
json.dump(jwt.encode(question["claims"], question["secret"], algorithm="HS256"), sys.stdout)
