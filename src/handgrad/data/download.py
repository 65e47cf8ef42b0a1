"""Fetches the original names list once, and keeps it in the user's cache folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from handgrad.errors import DownloadError

NAMES_URL = "https://raw.githubusercontent.com/karpathy/makemore/master/names.txt"
NAMES_SHA256 = "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"


def download_names(*, url: str = NAMES_URL, progress: bool = True) -> Path:
    """Return the path of the original ``names.txt``, downloaded if the cache folder does not hold it yet.

    The folder is the one that ``HANDGRAD_CACHE`` names, else the user's cache folder for handgrad. With
    ``progress``, a bar on stderr shows the download.

    Raises:
        DownloadError: the server cannot be reached or refuses, what came is not the original list, or the
            cache folder cannot be written.

    >>> download_names().name  # doctest: +SKIP
    'names.txt'
    """
    import pooch
    import requests

    folder = Path(os.environ.get("HANDGRAD_CACHE") or pooch.os_cache("handgrad"))
    downloader = pooch.HTTPDownloader(progressbar=progress)
    logger = pooch.get_logger()
    disabled = logger.disabled
    logger.disabled = True  # pooch announces each download; logging would cache a change of its level
    try:
        return Path(pooch.retrieve(url, NAMES_SHA256, fname="names.txt", path=folder, downloader=downloader))
    except requests.HTTPError as error:
        response: Any = error.response
        response.close()
        problem = f"the server answered {response.status_code} {response.reason}"
    except requests.RequestException as error:
        problem = f"the connection failed ({type(error).__name__})"
    except ValueError:
        problem = "what came is not the original list (its SHA-256 differs)"
    except OSError as error:
        raise DownloadError(
            f"the cache folder {folder} cannot be written ({error.strerror or 'permission denied'}); "
            "set HANDGRAD_CACHE to a folder that can"
        ) from None
    finally:
        logger.disabled = disabled
    raise DownloadError(
        f"{url} could not be downloaded: {problem}; try again later, or set HANDGRAD_WORDS to a list of your own"
    )
