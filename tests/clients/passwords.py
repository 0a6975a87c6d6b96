"""Makes stored passwords as other software makes them, and verifies ours with argon2-cffi.

Reads {"make": [[kind, password], ...], "verify": [[hash, password], ...]} and prints
{"made": [...], "verified": [...]}.
"""

import base64
import hashlib
import json
import sys

import argon2
import bcrypt
from passlib import hash as passlib
from werkzeug.security import generate_password_hash


def phc_pbkdf2(password):
    salt = b"0123456789abcdef"
    letters = [base64.b64encode(part).decode().rstrip("=") for part in (salt, hashlib.pbkdf2_hmac("sha256", password, salt, 20_000))]
    return "$pbkdf2-sha256$i=20000,l=32$" + "$".join(letters)


KINDS = {
    "argon2id": lambda p: argon2.PasswordHasher().hash(p),
    "argon2i": lambda p: argon2.PasswordHasher(time_cost=3, memory_cost=32_768, type=argon2.Type.I).hash(p),
    "argon2id, weak": lambda p: argon2.PasswordHasher(time_cost=1, memory_cost=8192, parallelism=1).hash(p),
    "bcrypt 2a": lambda p: bcrypt.hashpw(p.encode(), bcrypt.gensalt(8, prefix=b"2a")).decode(),
    "bcrypt 2b": lambda p: bcrypt.hashpw(p.encode(), bcrypt.gensalt(8)).decode(),
    "bcrypt 2y": lambda p: bcrypt.hashpw(p.encode(), bcrypt.gensalt(8)).decode().replace("$2b$", "$2y$"),
    "bcrypt 12": lambda p: bcrypt.hashpw(p.encode(), bcrypt.gensalt(12)).decode(),
    "werkzeug": lambda p: generate_password_hash(p),
    "werkzeug pbkdf2": lambda p: generate_password_hash(p, "pbkdf2"),
    "werkzeug pbkdf2:sha256": lambda p: generate_password_hash(p, "pbkdf2:sha256:20000"),
    "werkzeug pbkdf2:sha1": lambda p: generate_password_hash(p, "pbkdf2:sha1:1000"),
    "werkzeug pbkdf2:sha512": lambda p: generate_password_hash(p, "pbkdf2:sha512:20000"),
    "passlib pbkdf2_sha256": lambda p: passlib.pbkdf2_sha256.hash(p),
    "passlib pbkdf2_sha512": lambda p: passlib.pbkdf2_sha512.hash(p),
    "passlib scrypt": lambda p: passlib.scrypt.using(rounds=14).hash(p),
    "passlib argon2": lambda p: passlib.argon2.hash(p),
    "phc pbkdf2": lambda p: phc_pbkdf2(p.encode()),
}


def verified(stored, password):
    try:
        return argon2.PasswordHasher().verify(stored, password)
    except argon2.exceptions.VerifyMismatchError:
        return False


question = json.load(sys.stdin)
json.dump(
    {
        "made": [KINDS[kind](password) for kind, password in question.get("make", [])],
        "verified": [verified(stored, password) for stored, password in question.get("verify", [])],
    },
    sys.stdout,
)
