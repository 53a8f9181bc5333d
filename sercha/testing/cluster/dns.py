"""A name server of one page: answers from a file with lines like ``192.0.2.7 sercha-api-1``, read for each question.

Run as a program, so that it can live on any host: ``python -m sercha.testing.cluster.dns ADDRESS PORT FILE``.
After RFC 1035; knows questions for addresses of IPv4, and nothing else.
"""

from __future__ import annotations

import socket
import struct
import sys
from pathlib import Path

import trio

TTL = 1
TYPE_A = 1
NO_SUCH_NAME = 3
HEADER = struct.Struct("!HHHHHH")
MESSAGE_BYTES_MAX = 512
LABEL_BYTES_MAX = 63
"""Above it are references to other names, which questions do not have."""


def answer(question: bytes, addresses: dict[str, list[str]]) -> bytes | None:
    """Return the answer to a message with one question, or None for what is none."""
    if len(question) < HEADER.size:
        return None
    number, flags, questions, *_ = HEADER.unpack_from(question)
    if flags & 0x8000 or questions != 1:
        return None
    labels: list[str] = []
    at = HEADER.size
    while at < len(question) and (length := question[at]):
        if length > LABEL_BYTES_MAX:
            return None
        labels.append(question[at + 1 : at + 1 + length].decode("ascii", "replace").lower())
        at += 1 + length
    end = at + 5
    if end > len(question):
        return None
    asked = question[HEADER.size : end]
    kind = int.from_bytes(question[at + 1 : at + 3], "big")
    name = ".".join(labels)
    found = addresses.get(name, []) if kind == TYPE_A else []
    code = 0 if name in addresses else NO_SUCH_NAME
    head = HEADER.pack(number, 0x8400 | flags & 0x0100 | code, 1, len(found), 0, 0)
    records = [
        b"\xc0\x0c" + struct.pack("!HHIH", TYPE_A, 1, TTL, 4) + socket.inet_aton(address)
        for address in found
    ]
    return head + asked + b"".join(records)


def read_names(file: Path) -> dict[str, list[str]]:
    """Return the addresses of each name in the file."""
    names: dict[str, list[str]] = {}
    for line in file.read_text().splitlines():
        address, *given = line.split() or [""]
        for name in given:
            names.setdefault(name.lower(), []).append(address)
    return names


async def serve(address: str, port: int, file: Path) -> None:
    """Answer until cancelled."""
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        await listener.bind((address, port))
        print("ready: dns", flush=True)  # noqa: T201
        while True:
            message, sender = await listener.recvfrom(MESSAGE_BYTES_MAX)
            if (reply := answer(message, read_names(file))) is not None:
                await listener.sendto(reply, sender)


if __name__ == "__main__":
    trio.run(serve, sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
