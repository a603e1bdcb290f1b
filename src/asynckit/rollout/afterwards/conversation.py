"""Where the prompt ends and the response begins in a record's messages."""

from asynckit.rollout.record import Trajectory

Messages = list[dict[str, str]]


def split_messages(trajectory: Trajectory) -> tuple[Messages, Messages]:
    """The prompt's messages and the response's.

    The response begins with the first of the assistant's last ``turns`` messages: earlier ones are examples
    in the prompt. A sample that failed before it was answered has no response.
    """
    messages, turns = trajectory.messages, trajectory.turns
    spoken = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    unanswered = not trajectory.response_ids and (not messages or messages[-1]["role"] != "assistant")
    if unanswered or not spoken or turns < 1:
        return messages, []
    begin = spoken[-min(turns, len(spoken))]
    return messages[:begin], messages[begin:]
