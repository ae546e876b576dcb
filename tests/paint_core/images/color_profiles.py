"""Colour profiles for tests."""

from PIL import ImageCms


def profile(primaries: str = "wide") -> bytes:
    """A profile of plain curves.

    Args:
        primaries: `wide` exchanges red and green, which nobody overlooks; else it is that of sRGB.

    Returns:
        The profile.
    """
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    if primaries == "wide":
        red, green = data.index(b"rXYZ", 132), data.index(b"gXYZ", 132)
        data[red + 4 : red + 8], data[green + 4 : green + 8] = data[green + 4 : green + 8], data[red + 4 : red + 8]
    return bytes(data)
