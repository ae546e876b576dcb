"""Templates: how a classname becomes the prompts that the text tower reads; `{}` stands for the classname."""

DEFAULT_TEMPLATES = ("a photo of a {}.",)
PLAIN = ("{}",)
STARTER = ("{}", "a {} icon", "an icon of a {}")
