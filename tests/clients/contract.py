"""Calls the service as the original's gateway does: `requests`, one new connection for each call.

Reads {"address": "host:port", "calls": [...]} from standard input and prints one answer for each.
"""

import json
import sys

import requests


def call(address, wanted):
    url = f"http://{address}{wanted['path']}"
    auth = tuple(wanted["auth"]) if "auth" in wanted else None
    response = requests.request(
        wanted.get("method", "POST"),
        url,
        auth=auth,
        headers=wanted.get("headers"),
        data=wanted.get("data"),
        timeout=30,
    )
    return {
        "status": response.status_code,
        "type": response.headers.get("Content-Type"),
        "challenge": response.headers.get("WWW-Authenticate"),
        "server": response.headers.get("Server"),
        "text": response.text,
    }


question = json.load(sys.stdin)
json.dump([call(question["address"], wanted) for wanted in question["calls"]], sys.stdout)
