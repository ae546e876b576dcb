"""Template sets: how a classname becomes the prompts that the text tower reads."""

from types import MappingProxyType

DEFAULT_TEMPLATES = ("a photo of a {}.",)
PLAIN = ("{}",)
STARTER = ("{}", "a {} icon", "an icon of a {}")
DIGITS = ('a photo of the number: "{}".',)
SATELLITE = ("a centered satellite photo of {}.", "a centered satellite photo of a {}.")
TEXTURES = ("a photo of a {} texture.", "a photo of a {} pattern.", "a photo of a {} thing.", "a photo of a {} object.")

TEMPLATE_SETS = MappingProxyType(
    {
        "default": DEFAULT_TEMPLATES,
        "plain": PLAIN,
        "starter": STARTER,
        "digits": DIGITS,
        "satellite": SATELLITE,
        "textures": TEXTURES,
    }
)
"""Named template sets; `{}` stands for the classname."""
