"""The names of files are UTF-8, whatever the locale says."""

import os
import sys


def enter_utf8_mode() -> None:
    """Start this program again in Python's UTF-8 mode if the locale has made it take names of files for another code.

    Python does so by itself in the locales C and POSIX.
    """
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
