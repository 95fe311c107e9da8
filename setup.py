"""What setup.cfg cannot state: `bundles/` becomes `volseg/bundles/` of the wheel, and the links of the package's page.

VOLSEG_URL        page of the project, for its metadata
VOLSEG_FILES_URL  where the files of this version can be read, such as https://HOST/PROJECT/blob/v0.1.0: the
                  relative links of README.md are completed with it, and are plain words without it
VOLSEG_CATALOGUE_URL  URL of networks.json, the catalogue that `volseg fetch` knows if none is named
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
LEFT_OUT = {"_base", "__pycache__", "data"}  # what writes the bundles, and what running them leaves
RELATIVE = r"(?!https?:|#|mailto:)"


class BuildWithBundles(build_py):
    """Builds the package, then copies the bundles into it; an editable installation reads them where they are."""

    def run(self) -> None:
        """Build."""
        super().run()
        if not self.editable_mode:
            for source, target in self._bundles():
                self.mkpath(str(target.parent))
                self.copy_file(str(source), str(target))

    def get_outputs(self, include_bytecode: int = 1) -> list[str]:
        """The files that are built, those of the bundles among them."""
        return [*super().get_outputs(include_bytecode), *(str(target) for _, target in self._bundles())]

    def get_source_files(self) -> list[str]:
        """The files that a source distribution needs for it."""
        return [*super().get_source_files(), *(str(source.relative_to(ROOT)) for source, _ in self._bundles())]

    def _bundles(self) -> list[tuple[Path, Path]]:
        """Each file of a bundle, and where it is built."""
        folder, target = ROOT / "bundles", Path(self.build_lib) / "volseg" / "bundles"
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        inside = ((path, path.relative_to(folder)) for path in files)
        return [(path, target / name) for path, name in inside if not LEFT_OUT.intersection(name.parts)]


def description(page: str, *, files_url: str = "") -> str:
    """README.md with absolute links; without an address, pictures and their captions go and links become words."""
    if files_url:
        return re.sub(rf"(\]\(){RELATIVE}", rf"\g<1>{files_url.rstrip('/')}/", page)
    page = re.sub(rf"!\[[^\]]*\]\({RELATIVE}[^)]*\)\n\n(\*[^*]+\*\n\n)?", "", page)
    return re.sub(rf"\[([^\]]*)\]\({RELATIVE}[^)]*\)", r"\1", page)


def project_urls(*, url: str = "", files_url: str = "", catalogue_url: str = "") -> dict[str, str]:
    """The links beside the package's page: those whose addresses are known."""
    files = files_url.rstrip("/")
    addresses = {
        "Source": url,
        "Documentation": files and f"{files}/docs/index.md",
        "Changelog": files and f"{files}/CHANGELOG.md",
        "Networks": catalogue_url,
    }
    return {label: address for label, address in addresses.items() if address}


if __name__ == "__main__":
    readme = ROOT / "README.md"  # absent where only the dependencies are installed
    setup(
        cmdclass={"build_py": BuildWithBundles},
        long_description=description(
            readme.read_text(encoding="utf-8") if readme.is_file() else "",
            files_url=os.environ.get("VOLSEG_FILES_URL", ""),
        ),
        long_description_content_type="text/markdown",
        project_urls=project_urls(
            url=os.environ.get("VOLSEG_URL", ""),
            files_url=os.environ.get("VOLSEG_FILES_URL", ""),
            catalogue_url=os.environ.get("VOLSEG_CATALOGUE_URL", ""),
        ),
    )
