"""As much of `requests` as the printed clients use, for machines that do not have it."""

import json
import urllib.error
import urllib.request


class Response:
    def __init__(self, status, body):
        self.status_code = status
        self.ok = status < 400
        self.text = body.decode()

    def json(self):
        return json.loads(self.text)

    def raise_for_status(self):
        if not self.ok:
            raise RuntimeError(f"{self.status_code}: {self.text}")


def request(method, url, headers=None, json=None, timeout=30):
    return _request(method, url, dict(headers or {}), json, timeout)


def _request(method, url, headers, body, timeout):
    data = None
    if body is not None:
        data = json.dumps(body).encode()
        headers["Content-Type"] = "application/json"
    elif method == "POST":
        data = b""
    asked = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=timeout) as answer:
            return Response(answer.status, answer.read())
    except urllib.error.HTTPError as error:
        return Response(error.code, error.read())


def get(url, **options):
    return request("GET", url, **options)


def post(url, **options):
    return request("POST", url, **options)


def delete(url, **options):
    return request("DELETE", url, **options)
