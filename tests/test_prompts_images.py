"""Images: files become data URLs, everything else passes, and what cannot be sent is found before."""

from __future__ import annotations

import base64
import errno
import json
import os

import pytest
from rows import ELSEWHERE, FIREWORKS, prompt, refusal, renderer

FILES = {
    "png": ("png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
    "jpg": ("jpeg", b"\xff\xd8\xff\xe0\0\x10JFIF\0"),
    "gif": ("gif", b"GIF89a\1\0\1\0"),
    "bmp": ("bmp", b"BM\x0a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\2\0\0\0"),
    "tif": ("tiff", b"II*\0\x08\0\0\0"),
    "tiff": ("tiff", b"MM\0*\0\0\0\x08"),
    "ppm": ("x-portable-pixmap", b"P6\n1 1\n255\n\0\0\0"),
    "pnm": ("x-portable-pixmap", b"P3 1 1 255 0 0 0"),
}
PNG = FILES["png"][1]
TEXT = {"type": "text", "text": "What is this?"}


def part(url, **more):
    """One image among the parts of a content."""
    return {"type": "image_url", "image_url": {"url": url, **more}}


def row(*parts):
    """A row of one message with these parts."""
    return {"messages": [{"role": "user", "content": list(parts)}]}


def sent(folder, row, **configured):
    """The parts of the first message that would be sent for a row of a file in this folder."""
    request = renderer(**configured).render(prompt(where=f"{folder}/in.jsonl:5", **row))
    return json.loads(request.body)["messages"][0]["content"]


def refused(folder, row, **configured):
    """Why a row of a file in this folder cannot be sent."""
    return refusal(row, where=f"{folder}/in.jsonl:5", **configured)


def data_url(content, media_type="png"):
    """The same content, where a URL is wanted."""
    return f"data:image/{media_type};base64,{base64.b64encode(content).decode()}"


@pytest.mark.parametrize("suffix", FILES)
def test_a_file_becomes_a_data_url(tmp_path, suffix):
    """Its first bytes say its kind, and not its name."""
    media_type, content = FILES[suffix]
    (tmp_path / "image").write_bytes(content)
    assert sent(tmp_path, row(TEXT, part("image"))) == [TEXT, part(data_url(content, media_type))]


@pytest.mark.parametrize("where", ["{}/in.jsonl:5", "{}/in.parquet:row 5", "{}/a/12:30/../../in:1.csv:5"])
def test_a_path_is_looked_up_from_the_inputs_folder(tmp_path, where):
    """Not from where the command was typed."""
    (tmp_path / "images").mkdir()
    (tmp_path / "a" / "12:30").mkdir(parents=True)
    (tmp_path / "images" / "a b.png").write_bytes(PNG)
    request = renderer().render(prompt(where=where.format(tmp_path), **row(part("images/a b.png"))))
    assert data_url(PNG).encode() in request.body


def test_paths_of_standard_input_are_looked_up_from_here(tmp_path, monkeypatch):
    """It has no folder."""
    (tmp_path / "a.png").write_bytes(PNG)
    monkeypatch.chdir(tmp_path)
    request = renderer().render(prompt(where="stdin:1", **row(part("a.png"))))
    assert data_url(PNG).encode() in request.body


@pytest.mark.parametrize("url", ["{}/a%20b.png", "file://{}/a%20b.png", "FILE://localhost{}/a%20b.png"])
def test_absolute_paths_and_file_urls_are_found(tmp_path, url):
    """In a file:// URL, and only there, %20 is a space."""
    (tmp_path / "a b.png").write_bytes(PNG)
    (tmp_path / "a%20b.png").write_bytes(PNG + b"%")
    content = PNG if url.lower().startswith("file:") else PNG + b"%"
    assert sent("elsewhere", row(part(url.format(tmp_path)))) == [part(data_url(content))]


@pytest.mark.parametrize("url", ["https://a.example/x.webp?q=1", "HTTP://a.example/x", data_url(b"any"), "DATA:,x"])
def test_urls_pass_untouched(url):
    """Nothing is fetched here, and a data URL is what the row wants it to be."""
    assert sent("nowhere", row(part(url))) == [part(url)]


def test_other_keys_pass_untouched(tmp_path):
    """Of the part and of the image, in their order; so do parts of other kinds."""
    (tmp_path / "a.png").write_bytes(PNG)
    image = {"x": 1, "type": "image_url", "image_url": {"detail": "low", "url": "a.png", "y": None}, "z": 2}
    other = {"type": "video_url", "video_url": {"url": "a.mp4"}}
    wanted = [image | {"image_url": image["image_url"] | {"url": data_url(PNG)}}, other, "text"]
    assert json.dumps(sent(tmp_path, row(image, other, "text"))) == json.dumps(wanted)


def test_an_image_may_be_a_plain_text(tmp_path):
    """It stays one."""
    (tmp_path / "a.png").write_bytes(PNG)
    plain = {"type": "image_url", "image_url": "a.png"}
    assert sent(tmp_path, row(plain)) == [{"type": "image_url", "image_url": data_url(PNG)}]


def test_images_of_every_message_are_found(tmp_path):
    """In a batch body too, next to messages without any."""
    (tmp_path / "a.png").write_bytes(PNG)
    messages = [{"role": "user", "content": "hi"}, *row(part("a.png"))["messages"]]
    request = renderer().render(prompt(where=f"{tmp_path}/in:1", body={"model": "b", "messages": messages}))
    assert json.loads(request.body)["messages"] == [messages[0], *row(part(data_url(PNG)))["messages"]]


def test_the_row_itself_is_not_changed(tmp_path):
    """A column that is kept holds the path, not the image."""
    (tmp_path / "a.png").write_bytes(PNG)
    for form in (row(part("a.png")), {"body": row(part("a.png"))}):
        before = json.dumps(form)
        sending = prompt(where=f"{tmp_path}/in:1", **form)
        (column,) = form
        assert renderer(keep_columns=[column]).render(sending).input == before.replace(", ", ",").replace(": ", ":")
        assert json.dumps(sending.row) == before


def test_the_key_covers_what_is_in_the_image(tmp_path):
    """The same path with another picture is another request."""
    keys = set()
    for content in (PNG, PNG + b"x", PNG):
        (tmp_path / "a.png").write_bytes(content)
        keys.add(renderer().render(prompt(where=f"{tmp_path}/in:1", **row(part("a.png")))).request_key)
    assert len(keys) == 2


UNUSABLE = {
    "missing.png": "cannot be read: No such file or directory",
    "folder": "is a folder",
    "pipe": "is no regular file",
    "empty.png": "is empty",
    "text.png": "is no image",
    "bm.txt": "is no image",
    "p6.txt": "is no image",
    "a.pdf": "is no image",
    "a.webp": "is WebP",
    "text.png/x": "cannot be read: Not a directory",
    "x" * 5000: "cannot be read: File name too long",
    "a\0b": "is no path: ",
    "\ud83d.png": "is no path: ",
    "file://server/a.png": "is no path: file:// is followed by the path from /",
    "file://[": "is no path: ",
    "s3://bucket/a.png": "cannot be read: No such file or directory",
}


@pytest.fixture
def folder(tmp_path):
    """A folder of things that are no images."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_bytes(b"hello")
    (tmp_path / "bm.txt").write_bytes(b"BMW makes cars and motor cycles, and other things")
    (tmp_path / "p6.txt").write_bytes(b"P6x is no portable pixmap")
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.7\n")
    (tmp_path / "a.webp").write_bytes(b"RIFF\x24\0\0\0WEBPVP8 ")
    return tmp_path


@pytest.mark.parametrize("name", UNUSABLE, ids=lambda name: ascii(name[:20]))
def test_what_is_no_image_is_refused(folder, name):
    """With the line, the part, the path and the kinds that are known; nothing hangs, and no long name is shown."""
    error = refused(folder, row(TEXT, part(name)))
    assert "messages[0].content[1]: the image " in error.message
    assert UNUSABLE[name] in error.message
    assert len(error.message) < 500
    assert error.message.isprintable()
    assert "png, jpeg, gif, bmp, tiff or ppm file" in error.remedy


@pytest.mark.parametrize(
    ("image", "why"),
    [(None, "null"), (5, "a number"), ("", "empty text"), ({}, "null"), ({"url": ["a.png"]}, "a list")],
)
def test_an_image_without_a_url_is_refused(image, why):
    """No endpoint could show it."""
    message = refused("nowhere", row({"type": "image_url", "image_url": image})).message
    assert f"messages[0].content[0] is an image without a URL, which is {why}" in message


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="Linux has such a file")  # noqa: PTH110
def test_a_file_of_another_size_than_it_says_is_refused():
    """It is being written, or none that ever ends: no half of an image is sent."""
    assert "changes while it is read" in refused("nowhere", row(part("/proc/self/status"))).message


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    """The reason is the system's; a link that leads to itself stops root too."""
    (tmp_path / "a.png").symlink_to("a.png")
    why = os.strerror(errno.ELOOP)
    assert f"cannot be read: {why}" in refused(tmp_path, row(part("a.png"))).message


@pytest.mark.parametrize("base_url", [FIREWORKS, "simulated"])
def test_thirty_images_are_the_most_for_fireworks(base_url):
    """Over all messages; others take what they take."""
    many = {"messages": row(*[part("http://a.example/x")] * 29)["messages"] * 2}
    error = refused("nowhere", many, base_url=base_url)
    assert "messages[1].content[1]: the endpoint takes 30 images a request" in error.message
    assert len(sent("nowhere", row(*[part("http://a.example/x")] * 30), base_url=base_url)) == 30
    assert len(sent("nowhere", many, base_url=ELSEWHERE)) == 29


@pytest.mark.parametrize(("base_url", "most"), [(FIREWORKS, 10_000_000), ("simulated", 10_000_000), (ELSEWHERE, 2**25)])
def test_the_base64_of_all_images_is_bounded(tmp_path, base_url, most):
    """Files and data URLs together stay under 10 MB for Fireworks, under 32 MiB for others."""
    with (tmp_path / "a.png").open("wb") as file:
        file.write(PNG)
        file.truncate(most // 4 * 3 - 6)  # its base64 has 8 characters less than the bound
    fits = [part("a.png"), part("data:image/png;base64,AAAA")]
    assert len(sent(tmp_path, row(*fits), base_url=base_url)) == 2
    error = refused(tmp_path, row(*fits, part("data:image/png;base64,AAAA")), base_url=base_url)
    assert f"messages[0].content[2]: the images take {most / 1e6:.1f} MB as base64" in error.message


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    """Five gigabytes of nothing would not even fit into memory."""
    with (tmp_path / "a.png").open("wb") as file:
        file.write(PNG)
        file.truncate(5 << 30)
    message = refused(tmp_path, row(part("a.png"))).message
    assert "messages[0].content[0]: the image `a.png`: the images take 7,158.3 MB as base64" in message
