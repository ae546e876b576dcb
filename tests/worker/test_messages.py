import io

import pytest

from worker.messages import Channel, Checkpoint, Failure, Message, Note, Progress, parse_message


@pytest.mark.parametrize(
    "message",
    [
        Progress("select", 0.25, None),
        Checkpoint({"step": 3, "state_sha256": "ab"}),
        Note("fine-tuning", data={"loss": 0.5}),
        Failure("empty_class", "line one\nline two"),
    ],
)
def test_what_the_trainer_says_is_what_the_supervisor_hears(message: Message) -> None:
    pipe = io.StringIO()
    Channel(pipe).send(message)
    (line,) = pipe.getvalue().splitlines()
    assert parse_message(line) == message
