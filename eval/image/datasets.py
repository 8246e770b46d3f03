# SPDX-License-Identifier: Apache-2.0
"""The images of an evaluation: files that can be read as 8-bit RGB, and `kodak`.

    "kodak" ──► --data folder ──► $POLYCODEC_DATA ──► cache ──► download
                       every one of the 24 files by its SHA-256

The Kodak Lossless True Color Image Suite (24 images, 768x512 or 512x768) was
released by the Eastman Kodak Company for unrestricted use. Its digests are part
of this project, so that two people who say Kodak mean the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import urllib.request
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from polycodec.atomic import atomic_write
from polycodec.codecs.files.image.read import read_image
from polycodec.codecs.files.kinds import IMAGE_SUFFIXES
from polycodec.errors import InputError
from polycodec.eval.datasets import ENVIRONMENT, Datasets, Item, Place
from polycodec.home import own_folder

SUFFIXES = (*IMAGE_SUFFIXES, ".bmp")
KODAK_URL = "https://r0k.us/graphics/kodak/kodak/{name}"
# Far above the largest of the 24 files (823 kB): a longer answer is not one.
KODAK_MAX_BYTES = 2_000_000
KODAK_SHA256: dict[str, str] = {
    "kodim01.png": "a56e27cbf5f843c048b6af1d6e090760e9c92fadba88b7dee0205918a37523bd",
    "kodim02.png": "4f4b74a79237e311d72cad958237b5f7088d8bce1c82305ebefe1a70e3022dfd",
    "kodim03.png": "e25ca1ff2f0c0cb5fdfd5f9b0a0bb21ac4c3de3c84a67f35b09a85d3306249db",
    "kodim04.png": "e3b946107c5d3441c022f678d0c3caf1e224d81b1604ba840a4f88e562de61aa",
    "kodim05.png": "10349e963c5c813d327852f82c1795fa4148d69fedffc4c589bee458e3ac3d53",
    "kodim06.png": "363510303b715d4cbc384e1ce227e466b613a09e1b71ae985882bf8e7fbd9b18",
    "kodim07.png": "b77d3f006f42414bb242222e0482e750c0fb9e5ee8d4bed2f6f11c5605fe54a4",
    "kodim08.png": "ba23983c76b4832ee0e8af0592664756841a16779acd69f792e268fb6d13d6e7",
    "kodim09.png": "6a4361c2fc194feb4edaa9f9a4a0620fb9943e460ac7fdf037fb0f6dd6607a7d",
    "kodim10.png": "9dfb70f5867c29ff9ed6313683f19b3d867849e40fbc0c4c54a4a89df341cf23",
    "kodim11.png": "7936814b58b5387fce2e4e2488b4ec830dadd95fa9520f358ddb30990b50f2b6",
    "kodim12.png": "d78c37c2f04f23761ed2367dd77e2db584ddd4c3950833fecf89f199a8126980",
    "kodim13.png": "bc34a3ce58dea09dce1704c997171602de90cb34d0c8503a988b77f473d39b08",
    "kodim14.png": "55a94550ff18f3246c4074fd32b77b0c74447c26b6ad274d564d999c0450ba6e",
    "kodim15.png": "7538cbb80cb9103606c48b806eae57d56c885c7f90b9b3be70a41160f9cbb683",
    "kodim16.png": "a89c7268ccd4718ba424a99fc4643c572cf692ca6eae887185ceb4e9f11d2e54",
    "kodim17.png": "37afcc89fbdcb76d9518e04b2fc011027e2f4cd14b3b2f83cefd721641a47c5b",
    "kodim18.png": "1a9258c365988961d87a0598725b609139c303ad48a5aad6c503c3b1a87849aa",
    "kodim19.png": "b7450b264b1b0a411390d8931b112c27905a992520fc90569dc4b920aa32bbdc",
    "kodim20.png": "3b46c71e3b92a563820ba32936be8330c586c41f938efd94be938386aae4328a",
    "kodim21.png": "ac958597c82073f6bb65129c68f72b651db5b9efd82e11547d07350214bc268b",
    "kodim22.png": "1cee58eb1f2d9c7ebb254d208a03c783ce6cf2c4d8c2cf45e235dd23b4ce1b29",
    "kodim23.png": "e3111a2fd4da24af15d6459ef9eacfe54106b38e27b4a21821b75c3f5d2d5baf",
    "kodim24.png": "1071c68372cc5a01435c2c225a5cf7d4bb803846ec08bb6b3d6721b156d7cb96",
}


@dataclass(frozen=True)
class ImageFile(Item):
    """One 8-bit RGB image of a data set; pixels are read when asked for."""

    def read(self) -> np.ndarray:
        """Read the image as (H, W, 3) uint8, turned upright by its EXIF."""
        image = read_image(self.path)
        if image.depth != 8 or image.alpha is not None:
            found = f"{image.depth} bits a sample" if image.depth != 8 else "alpha"
            raise InputError(
                f"{self.path} has {found}; expected 8-bit RGB or gray; convert it "
                "first, so that the measure is defined"
            )
        stored = Image.fromarray(image.pixels.repeat(3 // image.pixels.shape[2], 2))
        stored.info.update(exif=image.exif or b"", xmp=image.xmp or b"")
        return np.array(ImageOps.exif_transpose(stored))

    @staticmethod
    def digest(signal: np.ndarray) -> str:
        """Return the digest of shape and pixels."""
        header = "x".join(str(side) for side in signal.shape).encode()
        return hashlib.sha256(header + b":" + signal.tobytes()).hexdigest()[:16]


def kodak(data: Place | None = None) -> list[pathlib.Path]:
    """Find or download the 24 Kodak images.

    Every file is checked against its SHA-256, wherever it comes from.
    """
    named = [place for place in (data, os.environ.get(ENVIRONMENT)) if place]
    for place in map(pathlib.Path, named):
        for folder in (place / "kodak", place):
            if (folder / "kodim01.png").is_file():
                return _checked(folder)
    if data is not None:
        raise InputError(
            f"no Kodak images in {data}; expected kodim01.png to kodim24.png there "
            "or in its folder kodak/; check the path"
        )
    cache = own_folder("cache") / "kodak"
    for name in KODAK_SHA256:
        if not (cache / name).is_file():
            _download(name, cache)
    return _checked(cache)


def _checked(folder: pathlib.Path) -> list[pathlib.Path]:
    """Return the files of a folder that holds all of them, unchanged."""
    for name, expected in KODAK_SHA256.items():
        path = folder / name
        if not path.is_file():
            raise InputError(
                f"{path} is missing; expected all 24 Kodak images; complete the "
                "folder or remove it"
            )
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != expected:
            raise InputError(
                f"{path} is not the Kodak image; expected SHA-256 "
                f"{expected[:12]}..., found {found[:12]}...; "
                "remove the file to have it replaced"
            )
    return [folder / name for name in KODAK_SHA256]


def _download(name: str, cache: pathlib.Path) -> None:
    """Fetch one Kodak file, check it, and only then give it its name."""
    url = KODAK_URL.format(name=name)
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            data = answer.read(KODAK_MAX_BYTES)
    except OSError as error:  # URLError too
        raise _unreachable(cache, f"{url}: {error}") from error
    if hashlib.sha256(data).hexdigest() != KODAK_SHA256[name]:
        raise _unreachable(cache, f"{url}: other bytes than expected")
    cache.mkdir(parents=True, exist_ok=True)
    with atomic_write(cache / name, force=True) as file:
        file.write(data)


def _unreachable(cache: pathlib.Path, reason: str) -> InputError:
    return InputError(
        f"the Kodak images are not at hand ({reason}); expected kodim01.png to "
        f"kodim24.png; put them into {cache}, or name their folder with --data or "
        f"{ENVIRONMENT}"
    )


IMAGES = Datasets("kodak", kodak, ImageFile, SUFFIXES, "image")
