"""Where it was measured, and of what versions."""

import datetime
import hashlib
import json
import os
import pathlib
import platform
import re

import envoy
import nginx
import postgres
import redis
import targets
from processes import output


def description() -> str:
    cpu = first_match(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    memory = int(first_match(r"^MemTotal: +(\d+) kB", pathlib.Path("/proc/meminfo").read_text(encoding="utf-8")))
    cores = len(os.sched_getaffinity(0))
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return f"{today}; {cpu}, {cores} cores, {memory / (1 << 20):.0f} GiB of memory, Linux {platform.release()}"


def versions(names: list[str]) -> list[str]:
    """Of what these targets are made of."""
    needs = {need for name in names for need in targets.TARGETS[name].needs}
    found = []
    if "tools/setup-envoy" in needs:
        found.append("Envoy " + first_match(r"/([0-9.]+)(?:-\w+)?/\w+/\w+/\w+$", output(envoy.binary(), "--version")))
    if "tools/build-module" in needs:
        digest = hashlib.sha256(targets.MODULE.read_bytes()).hexdigest()
        found.append(f"Idemgate's module {digest[:12]} ({targets.MODULE.stat().st_size:,} bytes)")
    if "tools/setup-redis" in needs:
        found.append("Redis " + first_match(r"v=([0-9.]+)", output(redis.binary(), "--version")))
    if "tools/setup-postgres" in needs:
        version = first_match(r"\(PostgreSQL\) ([0-9.]+)", output(postgres.program("postgres"), "--version"))
        found.append(f"PostgreSQL {version}")
    if "tools/setup-nginx" in needs:
        found.append("nginx " + first_match(r"nginx/([0-9.]+)", output(nginx.binary(), "-v", env=nginx.environment())))
    if "tools/setup-express" in needs:
        found.append("Node.js " + output("node", "--version").strip().removeprefix("v"))
        packages = json.loads((targets.EXPRESS.parent / "package.json").read_text(encoding="utf-8"))["dependencies"]
        found += [f"{package} {version}" for package, version in packages.items()]
    return found


def first_match(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    return match.group(1) if match else "of unknown version"
