"""Zip archives in memory."""

import io
import zipfile


def archive(members, compression=zipfile.ZIP_STORED):
    """Bytes of a zip archive with the given members, by name or ``ZipInfo``."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return file.getvalue()
