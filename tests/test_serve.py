"""The answers of the page of `lpi serve`; tests/page has it in a browser."""

import io
import re
import struct
import zlib

from lpi import Retriever
from lpi.commands.main import main
from lpi.inference.encoder import Encoder
from lpi.inference.grounder import Grounder
from lpi.serve import uploads
from lpi.serve.app import STATIC, create_app
from lpi.serve.service import Service
from lpi.serve.start import report_of, service_of

import pytest
from conftest import ROOT
from learned_streams import CPU, learned, picture, write_clip, write_pictures
from PIL import Image
from starlette.testclient import TestClient

STICKER = ROOT / "src/lpi/exported/samples/stickers/tool-0.png"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("private") / "photos"
    write_pictures(folder)
    return folder


@pytest.fixture(scope="module")
def service(tiny_clip, tmp_path_factory, photos, committed_root):
    clip = write_clip(tiny_clip, tmp_path_factory.mktemp("clip"))
    retriever = Retriever(Encoder(learned(clip), CPU))
    retriever.index(photos)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(committed_root)
        return Service(retriever, Grounder.load("committed:grounding"))


@pytest.fixture(scope="module")
def client(service):
    return TestClient(create_app(service, "<p>numbers</p>"))


def png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_the_page_and_its_files_come_from_here_alone(client):
    page = client.get("/")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    needed = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
    assert needed == ["static/page.css", "static/page.js", "report"]
    for path in needed:
        assert client.get(f"/{path}").status_code == 200
    for name in ("page.html", "page.css", "page.js"):
        assert "//" not in re.sub(r"(?m)^\s*//.*$", "", (STATIC / name).read_text()).replace("</", ""), name
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"


def test_words_find_what_the_retriever_finds(client, service, photos):
    found = client.post("/search", data={"text": "a red dog", "count": 5}).json()
    direct = service.retriever.search("a red dog", 5, explain=True)
    assert [hit["name"] for hit in found["hits"]] == [hit.name.rpartition("/")[2] for hit in direct]
    assert [hit["name"] for hit in found["frozen"]] == [hit.name.rpartition("/")[2] for hit in direct.frozen]
    assert found["task"] == direct.task and found["confidence"] == direct.confidence
    shown = client.get(f"/{found['hits'][0]['image']}")
    with Image.open(io.BytesIO(shown.content)) as image:
        assert shown.headers["content-type"] == "image/jpeg" and image.size == (16, 16)


def test_a_picture_finds_its_like(client):
    sent = {"image": ("any name.png", png(picture("blue", 1)))}
    found = client.post("/search", files=sent, data={"count": 3}).json()
    assert found["hits"][0]["name"] == "blue 1.png" and len(found["hits"]) == 3
    both = client.post("/search", files=sent, data={"text": "a red dog", "task": "red"}).json()
    assert both["hits"] and both["hits"] != found["hits"]


def test_no_place_of_a_file_is_told_and_none_is_read(client, photos):
    answers = [client.post("/search", data={"text": "a red dog"}).text, client.get("/about").text]
    assert not any("private" in answer for answer in answers)
    for path in (
        f"/image/{photos}/red 0.png",
        "/image/..%2F..%2Fetc%2Fpasswd",
        "/image/abc",
        "/static/../app.py",
        "/static/..%2Fapp.py",
        "/static/page.html",
        "/openapi.json",
        "/docs",
    ):
        assert client.get(path).status_code == 404, path


def test_a_thing_is_located_in_pixels_of_what_is_shown(client, service, monkeypatch):
    expression = "the shower in an orange ring on a red card"
    sent = {"image": ("a.png", STICKER.read_bytes())}
    found = client.post("/locate", files=sent, data={"expression": expression}).json()
    direct = service.grounder.locate(STICKER, expression, k=1, explain=True)
    assert found["box"] == pytest.approx(direct.boxes[0], abs=0.06) and found["task"] == direct.task == "tool"
    assert found["frozen"] == pytest.approx(direct.frozen.boxes[0], abs=0.06)
    assert found["picture"].startswith("data:image/jpeg;base64,")
    monkeypatch.setattr(uploads, "PREVIEW", 48)
    half = client.post("/locate", files=sent, data={"expression": expression}).json()
    assert half["box"] == pytest.approx([value / 2 for value in found["box"]], abs=0.1)


def huge_png():
    """A whole picture of 200 megapixels, in some kilobytes."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 20_000, 10_000, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes((1 + 20_000 // 8) * 10_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def bomb():
    """A small file of many pixels."""
    return png(Image.new("1", (9000, 9000)))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "the file is empty"),
        (b"<svg><script>alert(1)</script></svg>", "cannot be decoded"),
        (b"#!/bin/sh\nrm -rf /\n", "cannot be decoded"),
        (png(picture("red", 0))[:200], "cannot be decoded"),
        (huge_png(), "more than 50 million pixels"),
        (bomb(), "more than 50 million pixels"),
    ],
    ids=["empty", "script", "program", "cut off", "200 megapixels", "bomb"],
)
def test_a_wrong_file_is_refused_and_nothing_else_is_affected(client, content, told):
    for path, data in (("/search", {}), ("/locate", {"expression": "the dog"})):
        answer = client.post(path, files={"image": ("a.png", content)}, data=data)
        assert answer.status_code == 400 and told in answer.json()["error"]
    assert client.post("/search", data={"text": "a dog"}).status_code == 200


def test_a_large_file_is_refused_before_it_is_read(client, monkeypatch):
    answer = client.post("/search", files={"image": ("a.png", b"x" * (uploads.BYTES + 2**17))})
    assert answer.status_code == 413 and "more than 20 MiB" in answer.json()["error"]
    endless = client.post(
        "/search", content=iter([b"x" * 9]), headers={"content-type": "multipart/form-data; boundary=b"}
    )
    assert endless.status_code == 413, "its length is not told"
    monkeypatch.setattr(uploads, "BYTES", 10)
    answer = client.post("/search", files={"image": ("a.png", b"x" * 11)})
    assert answer.status_code == 400 and "more than 0 MiB" in answer.json()["error"]


@pytest.mark.parametrize(
    ("data", "status", "told"),
    [
        ({}, 400, "needs a text, an image, or both"),
        ({"text": "  "}, 400, "needs a text, an image, or both"),
        ({"text": "a dog", "task": "black"}, 400, "there is no task 'black'"),
        ({"text": "a dog", "count": "0"}, 422, None),
        ({"text": "a dog", "count": "many"}, 422, None),
    ],
)
def test_a_wrong_question_is_answered(client, data, status, told):
    answer = client.post("/search", data=data)
    assert answer.status_code == status and (told is None or told in answer.json()["error"])


def test_long_and_foreign_questions_are_answered(client):
    assert "longer than what the model reads" in client.post("/search", data={"text": "word " * 2500}).json()["notice"]
    assert client.post("/search", data={"text": "собака на пляже"}).status_code == 200


def test_without_an_index_the_page_says_so(service):
    client = TestClient(create_app(Service(None, service.grounder, "There is no index here.")))
    about = client.get("/about").json()
    assert about["search"] is None and about["why"] == "There is no index here." and about["locate"]
    answer = client.post("/search", data={"text": "a dog"})
    assert answer.status_code == 404 and answer.json()["error"] == "There is no index here."
    assert (
        TestClient(create_app(Service(None, None)))
        .post("/locate", files={"image": ("a.png", STICKER.read_bytes())})
        .status_code
        == 404
    )
    assert client.get("/report").status_code == 404


def test_a_token_keeps_others_out(service):
    client = TestClient(create_app(service, token="secret"))
    for path in ("/", "/about", "/static/page.js", "/image/x", "/?token=wrong", "/?token="):
        assert client.get(path).status_code == 403, path
    assert client.post("/search", data={"text": "a dog"}).status_code == 403
    opened = client.get("/?token=secret")
    assert opened.status_code == 200 and "httponly" in opened.headers["set-cookie"].lower()
    assert client.get("/about").status_code == 200, "the browser keeps it"


def test_an_image_that_was_deleted_is_marked(tiny_clip, tmp_path):
    write_pictures(tmp_path / "photos")
    retriever = Retriever(Encoder(learned(write_clip(tiny_clip, tmp_path / "clip")), CPU))
    retriever.index(tmp_path / "photos")
    client = TestClient(create_app(Service(retriever, None)))
    first = client.post("/search", data={"text": "a red dog", "count": 1}).json()["hits"][0]
    next((tmp_path / "photos").rglob(first["name"])).unlink()
    assert client.get(f"/{first['image']}").status_code == 404
    assert client.post("/search", data={"text": "a red dog", "count": 1}).json()["hits"][0]["image"] is None


def test_what_is_served_is_found_from_the_folder(photos, monkeypatch, in_the_repository, capsys, tmp_path):
    assert main(["samples", str(tmp_path / "samples")]) == 0
    assert main(["index", str(tmp_path / "samples" / "scenes"), "--model", "committed:retrieval"]) == 0
    service = service_of(tmp_path / "samples" / "scenes" / ".lpi", None, None)
    assert service.summary() == "48 images by committed:retrieval; things located by committed:grounding"
    assert "<h1>lpi, tasks: 12</h1>" in report_of(service)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lpi.serve.start.Grounder.load", lambda name: None)
    empty = service_of(None, None, None)
    assert empty.retriever is None and "There is no index here" in empty.summary() and report_of(empty) == ""


def test_the_command_listens_on_this_machine_alone(monkeypatch, capsys, tmp_path):
    started = {}
    monkeypatch.setattr("uvicorn.run", lambda app, **how: started.update(how))
    monkeypatch.setattr("lpi.serve.start.service_of", lambda *_: Service(None, None, "nothing"))
    assert main(["serve", "--token", "secret"]) == 0
    assert started == {"host": "127.0.0.1", "port": 7860, "log_level": "warning"}
    assert capsys.readouterr().out == "nothing\nhttp://127.0.0.1:7860/?token=secret\n"
