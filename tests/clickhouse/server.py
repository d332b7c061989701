#!/usr/bin/env python3
"""The real ClickHouse engine behind ClickHouse's HTTP interface, on loopback, for tests.

Debian's ClickHouse is of 2018 and the registries hold no newer server, but PyPI's chdb-core-lite is today's engine as a
library. This serves it on 127.0.0.1:PORT as far as the official Rust client needs: queries, parameters, inserts with a
FORMAT, exceptions with their code.

    python3 -m venv DIR && DIR/bin/pip install --no-deps chdb-core-lite==26.5.0
    DIR/bin/python clickhouse_server.py PORT [DATA_DIR]        prints "ready"

Limits: one query at a time, no users; the client must not compress (clickhouse crate: Compression::None).
"""
import contextlib
import email
import importlib.machinery
import importlib.util
import os
import re
import sys
import tempfile
import threading
import time
import types
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# chdb imports these at start although serving HTTP never needs them; stand-ins save 330 MB on disk.
for name in ("pyarrow", "pandas"):
    if importlib.util.find_spec(name) is None:
        stub = types.ModuleType(name)
        stub.__version__ = "99.0"
        stub.__getattr__ = lambda attribute: object
        stub.__spec__ = importlib.machinery.ModuleSpec(name, None)
        sys.modules[name] = stub

from chdb import session  # noqa: E402

STATUS_OF_CODE = {"60": 404, "81": 404, "62": 400}  # unknown table, unknown database, syntax error
ENGINE = session.Session(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp(prefix="clickhouse-"))
ONE_AT_A_TIME = threading.Lock()
NO_SETTINGS = {"query", "database", "default_format", "user", "password", "role", "compress", "decompress", "query_id", "session_id"}


@contextlib.contextmanager
def settings_of(args):
    settings = {name: value for name, value in args.items() if name not in NO_SETTINGS and not name.startswith("param_")}
    try:
        for name, value in settings.items():
            ENGINE.query(f"SET {name} = '{value}'")
        yield
    finally:
        for name in settings:
            ENGINE.query(f"SET {name} = DEFAULT")


def is_insert(sql):
    return re.match(r"\s*insert\b", sql, re.I) is not None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer()

    do_POST = do_GET

    def answer(self):
        url = urllib.parse.urlsplit(self.path)
        args = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        body = self.read_body()
        if url.path == "/ping" or (not args and not body):
            return self.send(200, b"Ok.\n")
        kind = self.headers.get("Content-Type", "")
        if kind.startswith("multipart/form-data"):  # how the Rust client sends .param()
            message = email.message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
            for part in message.get_payload():
                args[part.get_param("name", header="content-disposition")] = part.get_payload(decode=True).decode().rstrip("\r\n")
            body = b""
        sql, data = args.get("query", ""), body
        if not sql:
            sql, data = body.decode(), b""
        elif data and not is_insert(sql):
            sql, data = sql + "\n" + data.decode(), b""
        started = time.time()
        try:
            with ONE_AT_A_TIME:
                database = args.get("database") or self.headers.get("X-ClickHouse-Database")
                if database:
                    ENGINE.query(f"USE `{database}`")
                with settings_of(args):
                    result, form = self.insert(sql, data) if is_insert(sql) and data else self.query(sql, args)
            self.send(200, result.bytes() if result is not None else b"", form, time.time() - started)
        except Exception as error:  # the engine raises RuntimeError with "Code: N" in its text
            code = re.search(r"Code: (\d+)", str(error))
            code = code and code.group(1)
            self.send(STATUS_OF_CODE.get(code, 500), str(error).encode() + b"\n", code=code)

    def query(self, sql, args):
        form = args.get("default_format") or self.headers.get("X-ClickHouse-Format") or "TabSeparated"
        asked = re.search(r"\bFORMAT\s+(\w+)\s*;?\s*$", sql, re.I)
        if asked and not is_insert(sql):
            form, sql = asked.group(1), sql[: asked.start()]
        params = {k.removeprefix("param_"): v for k, v in args.items() if k.startswith("param_")}
        return (ENGINE.query(sql, form, params=params) if params else ENGINE.query(sql, form)), form

    def insert(self, sql, data):
        split = re.match(r"(.*?)\s+FORMAT\s+(\w+)\s*;?\s*$", sql, re.I | re.S)
        head, form = split.groups() if split else (sql, "Values")
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            return ENGINE.query(f"{head} FROM INFILE '{file.name}' FORMAT {form}", "TabSeparated"), form

    def read_body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def send(self, status, body, form="text", seconds=0.0, code=None):
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream" if "Binary" in form else "text/plain; charset=UTF-8")
        self.send_header("X-ClickHouse-Format", form)
        self.send_header("X-ClickHouse-Summary", '{"elapsed_ns":"%d"}' % (seconds * 1e9))
        if code:
            self.send_header("X-ClickHouse-Exception-Code", code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


ThreadingHTTPServer.daemon_threads = True
server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
print("ready", flush=True)
server.serve_forever()
