"""Lets a library built for a newer glibc and an OpenSSL-enabled server load without either, by changing a copy of it.

Three edits to the 64-bit little-endian ELF tables (gABI chapter 5; the LSB's symbol versioning):
an undefined symbol of a too new GLIBC version loses its version, so that PostgreSQL's own `strlcpy` serves;
`__isoc23_strtol` and its like are called by their old name, the tail of the same string; OpenSSL's become weak, since
only telemetry, which is off, would call them. The version itself becomes weak too, or the loader would refuse the file.
"""

from __future__ import annotations

import platform
import re
import struct
from collections.abc import Iterator

SHT_STRTAB_LINK, SHT_DYNSYM, SHT_VERNEED, SHT_VERSYM = 6, 11, 0x6FFFFFFE, 0x6FFFFFFF
SYMBOL = struct.Struct("<IBBHQQ")  # st_name, st_info, st_other, st_shndx, st_value, st_size
VERNEED = struct.Struct("<HHIII")  # vn_version, vn_cnt, vn_file, vn_aux, vn_next
VERNAUX = struct.Struct("<IHHII")  # vna_hash, vna_flags, vna_other, vna_name, vna_next
SECTION = struct.Struct("<IIQQQQIIQQ")
UNVERSIONED, WEAK_VERSION, WEAK_BINDING = 1, 2, 2
NEWER_C = b"__isoc23_"
OPENSSL = (b"SSL_", b"TLS_", b"ERR_", b"EVP_", b"BIO_", b"X509_", b"OPENSSL_", b"CRYPTO_")


def glibc() -> tuple[int, int]:
    """This machine's C library, like (2, 36); (0, 0) when it is another."""
    name, version = platform.libc_ver()
    found = re.match(r"(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if name == "glibc" and found else (0, 0)


def loosen(library: bytes, *, newest: tuple[int, int]) -> bytes:
    """The library with the edits above, for a glibc of version `newest`. Raises ValueError when it is no such file."""
    if library[:6] != b"\x7fELF\x02\x01":
        raise ValueError("not a 64-bit little-endian ELF file")
    image = bytearray(library)
    sections = list(_sections(image))
    symbols = next(section for section in sections if section[1] == SHT_DYNSYM)
    names = sections[symbols[SHT_STRTAB_LINK]][4]
    too_new = {
        index
        for section in sections
        if section[1] == SHT_VERNEED
        for index in _weaken_versions(image, section[4], sections[section[SHT_STRTAB_LINK]][4], newest)
    }
    versions = next((section[4] for section in sections if section[1] == SHT_VERSYM), None)
    for number in range(1, symbols[5] // SYMBOL.size):
        _loosen_symbol(image, symbols[4] + number * SYMBOL.size, names, versions and versions + number * 2, too_new)
    return bytes(image)


def _loosen_symbol(image: bytearray, at: int, names: int, version_at: int | None, too_new: set[int]) -> None:
    name, info, other, section, value, size = SYMBOL.unpack_from(image, at)
    if section != 0:  # defined here
        return
    text = _string(image, names + name)
    if text.startswith(OPENSSL):
        info = (WEAK_BINDING << 4) | (info & 0xF)
    if version_at is not None and struct.unpack_from("<H", image, version_at)[0] & 0x7FFF in too_new:
        struct.pack_into("<H", image, version_at, UNVERSIONED)
        name += len(NEWER_C) if text.startswith(NEWER_C) else 0
    SYMBOL.pack_into(image, at, name, info, other, section, value, size)


def _weaken_versions(image: bytearray, at: int, names: int, newest: tuple[int, int]) -> Iterator[int]:
    """Marks every needed GLIBC version above `newest` as weak, and gives their indexes."""
    while True:
        _, count, _, aux, following = VERNEED.unpack_from(image, at)
        entry = at + aux
        for _ in range(count):
            digest, flags, index, name, step = VERNAUX.unpack_from(image, entry)
            version = re.fullmatch(rb"GLIBC_(\d+)\.(\d+)(?:\.\d+)?", _string(image, names + name))
            if version and (int(version[1]), int(version[2])) > newest:
                VERNAUX.pack_into(image, entry, digest, flags | WEAK_VERSION, index, name, step)
                yield index
            entry += step
        if following == 0:
            return
        at += following


def _sections(image: bytearray) -> Iterator[tuple[int, ...]]:
    """Section headers: name, type, flags, address, offset, size, link, info, alignment, entry size."""
    table = struct.unpack_from("<Q", image, 0x28)[0]
    size, count = struct.unpack_from("<HH", image, 0x3A)
    for number in range(count):
        yield SECTION.unpack_from(image, table + number * size)


def _string(image: bytearray, at: int) -> bytes:
    return bytes(image[at : image.index(0, at)])
