"""What a file is that is no image or no parquet file, told from its first bytes, and what its owner can
do."""

from __future__ import annotations

_HEIC = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_STARTS = (
    (
        b"version https://git-lfs",
        "is a Git LFS pointer instead of the file itself: run `git lfs pull` in its repository",
    ),
    (
        b"/annex/objects/",
        "is a git-annex pointer instead of the file itself: run `git annex get` in its repository",
    ),
    (b"PK\x03\x04", "is a zip archive: unpack it"),
    (b"PK\x05\x06", "is an empty zip archive: unpack the right one"),
    (b"\x1f\x8b", "is a gzip archive: unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive: unpack it"),
    (b"Rar!", "is a rar archive: unpack it"),
    (b"BZh", "is a bzip2 archive: unpack it"),
    (b"\xfd7zXZ", "is an xz archive: unpack it"),
    (b"(\xb5/\xfd", "is a zstd archive: unpack it"),
    (b"%PDF", "is a PDF: export its pictures as PNG"),
    (b"%!PS", "is PostScript: convert it to PNG"),
    (b"8BPS", "is a Photoshop file: convert it to PNG"),
    (b"\xff\x0a", "is a JPEG XL image: convert it to JPEG or PNG"),
    (b"\x00\x00\x00\x0cJXL ", "is a JPEG XL image: convert it to JPEG or PNG"),
    (b"\x93NUMPY", "is a NumPy array: save its images as PNG"),
    (b"\x89HDF", "is an HDF5 file: save its images as PNG"),
    (b"PAR1", "is a parquet file: give it by itself"),
    (b"ARROW1", "is an Arrow file: write its table as parquet"),
    (b"SQLite format 3", "is a database: write its table as parquet"),
)
_IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"BM")


def kind_of(data: bytes) -> str | None:
    """What the bytes of a file show that it is, with the remedy, as the end of a sentence; None if they show
    nothing known."""
    if not data:
        return "is empty (0 bytes): get the file again, or remove it"
    for start, sentence in _STARTS:
        if data.startswith(start):
            return sentence
    if data[4:8] == b"ftyp":
        if data[8:12] in _HEIC:
            return "is a HEIC image, as phones take them: convert it to JPEG or PNG"
        return None if data[8:12] in (b"avif", b"avis") else "is a film: save its frames as PNG"
    if data.startswith(b"\xff\xff\xff\xff") and data[8:12] == b"\x10\0\0\0":
        return "is an Arrow file, as `save_to_disk` writes it: write it with `to_parquet` instead"
    if data[5:9] == b"\0\0\0{":
        return "is a safetensors file: `condense export FILE --to parquet` converts a synthetic set"
    if data[257:262] == b"ustar":
        return "is a tar archive: unpack it"
    beginning = data[:1000].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if beginning.startswith((b"<!doctype html", b"<html")):
        return "is a web page, as a failed download leaves it: get the file again"
    if beginning.startswith(b"<svg") or (beginning.startswith(b"<?xml") and b"<svg" in beginning):
        return "is an SVG drawing: convert it to PNG"
    if not data.strip(b"\0"):
        return "holds zero bytes only, as an interrupted copy leaves it: get the file again"
    return None


def begins_as_image(data: bytes) -> bool:
    """Whether the first bytes are those of an image of a usual format, so that what cannot be read of it is
    damaged or missing."""
    return data.startswith(_IMAGES) or data[4:12] in (b"ftypavif", b"ftypavis")
