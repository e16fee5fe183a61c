"""nginx as Debian builds it, with one worker: plain, or with the Lua of targets/nginx."""

import os
import pathlib
from contextlib import ExitStack

from processes import ROOT, Process, accepts, free_port

# Where tools/setup-nginx unpacks what the system does not have.
UNPACKED = ROOT / ".tools/nginx"
HERE = ROOT / "bench/targets/nginx"


def start(running: ExitStack, folder: pathlib.Path, upstream: int, lua: bool) -> tuple[Process, int]:
    """The process, and the port that clients come to. `folder` is this server's own."""
    folder.mkdir()
    port = free_port()
    words = {
        "@FOLDER@": folder,
        "@HERE@": HERE,
        "@LIBRARY@": installed("usr/share/lua/5.1"),
        "@MODULES@": installed("usr/lib/nginx/modules"),
        "@PORT@": port,
        "@UPSTREAM@": upstream,
    }
    lines = (HERE / "nginx.conf").read_text(encoding="utf-8").splitlines(keepends=True)
    text = "".join(line for line in lines if lua or not line.endswith("# lua\n"))
    for word, value in words.items():
        text = text.replace(word, str(value))
    config = folder / "nginx.conf"
    config.write_text(text, encoding="utf-8")
    process = Process(running, [binary(), "-p", folder, "-e", "stderr", "-c", config], env=environment())
    process.until(lambda: accepts(port))
    return process, port


def binary() -> pathlib.Path:
    return installed("usr/sbin/nginx")


def environment() -> dict[str, str]:
    folders = [str(library.parent) for library in UNPACKED.glob("**/lib*.so.*")]
    return os.environ | {"LD_LIBRARY_PATH": ":".join(dict.fromkeys(folders))}


def installed(path: str) -> pathlib.Path:
    unpacked = UNPACKED / path
    return unpacked if unpacked.exists() else pathlib.Path("/") / path
