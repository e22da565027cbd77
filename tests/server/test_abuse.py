"""Bad input and abuse: a 4xx with one clear sentence as JSON, and the server stays up."""

import json
import socket
import struct
import zlib

import pytest

from tests.server.running import running

GENERATE = "/api/jobs/generate"
NOBODY = "0" * 16


def refused(answer, status):
    """The answer is a JSON error of this status; return its sentence."""
    assert answer.status_code == status, answer.text
    told = answer.json()
    assert set(told) == {"error", "fields"}
    assert told["error"]
    assert "Traceback" not in answer.text
    return told["error"]


@pytest.fixture(autouse=True)
def stays_up(http):
    yield
    assert http.get("/api/health").json()["model"] == "ready"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('{"prompt": "a", "colour": 1}', "colour: Extra inputs"),
        ('{"prompt": "a", "guidance_scale": NaN}', "guidance_scale: "),
        ('{"prompt": "a", "guidance_scale": Infinity}', "guidance_scale: "),
        ('{"prompt": "a", "scale": 1e308}', "scale: "),
        ('{"prompt": "a", "seed": 1' + "0" * 400 + "}", "seed: "),
        ('{"prompt": "a", "seed": -1}', "seed: "),
        ('{"prompt": "a", "seed": "1"}', "seed: "),
        ('{"prompt": "a", "seed": true}', "seed: "),
        ('{"prompt": "a", "steps": 1.5}', "steps: "),
        ('{"prompt": "a", "count": 9}', "count: "),
        ('{"prompt": "a", "width": 1000000}', "width: "),
        ('{"prompt": "a", "width": 2048, "height": 2048, "count": 2}', "all candidates together"),
        ('{"prompt": "' + "a" * 2001 + '"}', "prompt: "),
        ('{"prompt": " "}', "the prompt is empty"),
        ('{"prompt": "\\ud800"}', "prompt: "),
        ('{"prompt": "a\\u0000"}', "characters that are no text"),
        ('{"prompt": "a", "\\ud800": 1}', "body: "),
        ('{"prompt": "a", "at": "nowhere"}', "at"),
        ('{"prompt": "a", "at": [1, 2]}', "at"),
        ('{"prompt": "a", "background": "../../etc/passwd"}', "background: "),
        ('{"prompt": "a", "background": "' + NOBODY + '\\n"}', "background: "),
        (f'{{"prompt": "a", "background": "{NOBODY}", "image": "{NOBODY}"}}', "only one of"),
        ("[]", "body: "),
        ("", "body: "),
    ],
    ids=str,
)
def test_fields_that_cannot_be_used(http, body, told):
    answer = http.post(GENERATE, content=body, headers={"content-type": "application/json"})
    assert told in refused(answer, 422)
    assert http.get("/api/jobs").json() == []


@pytest.mark.parametrize("body", ["{", '{"prompt": ' + "[" * 20000, b"\xff\xfe", "9" * 5000])
def test_bodies_that_are_no_json(http, body):
    answer = http.post(GENERATE, content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    refused(answer, answer.status_code)


def test_other_content_types_are_no_json(http):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        answer = http.post(GENERATE, content='{"prompt": "a"}', headers={"content-type": kind})
        refused(answer, 422)


def test_a_prompt_of_a_megabyte_is_refused_before_it_is_read(http):
    body = json.dumps({"prompt": "a" * 2**20})
    answer = http.post(GENERATE, content=body, headers={"content-type": "application/json"})
    assert "larger than" in refused(answer, 413)


def test_bodies_without_a_length_are_counted(http):
    def endless():
        for _ in range(40):
            yield b" " * 2**16

    answer = http.post(GENERATE, content=endless(), headers={"content-type": "application/json"})
    assert "larger than" in refused(answer, 413)


def test_uploads_over_the_limit_leave_nothing(tmp_path, toy_model_folder):
    with running(tmp_path / "kept", toy_model_folder, max_upload=1) as server:

        def much():
            yield b"\x89PNG\r\n\x1a\n"
            for _ in range(40):
                yield bytes(2**16)

        with server.http() as http:
            for body in (bytes(2**20 + 1), much()):
                assert "larger than" in refused(http.post("/api/pictures", content=body), 413)
        assert list(server.worker.store.temporary.iterdir()) == []


def png_that_claims(width, height):
    """A PNG of a few bytes that says that it is this large: a decompression bomb."""

    def chunk(name, data):
        check = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rows + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "no PSD, ORA, PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>", "no PSD, ORA, PNG"),
        (b"<html><script>alert(1)</script></html>", "no PSD, ORA, PNG"),
        (b"\x89PNG\r\n\x1a\n<svg><script>1</script></svg>", "the file"),
        (png_that_claims(100_000, 100_000), "more pixels than the limit"),
        (png_that_claims(6000, 6000), "over the limit"),
        (b"PK\x03\x04" + bytes(100), "the file"),
        (b"8BPS" + bytes(100), "the file"),
        (b"GIF89a" + bytes(100), "no PSD, ORA, PNG"),
    ],
    ids=["empty", "svg", "html", "svg in png", "bomb", "large", "zip", "psd", "gif"],
)
def test_files_that_are_no_pictures(http, server, data, told):
    for path in ("/api/pictures", "/api/convert?to=png"):
        error = refused(http.post(path, content=data), 400)
        assert told in error
        assert str(server.worker.store.folder) not in error
    assert list(server.worker.store.temporary.iterdir()) == []


def test_ids_are_never_paths(http):
    for one in ("../index.sqlite", "..%2f..%2fetc%2fpasswd", "%2e%2e", "A" * 16, "0" * 17):
        for path in (f"/api/pictures/{one}", f"/api/pictures/{one}/file", f"/api/jobs/{one}"):
            answer = http.get(path)
            assert answer.status_code in (404, 422), path
    for path in (f"/api/pictures/{NOBODY}", f"/api/jobs/{NOBODY}", f"/api/jobs/{NOBODY}/events"):
        refused(http.get(path), 404)
    answer = http.post(GENERATE, json={"prompt": "a", "background": NOBODY})
    assert "There is no picture" in refused(answer, 404)


def test_names_are_text_everywhere(client, cutout):
    source = client.upload(cutout).id
    name = '<img src=x onerror=alert(1)>/../../x".psd'
    made = client.arrange(source, [{"picture": source, "layer": 0, "name": name}])
    assert made.layers[0]["name"] == name
    assert client.download(made.id, "zip").startswith(b"PK")


def test_a_picture_that_is_opaque_is_no_foreground(client, http, photo):
    picture = client.upload(photo).id
    answer = http.post(GENERATE, json={"prompt": "a", "foreground": picture})
    assert "no transparency" in refused(answer, 422)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "", "127.0.0.1.evil.example"])
def test_other_names_of_this_machine_are_refused(http, host):
    """DNS rebinding: a page of evil.example whose name comes to mean 127.0.0.1."""
    for path in ("/api/health", "/", "/openapi.json"):
        refused(http.get(path, headers={"host": host}), 421)


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
    ids=str,
)
def test_pages_of_other_sites_may_not_ask(http, headers):
    refused(http.post(GENERATE, json={"prompt": "a"}, headers=headers), 403)
    refused(http.get("/api/jobs", headers=headers), 403)
    assert http.get("/api/jobs").json() == []


def test_the_own_page_may_ask_and_nobody_is_let_in_by_cors(http, server):
    own = {"origin": server.address, "sec-fetch-site": "same-origin"}
    answer = http.get("/api/jobs", headers=own)
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]
    preflight = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    refused(http.options(GENERATE, headers=preflight), 403)


def test_every_answer_has_security_headers(http):
    for path in ("/api/health", "/api/jobs/none", "/nothing"):
        headers = http.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"


def test_a_token_is_wanted_below_api(tmp_path, toy_model_folder):
    token = "a-token-of-many-characters"
    with running(tmp_path / "kept", toy_model_folder, token=token) as server:
        with server.http() as http:
            assert http.get("/api/health").status_code == 200
            for value in (None, "Bearer wrong", token, "Bearer é"):
                headers = {} if value is None else {"authorization": value.encode()}
                assert "token" in refused(http.get("/api/jobs", headers=headers), 401)
        with server.client(token=token) as client:
            assert client.model()["size"] == 64


def test_a_full_folder_takes_no_more_until_something_is_deleted(tmp_path, toy_model_folder, photo):
    with (
        running(tmp_path / "kept", toy_model_folder, max_disk=1e-6) as server,
        server.http() as http,
    ):
        first = http.post("/api/pictures", content=photo).json()["id"]
        assert "delete some" in refused(http.post("/api/pictures", content=photo), 507)
        assert http.delete(f"/api/pictures/{first}").status_code == 204
        assert http.post("/api/pictures", content=photo).status_code == 201


def test_half_a_request_is_no_harm(server):
    port = int(server.address.rpartition(":")[2])
    for data in (
        b"POST /api/pictures HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n\x89PNG",
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(data)
