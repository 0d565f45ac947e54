"""Build the native modules, or none.

FASTBPE_BUILD chooses: release (default), debug (every Cython check on), asan (AddressSanitizer and
UBSan), pure (no native module: a py3-none-any wheel).  A machine without a C compiler builds pure; a
compiler that is there and fails, fails the install, so nobody gets the slow backend unknowingly.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, ExecError, PlatformError

CORE = Path("fastbpe/core")
# Not overflowcheck and nonecheck: Cython 3.3 does not compile `1 << N` in an enum with the first, nor attributes in
# nogil methods with the second; hash functions overflow on purpose.
CHECKS = ("boundscheck", "wraparound", "initializedcheck")
SANITIZERS = ["-fsanitize=address,undefined"]
# The x86-64 baseline on purpose: SIMD paths are chosen at run time, never by -march=native.
COMPILE = {
    "release": ["-O3"],
    "debug": ["-O1", "-g", "-UNDEBUG"],
    # UBSan's object-size check fires before ASan and hides its report.
    "asan": ["-O1", "-g", "-fno-omit-frame-pointer", *SANITIZERS, "-fno-sanitize=object-size"],
}
LINK = {"release": [], "debug": [], "asan": SANITIZERS}


def find_compiler() -> str | None:
    """Return the name of the C compiler, or None where there is none.

    A compiler named by CC is taken at its word: a wrong one fails the build rather than going unnoticed.
    """
    if "CC" in os.environ or sys.platform == "win32":
        return os.environ.get("CC", "cl")
    configured = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(configured):
        return configured
    for name in ("cc", "gcc", "clang"):
        if shutil.which(name):
            # The compiler that built this Python is not here, another one is.
            os.environ["CC"] = name
            return name
    return None


def build_mode() -> str:
    mode = os.environ.get("FASTBPE_BUILD") or "release"
    if mode not in (*COMPILE, "pure"):
        raise SystemExit(f"FASTBPE_BUILD must be release, debug, asan or pure, got {mode!r}")
    if mode != "pure" and find_compiler() is None:
        print("fastbpe: no C compiler found: building the pure Python backend (py3-none-any)", file=sys.stderr)
        return "pure"
    return mode


class BuildNative(build_ext):
    """build_ext that compiles in parallel and names the way out when the compiler fails."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def run(self) -> None:
        try:
            super().run()
        except (CCompilerError, ExecError, PlatformError) as error:
            raise SystemExit(
                f"fastbpe: the C compiler failed: {error}\n"
                "fastbpe: the messages above say why; FASTBPE_BUILD=pure installs without native modules (slower)"
            ) from error


def native_extensions(mode: str) -> list[Extension]:
    import numpy
    from Cython.Build import cythonize

    windows = sys.platform == "win32"
    headers = sorted(str(path) for path in CORE.glob("include/*.h"))
    extensions = [
        Extension(
            f"fastbpe.core.{path.stem}",
            [path.as_posix()],
            include_dirs=[CORE.as_posix(), (CORE / "include").as_posix(), numpy.get_include()],
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
            depends=[*headers, *sorted(path.as_posix() for path in CORE.glob("*.pxd"))],
            extra_compile_args=["/O2"] if windows else COMPILE[mode],
            extra_link_args=[] if windows else LINK[mode],
        )
        for path in sorted(CORE.glob("*_native.pyx"))
    ]
    directives = dict.fromkeys(CHECKS, mode == "debug")
    return cythonize(
        extensions,
        compiler_directives={**directives, "cdivision": True, "language_level": 3},
        # One folder a mode: the generated C depends on the directives, which its timestamp does not show.
        build_dir=f"build/cython-{mode}",
    )


mode = build_mode()
setup(
    ext_modules=[] if mode == "pure" else native_extensions(mode),
    cmdclass={"build_ext": BuildNative},
)
