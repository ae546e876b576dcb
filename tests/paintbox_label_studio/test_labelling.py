"""Which questions a labelling configuration asks about a whole image."""

import pytest

from paintbox_client import InputError
from paintbox_label_studio.labelling import Question, read_questions

CONFIG = """<View>
  <Image name="image" value="$photo"/>
  <Choices name="animal" toName="image" choice="single">
    <Choice value="cat"/><Choice value="dog" alias="hound"/>
  </Choices>
</View>"""


def test_choices_of_an_image_are_read_with_their_aliases() -> None:
    assert read_questions(CONFIG) == [Question("animal", "image", "photo", {"cat": "cat", "dog": "hound"})]


def test_nested_choices_and_several_questions_are_read() -> None:
    nested = CONFIG.replace('<Choice value="cat"/>', '<Choice value="pet"><Choice value="cat"/></Choice>')
    second = '<Choices name="quality" toName="image"><Choice value="sharp"/><Choice value="blurred"/></Choices></View>'
    found = read_questions(nested.replace("</View>", second))
    assert [list(each.choices) for each in found] == [["pet", "cat", "dog"], ["sharp", "blurred"]]


@pytest.mark.parametrize(
    "config",
    [
        "",
        "<View",
        "<View/>",
        CONFIG.replace('toName="image"', 'toName="text"'),
        CONFIG.replace("$photo", "photo"),
        CONFIG.replace('choice="single"', 'perRegion="true"'),
        '<View><Image name="image" value="$image"/><Choices name="c" toName="image" value="$options"/></View>',
        '<View><Image name="i" value="$i"/>'
        '<RectangleLabels name="l" toName="i"><Label value="a"/></RectangleLabels></View>',
        '<!DOCTYPE v [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>' + CONFIG,
        CONFIG + " " * (1 << 20),
    ],
)
def test_a_configuration_without_such_a_question_is_refused(config: str) -> None:
    with pytest.raises(InputError):
        read_questions(config)
