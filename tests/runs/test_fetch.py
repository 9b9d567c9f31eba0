"""Weights from a server that does not mean well."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from avssl.core.errors import UserError
from avssl.runs import fetch as module
from avssl.runs.fetch import _Redirects, fetch

CONTENT = b"weights" * 1000


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        kind, _, rest = self.path[1:].partition("/")
        if kind == "to":
            self.send_response(302)
            self.send_header("Location", rest)
            self.end_headers()
            return
        if kind == "rude":
            self.send_response(404, "no\x1b[31m such\u202e".encode("utf-8").decode("latin-1"))
            self.end_headers()
            return
        self.send_response(200)
        if kind == "claims":
            self.send_header("Content-Length", rest)
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()


SHA = hashlib.sha256(CONTENT).hexdigest()


def test_http_leads_to_http(server, tmp_path):
    fetch(f"{server}/to/{server}/file", tmp_path / "part", SHA, 5)
    assert (tmp_path / "part").read_bytes() == CONTENT


@pytest.mark.parametrize("to", ["ftp://127.0.0.1/x", "file:///etc/passwd", "data:,x", "gopher://x/y", "FTP://x/y"])
def test_it_leads_nowhere_else(to, server, tmp_path):
    with pytest.raises(UserError, match="only redirects to https: (and http: )?are followed|answered 302"):
        fetch(f"{server}/to/{to}", tmp_path / "part", SHA, 5)
    assert not (tmp_path / "part").exists()


def test_https_does_not_lead_to_http():
    import urllib.error
    import urllib.request

    asked = urllib.request.Request("https://a/b")
    with pytest.raises(urllib.error.URLError, match="only redirects to https: are followed"):
        _Redirects().redirect_request(asked, None, 302, "", {}, "http://a/b")
    assert _Redirects().redirect_request(asked, None, 302, "", {}, "https://c/d").full_url == "https://c/d"


def test_no_more_is_taken_than_a_model_has(server, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="has 99999999999 bytes, more than 2147483648"):
        fetch(f"{server}/claims/99999999999", tmp_path / "part", SHA, 5)
    monkeypatch.setattr(module, "MAX_BYTES", 1000)
    with pytest.raises(UserError, match="more than 1000 bytes"):
        fetch(f"{server}/file", tmp_path / "part", SHA, 5)
    assert not (tmp_path / "part").exists()
