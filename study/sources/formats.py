"""What a file is: an image that can be read, an image that cannot, an archive, or none of these.

A common ending is believed, so that a large folder is listed without opening its files; else the first bytes decide.
"""

import re
import stat
from pathlib import Path

from study.pictures.decoding import ENDINGS, FORMATS

SUFFIXES = tuple(ending for name in FORMATS for ending in ENDINGS[name])
"""Endings of image files, which are not looked into before they are decoded."""

IMAGES = "images"
ARCHIVES = "archives or data files"
OTHER = "other files"
IGNORED = ""
"""What no one takes for an image: notes, annotations, checksums, code, what file managers leave."""

_UNSUPPORTED = (
    ".heic", ".heif", ".hif", ".jxl", ".svg", ".svgz", ".psd", ".psb", ".eps", ".ai", ".xcf", ".tga", ".dds",
    ".exr", ".hdr", ".pcx", ".qoi", ".xbm", ".xpm", ".icns", ".cur", ".emf", ".wmf", ".jxr", ".wdp", ".bpg",
    ".flif", ".pam", ".jpf", ".jpx", ".jpm", ".mj2", ".sgi", ".ras", ".fits", ".fit", ".dcm", ".dicom", ".nii",
    ".djvu", ".avif", ".jp2", ".j2k", ".webp",
)  # fmt: skip
_RAW = (".dng", ".nef", ".cr2", ".cr3", ".crw", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw", ".raw", ".nrw", ".3fr")
"""Cameras' own formats, many of which begin as TIFF does and then hold a thumbnail alone."""
_CONTAINERS = (
    ".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".npy", ".npz", ".h5", ".hdf5", ".mat",
    ".parquet", ".arrow", ".feather", ".tfrecord", ".tfrecords", ".lmdb", ".mdb", ".rec", ".pkl", ".pickle",
    ".beton",
)  # fmt: skip
_IGNORED_ENDINGS = (
    ".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".md", ".rst",
    ".log", ".html", ".htm", ".db", ".url", ".lnk", ".bib", ".py", ".ipynb", ".sh", ".md5", ".sha1", ".sha256",
    ".names",
)  # fmt: skip
_IGNORED_NAMES = (
    "readme", "license", "licence", "copying", "authors", "notice", "makefile", "md5sums", "sha1sums", "sha256sums",
    "icon\r",
)  # fmt: skip

_HEAD = 264
"""Bytes that are looked at: a tar archive is known by its 257th to 261st."""
_MAGIC = {
    b"\xff\xd8\xff": IMAGES,
    b"\x89PNG\r\n\x1a\n": IMAGES,
    b"GIF87a": IMAGES,
    b"GIF89a": IMAGES,
    b"II*\0": IMAGES,
    b"MM\0*": IMAGES,
    b"II+\0": IMAGES,
    b"MM\0+": IMAGES,
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG2000",
    b"\xff\x4f\xff\x51": "JPEG2000",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JXL",
    b"\xff\x0a": "JXL",
    b"8BPS": "PSD",
    b"%!PS-Adobe": "EPS",
    b"\xc5\xd0\xd3\xc6": "EPS",
    b"gimp xcf": "XCF",
    b"DDS ": "DDS",
    b"\x76\x2f\x31\x01": "EXR",
    b"#?RADIANCE": "HDR",
    b"qoif": "QOI",
    b"icns": "ICNS",
    b"II\xbc": "JXR",
    b"BPG\xfb": "BPG",
    b"FLIF": "FLIF",
    b"P7\n": "PAM",
    b"SIMPLE  =": "FITS",
    b"AT&TFORM": "DJVU",
    b"\x0a\x05\x01": "PCX",
    b"\x01\xda\x00": "SGI",
    b"\x01\xda\x01": "SGI",
    b"PK\x03\x04": ARCHIVES,
    b"\x1f\x8b": ARCHIVES,
    b"BZh": ARCHIVES,
    b"\xfd7zXZ\0": ARCHIVES,
    b"7z\xbc\xaf\x27\x1c": ARCHIVES,
    b"Rar!\x1a\x07": ARCHIVES,
    b"\x28\xb5\x2f\xfd": ARCHIVES,
    b"\x93NUMPY": ARCHIVES,
    # Images as MNIST's and CIFAR-10's are kept: IDX, pickle.
    b"\x00\x00\x08\x03": ARCHIVES,
    b"\x80\x02}": ARCHIVES,
    b"\x80\x04\x95": ARCHIVES,
    b"\x89HDF\r\n\x1a\n": ARCHIVES,
}
"""What a file is by its first bytes: a format's name where it may be one that is not read."""
_PPM = re.compile(rb"P[1-6fF]\s+(#[^\n]*\n\s*)*\d+\s+\d+\s")
_ICO = re.compile(rb"\x00\x00\x01\x00[^\x00]\x00...\x00", re.DOTALL)
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")


def kind_of(path: Path, *, trust_ending: bool = True) -> str:
    """What the file at `path` is, in the plural: `IMAGES` for one to be read, `IGNORED`, or why it is not read.

    Args:
        path: a file, a link to one, or whatever else is no folder.
        trust_ending: whether a file with one of `SUFFIXES` counts as an image unopened.
    """
    if trust_ending and path.name.lower().endswith(SUFFIXES):
        return IMAGES
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "pipes, sockets or devices"
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        broken = path.is_symlink() and not path.exists()
        return "broken links" if broken else f"files that cannot be opened ({(error.strerror or str(error)).lower()})"
    return _by_content(head, path.suffix.lower()) or _by_name(path)


def could_be_image(path: Path) -> bool:
    """Whether the file's name ends as that of an image does, read or not."""
    return path.suffix.lower() in (*SUFFIXES, *_UNSUPPORTED, *_RAW)


def _by_content(head: bytes, ending: str) -> str:
    if ending in _RAW:
        return _unread(ending)
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "") or _by_structure(head)
    if kind in ("", IMAGES, ARCHIVES):
        return kind
    return IMAGES if kind in FORMATS else _unread(kind)


def _by_structure(head: bytes) -> str:
    """What is told by more than a fixed beginning; empty where nothing is."""
    if head[4:8] == b"ftyp":
        brands = [head[8:12], *(head[start : start + 4] for start in range(16, min(head[3], 64), 4))]
        formats = {"AVIF": _AVIF_BRANDS, "HEIC": _HEIF_BRANDS, "CR3": (b"crx ",)}
        return next((name for name, known in formats.items() if set(brands) & set(known)), "")
    if head[:4] == b"RIFF":
        return "WEBP" if head[8:12] == b"WEBP" else ""
    if head[:2] == b"BM":
        return IMAGES if head[14:18] in [bytes([size, 0, 0, 0]) for size in (12, 40, 52, 56, 64, 108, 124)] else ""
    if _PPM.match(head) or _ICO.match(head):
        return IMAGES
    if head[128:132] == b"DICM":
        return "DICOM"
    if head[257:262] == b"ustar":
        return ARCHIVES
    return "SVG" if b"<svg" in head.lower() else ""


def _by_name(path: Path) -> str:
    ending = path.suffix.lower()
    if ending in _UNSUPPORTED:
        return _unread(ending)
    if ending in _CONTAINERS:
        return ARCHIVES
    is_ignored = ending in _IGNORED_ENDINGS or path.stem.lower() in _IGNORED_NAMES
    return IGNORED if is_ignored else OTHER


def _unread(name: str) -> str:
    return f"unsupported {name.lstrip('.').upper()} {IMAGES}"
